# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the daemon's settings keeps running containers, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nodes import daemon, registry
from nodes.images import busybox
from nodes.node import Node

NAME = "survivor"
KILL_MODE = "/etc/systemd/system/containerd.service.d/10-kill-mode.conf"
SETTING = {"settings": {"max_concurrent_downloads": 5}}


@dataclass(frozen=True)
class Container:
    """A container that ctr started; ``pid`` is on the node."""

    node: Node
    pid: int

    def runs(self) -> bool:
        """The same process, by the kernel; and if it is there, by the daemon as well."""
        command = self.node.exec("cat", f"/proc/{self.pid}/cmdline", check=False).stdout
        alive = command.startswith("/bin/busybox\0sleep\0")
        known = f"{NAME} {self.pid} RUNNING" in [" ".join(line.split()) for line in self.listed()]
        assert alive == known, (command, self.listed())
        return alive

    def listed(self) -> list[str]:
        return self.node.exec("ctr", "tasks", "ls").stdout.splitlines()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Reference of an image that runs, while its registry serves it."""
    with registry.serve(tmp_path_factory.mktemp("registry")) as server:
        yield server.push([busybox()], command=["/bin/busybox", "sleep", "100000"])


@pytest.fixture
def container(node: Node, image: str) -> Iterator[Container]:
    """A container on each version, whose daemon is as packaged."""
    yield from started(node, image)


@pytest.fixture
def trixie_container(trixie: Node, image: str) -> Iterator[Container]:
    """A container on 1.7.24."""
    yield from started(trixie, image)


def started(node: Node, image: str) -> Iterator[Container]:
    daemon.install(node)
    daemon.reset(node)
    remove(node)
    yield start(node, image)
    daemon.reset(node)
    remove(node)


def start(node: Node, image: str) -> Container:
    node.ssh(f"ctr images pull --plain-http {image}")
    # A node on cgroup v2 may have no cpu controller; without shares, runc doesn't look for it.
    node.ssh(f"ctr run --detach --cpu-shares 0 {image} {NAME}")
    running = Container(node, int(node.ssh(f"ctr tasks ls | awk '$1 == \"{NAME}\" {{ print $2 }}'").stdout))
    assert running.runs()
    return running


def remove(node: Node) -> None:
    """The container, its process and its image, whatever state they are in."""
    node.ssh(
        f"ctr tasks kill --signal SIGKILL {NAME}; ctr tasks rm --force {NAME}; ctr containers rm {NAME}; "
        "pkill -KILL -x busybox; ctr images ls -q | xargs -r ctr images rm --sync",
        check=False,
    )


def kill_mode(node: Node, mode: str) -> None:
    daemon.write(node, KILL_MODE, f"[Service]\nKillMode={mode}")
    node.ssh("systemctl daemon-reload")


@pytest.mark.smoke
def test_a_container_survives_a_change_of_settings(container: Container) -> None:
    node = container.node
    before = daemon.main_pid(node)
    settings = {"max_concurrent_downloads": 5, "snapshotter": "native"}
    done = node.module("containerd_config", {"settings": settings, "service_directives": {"LimitNOFILE": 9999}})
    assert not done.get("failed"), done
    assert done["restarted"]
    assert daemon.main_pid(node) != before
    assert container.runs()
    done = node.module("containerd_config", {"state": "absent"})
    assert done["restarted"] and not done.get("failed"), done
    assert container.runs()


@pytest.mark.parametrize("mode", ["control-group", "mixed"])
def test_a_restart_that_would_kill_is_refused_unless_forced(trixie_container: Container, mode: str) -> None:
    container, node = trixie_container, trixie_container.node
    kill_mode(node, mode)
    files, pid = daemon.etc_hashes(node), daemon.main_pid(node)
    for check in (True, False):
        refused = node.module("containerd_config", SETTING, check=check)
        assert refused["failed"]
        assert all(word in refused["msg"] for word in (f"KillMode={mode}", "restart to force", f"default/{NAME}")), refused["msg"]
    assert daemon.etc_hashes(node) == files
    assert daemon.main_pid(node) == pid
    assert container.runs()

    forced = node.module("containerd_config", {**SETTING, "restart": "force"})
    assert forced["restarted"] and not forced.get("failed"), forced
    assert daemon.main_pid(node) != pid
    assert daemon.is_well(node)
    assert not container.runs()


def test_the_kill_mode_can_be_mended_by_the_same_run(trixie_container: Container) -> None:
    container, node = trixie_container, trixie_container.node
    kill_mode(node, "control-group")
    done = node.module("containerd_config", {**SETTING, "service_directives": {"KillMode": "process"}})
    assert done["restarted"] and not done.get("failed"), done
    assert container.runs()


def test_a_kill_mode_that_another_drop_in_overrides_kills_nothing(trixie_container: Container) -> None:
    container, node = trixie_container, trixie_container.node
    kill_mode(node, "control-group")
    node.ssh(f"mv {KILL_MODE} {KILL_MODE.replace('10-', '99-')}; systemctl daemon-reload")
    files, pid = daemon.etc_hashes(node), daemon.main_pid(node)
    refused = node.module("containerd_config", {**SETTING, "service_directives": {"KillMode": "process"}})
    assert refused["failed"] and not refused["rolled_back"] and not refused["restarted"]
    assert "KillMode" in refused["msg"] and KILL_MODE.replace("10-", "99-") in refused["msg"]
    assert {line.split()[0] for line in daemon.etc_hashes(node)} == {line.split()[0] for line in files}
    assert daemon.main_pid(node) == pid
    assert container.runs()


def test_nothing_is_refused_where_nothing_runs(trixie: Node) -> None:
    remove(trixie)
    kill_mode(trixie, "control-group")
    done = trixie.module("containerd_config", SETTING)
    assert done["restarted"] and not done.get("failed"), done


def test_nothing_is_refused_where_nothing_has_to_be_restarted(trixie: Node, image: str) -> None:
    remove(trixie)
    kill_mode(trixie, "control-group")
    assert trixie.module("containerd_config", SETTING)["restarted"]
    container = start(trixie, image)
    again = trixie.module("containerd_config", SETTING)
    assert not again.get("failed"), again
    assert not again["changed"]
    assert container.runs()
    daemon.reset(trixie)
    remove(trixie)


@pytest.mark.parametrize(("mode", "survives"), [("process", True), ("mixed", False), ("control-group", False)])
def test_what_systemd_does_to_a_container_at_a_restart(trixie_container: Container, mode: str, survives: bool) -> None:
    """The collection isn't involved: this is what it takes for granted about kill modes."""
    kill_mode(trixie_container.node, mode)
    trixie_container.node.ssh("systemctl restart containerd")
    assert trixie_container.runs() is survives


def test_a_unit_that_can_not_be_restarted_is_refused(trixie_container: Container) -> None:
    """With KillMode=none the old daemon stays, and a new one waits for its database for good."""
    container, node = trixie_container, trixie_container.node
    kill_mode(node, "none\nTimeoutStartSec=3")
    pid = daemon.main_pid(node)
    for restart in ("auto", "force"):
        refused = node.module("containerd_config", {**SETTING, "restart": restart})
        assert refused["failed"] and "KillMode=none" in refused["msg"], refused
    assert daemon.main_pid(node) == pid
    assert daemon.is_well(node)
    assert container.runs()

    restarted = node.ssh("systemctl restart containerd", check=False)
    old = node.exec("cat", f"/proc/{pid}/comm", check=False).stdout.strip()
    node.ssh("systemctl stop containerd; pkill -KILL -x containerd", check=False)
    assert restarted.returncode != 0
    assert old == "containerd"


def test_another_root_would_lose_sight_of_the_container(trixie_container: Container) -> None:
    container, node = trixie_container, trixie_container.node
    files, pid = daemon.etc_hashes(node), daemon.main_pid(node)
    for check in (True, False):
        refused = node.module("containerd_config", {"settings": {"root": "/var/lib/containerd/other"}}, check=check)
        assert refused["failed"]
        assert all(word in refused["msg"] for word in ("root", "/var/lib/containerd/other", f"default/{NAME}")), refused["msg"]
    assert daemon.etc_hashes(node) == files
    assert daemon.main_pid(node) == pid
    assert container.runs()
