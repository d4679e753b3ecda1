# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    Kubelet,
    denied_addresses,
    harmful_directives,
    has_conditions,
    ignored_lines,
    parse_filters,
    parse_groups,
    parse_keys,
    parse_limit,
    parse_number,
    parse_propagation,
    parse_status,
    parse_tasks,
    views_of,
)

OWN = "/etc/systemd/system/containerd.service.d/60-slipway.conf"
THEIRS = "/etc/systemd/system/containerd.service.d/http-proxy.conf"


def unit(*drop_ins: tuple[str, str]) -> list[Source]:
    return [
        Source("/usr/lib/systemd/system/containerd.service", "[Service]\nLimitNOFILE=7000\n"),
        *(Source(*one) for one in drop_ins),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "SecureBits=keep-caps noroot",
        "PrivateDevices=yes",
        "PrivateNetwork=true",
        "ProtectControlGroups=1",
        "ProtectControlGroups=strict",
        "ProtectHostname=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "RestrictNamespaces=user",
        "RestrictNamespaces=~mnt",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictAddressFamilies=~AF_NETLINK",
        "RestrictAddressFamilies=none",
    ],
)
def test_directives_with_which_containers_do_not_work_are_named(line: str) -> None:
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"))) == [f"{line} in {THEIRS}"]
    key = line.partition("=")[0]
    empty, off = (("/etc/z.conf", f"[Service]\n{key}={value}\n") for value in ("", "no"))
    # systemd 257 ignores an empty value of a switch.
    is_list = key in ("RestrictAddressFamilies", "RestrictNamespaces", "SecureBits")
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"), empty)) == ([] if is_list else [f"{line} in {THEIRS}"])
    undone = empty if is_list else off
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"), undone)) == []


@pytest.mark.parametrize(
    "line",
    [
        "PrivateDevices=no",
        "RestrictNamespaces=~user time",
        "RestrictNamespaces=cgroup ipc mnt net pid uts",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6",
        "RestrictAddressFamilies=~AF_PACKET",
        # Lines are merged.
        "RestrictAddressFamilies=AF_UNIX AF_INET\nRestrictAddressFamilies=AF_NETLINK",
        "RestrictAddressFamilies=~AF_PACKET\nRestrictAddressFamilies=~AF_CAN",
        "RestrictNamespaces=~mnt\nRestrictNamespaces=mnt",
    ],
)
def test_directives_with_which_containers_work_are_not_named(line: str) -> None:
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"))[1:]) == []


def test_the_capabilities_and_limits_of_a_process_are_read() -> None:
    assert parse_status("Name:\tcontainerd\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n") == (0xA80425FB, True)
    limits = (
        "Limit  Soft Limit  Hard Limit  Units\nMax processes  50  60  processes\nMax open files  unlimited  unlimited  files\n"
    )
    assert (parse_limit(limits, "Max processes"), parse_limit(limits, "Max open files")) == (50, None)


@pytest.mark.parametrize(
    ("own", "first", "propagation"),
    [
        ("shared:1 ", "shared:1 ", (True, True)),
        # systemd gives a unit with a namespace of its own another peer group, which gets the node's mounts.
        ("shared:5 master:1 ", "shared:1 ", (True, False)),
        ("master:1 ", "shared:1 ", (True, False)),
        ("", "shared:1 ", (False, False)),
        ("shared:5 ", "shared:1 ", (False, False)),
        ("", "", (True, True)),
    ],
)
def test_the_propagation_of_mounts_is_read(own: str, first: str, propagation: tuple[bool, bool]) -> None:
    before, after = "20 1 0:2 / / rw shared:9 - rootfs rootfs rw\n", "22 21 0:5 / /proc rw - proc proc rw\n"
    texts = [f"{before}21 20 8:1 / / rw {tags}- ext4 /dev/sda1 rw\n{after}" for tags in (own, first)]
    assert parse_propagation(*texts) == propagation
    assert parse_propagation("", "") == (True, True)


@pytest.mark.parametrize(
    ("status", "filters"),
    [
        ("Seccomp:\t0\nSeccomp_filters:\t0\n", 0),
        ("Seccomp:\t2\nSeccomp_filters:\t3\n", 3),
        ("Seccomp:\t2\n", 1),
        ("Seccomp:\t0\n", 0),
        ("", 0),
    ],
)
def test_the_filters_of_system_calls_are_counted(status: str, filters: int) -> None:
    assert parse_filters(status) == filters


@pytest.mark.parametrize(("text", "number"), [("40\n", 40), ("max\n", None), ("9223372036854771712\n", None), (None, None)])
def test_the_limit_of_a_control_group_is_read(text: str | None, number: int | None) -> None:
    assert parse_number(text) == number


def test_the_control_groups_of_a_process_are_read() -> None:
    groups = parse_groups("3:cpu,cpuacct:/a\n2:pids:/system.slice/b\n0::/c:d\n")
    assert groups == {"cpu": "/a", "cpuacct": "/a", "pids": "/system.slice/b", "": "/c:d"}


def test_the_tasks_and_keys_that_are_left_are_counted() -> None:
    assert parse_tasks("2.79 2.03 2.67 2/152 21654\n", [32768, 400]) == 248
    assert (parse_tasks("", [400]), parse_tasks("2.79 2.03 2.67 2/152 21654\n", [])) == (None, None)
    users = "    0:    29 28/28 23/1000000 531/25000000\n  997:     2 2/2 2/200 18/20000\n"
    assert (parse_keys(users), parse_keys("")) == (999977, None)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("TemporaryFileSystem=/etc/containerd", True),
        ("BindReadOnlyPaths=/usr:/etc", True),
        ("InaccessiblePaths=-/etc/containerd/config.toml", True),
        ("BindPaths=/etc/other", False),
        ("ReadWritePaths=/etc", False),
    ],
)
def test_the_directive_that_hides_a_file_is_named(line: str, named: bool) -> None:
    found = views_of(unit((THEIRS, f"[Service]\n{line}\n")), ["/etc/containerd/config.toml"])
    assert found == (f"{line} in {THEIRS}" if named else "")


@pytest.mark.parametrize(
    ("lines", "denied"),
    [
        ("IPAddressDeny=any", True),
        ("IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=localhost", True),
        ("IPAddressDeny=any\nIPAddressAllow=127.0.0.0/8", True),
        ("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8", False),
        ("IPAddressDeny=any\nIPAddressDeny=", False),
        ("IPAddressDeny=192.0.2.0/24", False),
        ("IPAddressAllow=localhost", False),
    ],
)
def test_a_daemon_that_reaches_no_registry_is_noticed(lines: str, denied: bool) -> None:
    found = denied_addresses(unit((THEIRS, f"[Service]\n{lines}\n")))
    assert found.endswith(f"in {THEIRS}") if denied else not found


def test_conditions_of_a_unit_are_noticed() -> None:
    assert has_conditions(unit((THEIRS, "[Unit]\nConditionPathExists=/a\n")))
    assert not has_conditions(unit((THEIRS, "[Unit]\nAfter=a.service\n[Service]\nConditionPathExists=/a\n")))


def test_only_lines_that_an_administrator_wrote_are_reported_as_ignored() -> None:
    said = f"""{OWN}:2: Failed to parse LimitNOFILE=unlimited, ignoring: Invalid argument
{OWN}:3: Unknown key 'Foo' in section [Service], ignoring.
/lib/systemd/system/containerd.service:5: Unknown key 'Old' in section [Service], ignoring.
{OWN}:5: Unknown section 'Servise'. Ignoring.
/usr/lib/systemd/system/other.service:9: Unknown key 'Bar' in section [Service], ignoring.
containerd.service: Command 'man containerd(8)' failed with code 16
"""
    assert [line.partition(": ")[0] for line in ignored_lines(said, [OWN, "/lib/systemd/system/containerd.service"])] == [
        f"{OWN}:2",
        f"{OWN}:3",
        f"{OWN}:5",
    ]


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("kind: KubeletConfiguration\ncgroupDriver: systemd\n", "systemd"),
        ('cgroupDriver: "cgroupfs"  # as ours\n', "cgroupfs"),
        ("# cgroupDriver: systemd\n", None),
        ("", None),
    ],
)
def test_the_kubelets_cgroup_driver_is_read(text: str, driver: str | None) -> None:
    assert Kubelet.parse(text).cgroup_driver == driver


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("kind: KubeletConfiguration\n", "/var/log/pods"),
        ("podLogsDir: /srv/logs\n", "/srv/logs"),
        ('cgroupDriver: systemd\npodLogsDir: "/srv/logs"  # large\n', "/srv/logs"),
        ("podLogsDir:\n", "/var/log/pods"),
    ],
)
def test_the_directory_of_the_kubelets_logs_is_read(text: str, directory: str) -> None:
    assert Kubelet.parse(text).log_dir == directory
