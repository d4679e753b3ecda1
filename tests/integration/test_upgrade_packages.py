# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades with packages, and between packages and archives: containers keep running, and dpkg's database is intact.

The node of Debian 13 gets sid's source. What apt prefers is set by a pin, as an administrator does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from integration.test_upgrade import MODULE, SETTINGS, STATE, THEIRS, UNIT, cleaned, container, staged, to
from integration.test_upgrade import version as full_version

from nodes import daemon
from nodes.images import busybox
from nodes.node import Node
from nodes.payload import command, run_module
from nodes.registry import Registry

SOURCES = ("/etc/apt/sources.list.d/tests.list", "/etc/apt/preferences.d/tests", "/srv/docker")
OLD, NEW, DOCKERS = "1.7.24", "2.1.9", "2.1.9-99docker"
BY_PACKAGE = {**SETTINGS, "packages": ["containerd", "runc"], "probe": False}


@pytest.fixture
def node(trixie: Node, source: Registry) -> Iterator[Node]:
    """1.7.24 as packaged, with an administrator's configuration and a running container. apt prefers sid's packages."""
    cleaned(trixie)
    before = packages(trixie)
    daemon.reset(trixie, THEIRS)
    preferred(trixie, "containerd runc", "n=sid")
    image = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    trixie.ssh(f"ctr images pull --plain-http {image} && ctr run --detach --cpu-shares 0 {image} survivor")
    yield trixie
    cleaned(trixie)
    trixie.ssh(
        f"rm -rf {' '.join(SOURCES)}; apt-get -qq update; apt-mark unhold containerd; dpkg --purge containerd.io", check=False
    )
    if packages(trixie) != before:
        again = "install --allow-downgrades --no-install-recommends --reinstall containerd/trixie runc/trixie"
        trixie.ssh(f"DEBIAN_FRONTEND=noninteractive apt-get -qq --yes {again} >/dev/null 2>&1; systemctl daemon-reload")
    daemon.reset(trixie)


def preferred(node: Node, names: str, pin: str) -> None:
    """Add sid's source, and make apt prefer packages by a pin."""
    daemon.write(
        node,
        "/etc/apt/preferences.d/tests",
        f"Package: *\nPin: release n=sid\nPin-Priority: 100\n\nPackage: {names}\nPin: release {pin}\nPin-Priority: 990\n",
    )
    node.ssh(f"sed -n 's/ trixie / sid /p' /etc/apt/sources.list > {SOURCES[0]}; apt-get -qq update")


def unpacked(node: Node, package: str) -> str:
    """Unpack apt's candidate in another directory; return the path of its containerd."""
    there = "/root/candidate"
    node.ssh(
        f"rm -rf {there}; mkdir {there}; cd {there}; apt-get -qq download {package} 2>/dev/null; dpkg --extract *.deb .; rm *.deb"
    )
    return f"{there}/usr/bin/containerd"


def upgraded(node: Node, **options: Any) -> dict[str, Any]:
    """Run the module, and check that it changes the node."""
    done = run_module(node, MODULE, options)
    assert not done.get("failed") and done["changed"], done.get("msg", done)
    return done


def refusal(node: Node, **options: Any) -> str:
    """Return the message with which the module refuses, also in check mode. No package changes."""
    before = packages(node)
    checked, done = (run_module(node, MODULE, options, check=check) for check in (True, False))
    assert checked.get("failed") and done.get("failed") and checked["msg"] == done["msg"], (checked, done)
    assert packages(node) == before and not node.ssh(f"ls {STATE}/generations", check=False).stdout
    return str(done["msg"])


def packages(node: Node) -> str:
    return node.ssh("dpkg-query --show --showformat='${db:Status-Abbrev} ${Package} ${Version}\n' '*containerd*' runc").stdout


def version(node: Node) -> str:
    """The version of the running daemon, without Debian's suffix."""
    return re.split("[+~]", full_version(node))[0]


def is_whole(node: Node) -> bool:
    """Whether dpkg's database and the installed files agree; the tests write the configuration themselves."""
    said = node.ssh(
        "dpkg --audit | grep -v md5sums; dpkg --verify containerd runc containerd.io 2>/dev/null | grep -v ' /etc/'", check=False
    )
    return "/" not in said.stdout


def docker_source(node: Node) -> None:
    """A source with a package as Docker's: containerd and runc in one, with a configuration file that disables CRI."""
    preferred(node, "containerd.io", "l=tests")
    relations = "".join(f"{key}: containerd, runc\n" for key in ("Conflicts", "Replaces", "Provides"))
    control = f"Package: containerd.io\nVersion: {DOCKERS}\nArchitecture: amd64\nMaintainer: tests <root@localhost>\n"
    control += "Description: stands in\n"
    node.ssh(
        "rm -rf /srv/docker; mkdir -p /srv/docker/tree; cd /srv/docker; "
        "apt-get -qq download containerd/sid runc/sid 2>/dev/null; for one in *.deb; do dpkg --extract $one tree; done; "
        "dpkg --control containerd_*.deb tree/DEBIAN; rm *.deb tree/DEBIAN/md5sums; "
        """echo 'disabled_plugins = ["cri"]' > tree/etc/containerd/config.toml"""
    )
    daemon.write(node, "/srv/docker/tree/DEBIAN/control", control + relations.strip())
    index = "echo Filename: ./containerd.io.deb; stat --printf 'Size: %s\\n' containerd.io.deb; "
    index += "echo SHA256: $(sha256sum < containerd.io.deb | cut -c 1-64)"
    node.ssh(
        "cd /srv/docker && dpkg-deb -Znone --root-owner-group --build tree containerd.io.deb >/dev/null && rm -r tree && "
        f"(dpkg-deb --field containerd.io.deb | grep .; {index}) > Packages && printf 'Label: tests\\n' > Release && "
        f"echo 'deb [trusted=yes] file:/srv/docker ./' >> {SOURCES[0]} && apt-get -qq update"
    )


def starts(node: Node) -> int:
    """The number of starts of the daemon by systemd."""
    journal = "journalctl --sync; journalctl --unit containerd --output cat"
    return int(node.ssh(f"{journal} | grep -c '^Starting '", check=False).stdout)


def test_the_playbook_upgrades_to_the_version_that_apt_prefers(node: Node) -> None:
    node.ssh("apt-mark hold containerd")
    running, before, config = container(node), packages(node), daemon.read(node, daemon.ROOT)
    variables = {"upgrade_soak": 1, "containerd_probe": False}
    predicted = node.play("slipway.node.upgrade", variables, check=True)
    assert predicted["stats"][node.name]["failures"] == 0, predicted
    assert packages(node) == before and not node.ssh("ls /usr/local/lib/slipway-check", check=False).stdout
    played = node.play("slipway.node.upgrade", variables)
    assert played["stats"][node.name]["failures"] == 0, played
    assert (version(node), container(node), is_whole(node)) == (NEW, running, True)
    assert not node.ssh("ls /usr/local/lib/slipway-check", check=False).stdout

    started = starts(node)
    back = upgraded(node, state="previous", probe=False)
    # The maintainer scripts have not started it again.
    assert back["to_version"] == OLD and starts(node) == started + 1
    assert (version(node), container(node), is_whole(node)) == (OLD, running, True)
    assert packages(node) == before
    assert node.ssh("apt-mark showhold").stdout.split() == ["containerd"]
    assert daemon.read(node, daemon.ROOT) == config


def test_an_archive_takes_the_place_of_a_package_and_gives_it_back(node: Node) -> None:
    before = packages(node)
    upgraded(node, **to(staged(node, "2.3.7"), probe=False))
    assert version(node) == "2.3.7" and packages(node) == before
    running = container(node)
    assert node.ssh("command -v containerd").stdout.strip() == "/usr/local/bin/containerd"

    done = upgraded(node, **BY_PACKAGE, to_binary=unpacked(node, "containerd"))
    assert (done["version"], done["to_version"], version(node)) == ("2.3.7", NEW, NEW)
    assert container(node) == running and is_whole(node)
    assert node.ssh("command -v containerd; command -v runc; command -v containerd-shim-runc-v2").stdout.split() == [
        "/usr/bin/containerd",
        "/usr/sbin/runc",
        "/usr/bin/containerd-shim-runc-v2",
    ]
    assert daemon.read(node, UNIT) is None
    # A generation names this version directory.
    assert node.ssh("ls -d /usr/local/lib/slipway/containerd/2.3.7-*").stdout

    upgraded(node, state="previous", probe=False)
    assert (version(node), packages(node), container(node)) == ("2.3.7", before, running)
    assert is_whole(node)


def test_a_package_that_is_named_is_replaced_and_comes_back(node: Node) -> None:
    docker_source(node)
    before, running, config = packages(node), container(node), daemon.read(node, daemon.ROOT)
    options = {**SETTINGS, "packages": ["containerd.io"], "to_binary": unpacked(node, "containerd.io"), "probe": False}
    refused = refusal(node, **options)
    assert "apt would remove containerd, runc: name them in replace_packages" in refused
    named = {**options, "replace_packages": ["containerd", "runc"]}
    upgraded(node, **named)
    assert version(node) == NEW and container(node) == running
    assert f"ii  containerd.io {DOCKERS}" in packages(node) and is_whole(node)
    # The configuration file of Docker's package disables CRI.
    assert "max_recv_message_size = 33554432" in str(daemon.read(node, daemon.ROOT)) and daemon.is_well(node)
    assert not run_module(node, MODULE, named)["changed"]

    upgraded(node, state="previous", probe=False)
    assert (version(node), container(node), is_whole(node)) == (OLD, running, True)
    assert [line for line in packages(node).splitlines() if line[:2] == "ii"] == before.splitlines()
    assert daemon.read(node, daemon.ROOT) == config


def test_a_version_that_no_source_has_is_packed_from_its_files_or_refused(node: Node) -> None:
    node.ssh(
        "rm -rf /root/local*; mkdir /root/local; cd /root/local; apt-get -qq download containerd/trixie 2>/dev/null; "
        "dpkg-deb --raw-extract *.deb tree; sed -i 's/^Version: .*/&+local1/' tree/DEBIAN/control; "
        "dpkg-deb -Znone --build tree ../local.deb >/dev/null; rm -r /root/local; dpkg --install /root/local.deb >/dev/null"
    )
    before, options = packages(node), {**BY_PACKAGE, "to_binary": unpacked(node, "containerd")}
    refused = refusal(node, **options)
    assert all(word in refused for word in ("+local1 can't be kept", "install dpkg-repack")), refused
    node.ssh("apt-get -qq --yes install --no-install-recommends dpkg-repack >/dev/null 2>&1")
    try:
        upgraded(node, **options)
        upgraded(node, state="previous", probe=False)
        assert (version(node), packages(node), is_whole(node)) == (OLD, before, True)
    finally:
        node.ssh("apt-get -qq --yes autoremove --purge dpkg-repack >/dev/null 2>&1")


def test_what_a_killed_run_left_of_packages_is_taken_back(node: Node) -> None:
    before, running = packages(node), container(node)
    options = {**BY_PACKAGE, "to_binary": unpacked(node, "containerd")}
    program = " ".join(f"'{word}'" for word in command(MODULE, options))
    daemon.write(node, "/root/run.sh", program)
    node.ssh("setsid sh /root/run.sh >/dev/null 2>&1 </dev/null &")
    deadline = time.monotonic() + 300
    # dpkg's journal names a package that is half installed. dpkg waits, so that neither it nor the module goes on meanwhile.
    halted = "grep -qs half-installed /var/lib/dpkg/updates/* && pkill -STOP -x dpkg"
    ended = "pkill -9 -f [c]ontainerd_upgrade; pkill -9 -x dpkg; while pgrep -x 'dpkg|apt-get'; do sleep 0.1; done"
    broken = f"{halted} && {{ {ended}; exit 0; }}"
    while node.ssh(f"for i in $(seq 100); do {broken}; sleep 0.02; done; exit 1", check=False).returncode != 0:
        assert time.monotonic() < deadline
    assert packages(node) != before
    done = run_module(node, MODULE, {"state": "recovered"})
    assert done["recovered"]["step"] == "switching", done
    assert (packages(node), version(node), container(node), is_whole(node)) == (before, OLD, running, True)
