# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    Kubelet,
    cni_plugins,
    directives,
    environment_file,
    harmful_directives,
    ignored_lines,
    overridden_directives,
    parse_hosts,
)

OWN = "/etc/systemd/system/containerd.service.d/60-slipway.conf"
THEIRS = "/etc/systemd/system/containerd.service.d/http-proxy.conf"


def unit(*drop_ins: tuple[str, str]) -> list[Source]:
    return [
        Source("/usr/lib/systemd/system/containerd.service", "[Service]\nLimitNOFILE=7000\n"),
        *(Source(*one) for one in drop_ins),
    ]


def test_a_later_drop_in_that_wins_is_named() -> None:
    files = unit((OWN, "[Service]\nLimitNOFILE=5\nTasksMax=9\n"), (THEIRS, "[Service]\nLimitNOFILE=6\nTasksMax=9\n"))
    assert overridden_directives(files, OWN) == [f"LimitNOFILE=5 of {OWN} is overridden by LimitNOFILE=6 in {THEIRS}"]


def test_earlier_files_and_lists_override_nothing() -> None:
    proxy = (THEIRS, '[Service]\nEnvironment="HTTPS_PROXY=http://other"\n')
    assert overridden_directives(unit((OWN, '[Service]\nLimitNOFILE=5\nEnvironment="A=1"\n'), proxy), OWN) == []
    assert overridden_directives(unit(proxy), OWN) == []


@pytest.mark.parametrize(
    "line",
    [
        "PrivateDevices=yes",
        "PrivateNetwork=true",
        "ProtectControlGroups=1",
        "RestrictNamespaces=yes",
        "LimitNOFILE=64",
        "LimitNOFILE=64:524288",
        "CapabilityBoundingSet=CAP_NET_ADMIN",
        "CapabilityBoundingSet=~CAP_SYS_ADMIN",
    ],
)
def test_directives_with_which_containers_do_not_work_are_named(line: str) -> None:
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"))) == [f"{line} in {THEIRS}"]
    key = line.partition("=")[0]
    undone = ("/etc/z.conf", f"[Service]\n{key}={'infinity' if key == 'LimitNOFILE' else ''}\n")
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"), undone)) == []


@pytest.mark.parametrize(
    "line",
    [
        "PrivateDevices=no",
        "LimitNOFILE=infinity",
        "LimitNOFILE=1048576",
        "CapabilityBoundingSet=~CAP_SYS_TIME",
        "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
    ],
)
def test_directives_with_which_containers_work_are_not_named(line: str) -> None:
    assert harmful_directives(unit((THEIRS, f"[Service]\n{line}\n"))[1:]) == []


def test_the_file_that_sets_a_variable_is_named() -> None:
    theirs = (THEIRS, '[Service]\nEnvironment="NO_PROXY=a" "HTTPS_PROXY=http://other"\n')
    files = unit((OWN, '[Service]\nEnvironment="HTTPS_PROXY=http://ours"\n'), theirs)
    assert environment_file(files, OWN, ["HTTPS_PROXY"]) == THEIRS
    assert environment_file(files, OWN, ["HTTP_PROXY"]) is None
    assert environment_file(unit(theirs), OWN, ["HTTPS_PROXY"]) is None


def test_the_last_assignment_counts() -> None:
    last = ("/etc/z.conf", "[Service]\nLimitNOFILE=5\n")
    assert (
        overridden_directives(unit((OWN, "[Service]\nLimitNOFILE=5\n"), (THEIRS, "[Service]\nLimitNOFILE=6\n"), last), OWN) == []
    )


def test_only_the_section_of_the_service_is_read() -> None:
    text = "[Unit]\nAfter=a\n[Service]\n# Type=simple\nExecStart=a \\\n  b\nLimitNOFILE = 5\n"
    assert directives(text) == [("ExecStart", "a    b"), ("LimitNOFILE", "5")]


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


def test_the_plugins_of_a_cni_configuration_are_read() -> None:
    pods = '{"plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap", "ipam": {}}]}'
    assert cni_plugins(pods) == ("bridge", "host-local", "portmap")
    assert cni_plugins('{"type": "ptp"}') == ("ptp",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("", "Expecting"),
        ("[]", "no object"),
        ('{"plugins": []}', "no list of plugins"),
        ('{"plugins": [1]}', "no list of plugins"),
        ('{"plugins": [{}]}', "no type"),
        ("{}", "no type"),
    ],
)
def test_a_cni_configuration_that_cri_does_not_take_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cni_plugins(text)


def test_the_files_of_a_registry_are_read() -> None:
    text = """
ca = "ca.crt"
[host."https://mirror.example"]
ca = ["/etc/ssl/one.crt", "two.crt"]
client = [["c.crt", "c.key"]]
[host."https://mirror.example".header]
Authorization = "Basic eA=="
"""
    found = parse_hosts(text, "/d", before_2=False)
    assert found.files == ("/d/ca.crt", "/etc/ssl/one.crt", "/d/two.crt", "/d/c.crt", "/d/c.key")
    assert (found.keys, found.credentials, found.problems) == (("/d/c.crt", "/d/c.key"), True, ())


def test_a_mirror_with_an_ipv6_address_is_lost_on_1_x_alone() -> None:
    text = '[host."https://[::1]:5000"]\n'
    assert "IPv6" in parse_hosts(text, "/d", before_2=True).problems[0]
    assert parse_hosts(text, "/d", before_2=False).problems == ()


@pytest.mark.parametrize("text", ['capabilities = ["fetch"]', "ca = 1", '[host."https://a"]\nclient = true'])
def test_values_that_containerd_refuses_are_problems(text: str) -> None:
    assert parse_hosts(text, "/d", before_2=False).problems


def test_a_file_without_a_table_of_a_host_is_lost_on_1_x_alone() -> None:
    text = 'server = "https://a.example"\n'
    assert "no table of a host" in parse_hosts(text, "/d", before_2=True).problems[0]
    assert parse_hosts(text, "/d", before_2=False).problems == ()
    assert parse_hosts("# nothing yet\n", "/d", before_2=True).problems == ()


def test_headers_without_secrets_are_no_credentials() -> None:
    assert not parse_hosts('[header]\nUser-Agent = "a"\n', "/d", before_2=False).credentials


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
