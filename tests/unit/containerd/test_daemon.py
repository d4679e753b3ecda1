# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin, parse_details, parse_plugins
from ansible_collections.slipway.node.plugins.module_utils.core.process import Process
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]

CRI = Plugin("io.containerd.grpc.v1", "cri", "ok")
OVERLAYFS = Plugin("io.containerd.snapshotter.v1", "overlayfs", "ok")
WELL = Daemon(
    unit=UnitStatus(True, "active", "running", 7, 0, "process", "enabled", (), False, "success"),
    process=Process(7, 1000.0, ("/usr/bin/containerd",), "/usr/bin/containerd"),
    plugins=(CRI, OVERLAYFS),
    binary="/usr/bin/containerd",
)


@pytest.mark.parametrize(
    ("version", "pid", "file"),
    [
        ("1.6.20", 185, "/lib/systemd/system/containerd.service"),
        ("1.7.24", 275, "/usr/lib/systemd/system/containerd.service"),
        ("2.1.9", 282, "/usr/lib/systemd/system/containerd.service"),
    ],
)
def test_reads_what_systemctl_shows_of_a_running_unit(recorded: Recorded, version: str, pid: int, file: str) -> None:
    status = UnitStatus.parse(recorded(version, "systemctl-show.txt"))
    assert status == UnitStatus(
        loaded=True,
        active="active",
        sub="running",
        pid=pid,
        restarts=0,
        kill_mode="process",
        enabled="enabled",
        files=(file,),
        needs_reload=False,
        result="success",
    )
    assert status.running


@pytest.mark.parametrize(
    ("version", "types"),
    [
        ("1.7.24", ["io.containerd.grpc.v1"]),
        ("2.3.7", ["io.containerd.grpc.v1", "io.containerd.cri.v1"]),
    ],
)
def test_details_of_plugins_with_the_same_id_are_together(recorded: Recorded, version: str, types: list[str]) -> None:
    details = parse_details(recorded(version, "plugins-detailed.txt"))
    assert re.findall(r"^Type: +(.*)", details["images"], re.MULTILINE) == types


def test_no_details_are_of_no_plugin() -> None:
    assert parse_details("") == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_what_systemctl_shows_of_no_unit(recorded: Recorded, version: str) -> None:
    status = UnitStatus.parse(recorded(version, "systemctl-show-missing.txt"))
    assert (status.loaded, status.active, status.pid, status.enabled, status.files) == (False, "inactive", 0, "", ())
    assert not status.running


def test_reads_drop_ins_and_crashes() -> None:
    status = UnitStatus.parse(
        "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=11\nResult=exit-code\n"
        "FragmentPath=/a.service\nDropInPaths=/etc/b.conf /etc/c.conf\nNeedDaemonReload=yes\n"
    )
    assert status.files == ("/a.service", "/etc/b.conf", "/etc/c.conf")
    assert (status.running, status.restarts, status.needs_reload) == (False, 11, True)


def test_the_start_is_in_the_clock_of_then() -> None:
    assert UnitStatus.parse("ExecMainStartTimestamp=Sun 2026-11-29 15:36:38 UTC\n").started == 1795966598
    assert UnitStatus.parse("ExecMainStartTimestamp=n/a\n").started is None


def test_nothing_shown_is_nothing_known() -> None:
    status = UnitStatus.parse("")
    assert (status.loaded, status.active, status.running) == (False, "unknown", False)


@pytest.mark.parametrize(
    ("version", "count", "snapshotters"),
    [
        ("1.6.20", 38, {"aufs": "skip", "btrfs": "skip", "devmapper": "error", "native": "ok", "overlayfs": "ok", "zfs": "skip"}),
        (
            "1.7.24",
            52,
            {
                "aufs": "skip",
                "blockfile": "skip",
                "btrfs": "skip",
                "devmapper": "skip",
                "native": "ok",
                "overlayfs": "ok",
                "zfs": "skip",
            },
        ),
        (
            "2.1.9",
            56,
            {"blockfile": "skip", "btrfs": "skip", "devmapper": "skip", "erofs": "ok", "native": "ok", "overlayfs": "ok"},
        ),
    ],
)
def test_reads_what_ctr_lists(recorded: Recorded, version: str, count: int, snapshotters: dict[str, str]) -> None:
    plugins = parse_plugins(recorded(version, "plugins.txt"))
    assert len(plugins) == count
    assert {one.id: one.status for one in plugins if one.is_snapshotter} == snapshotters
    cri = [f"{one.type}.{one.id}" for one in plugins if one.is_cri]
    split = ["io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
    assert cri == split * (version == "2.1.9") + ["io.containerd.grpc.v1.cri"]
    daemon = replace(WELL, plugins=plugins)
    assert daemon.plugin_problem(["overlayfs", "native"], cri=True) is None
    problem = daemon.plugin_problem(["devmapper"], cri=True)
    assert problem == f"the snapshotter devmapper is in state {snapshotters['devmapper']}"
    assert daemon.plugin_problem(["lazy"], cri=True) == "the snapshotter lazy is not loaded"


def test_an_empty_list_has_no_plugins() -> None:
    assert parse_plugins("") == ()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("containerd",), "/etc/containerd/config.toml"),
        (("containerd", "--config", "/a.toml"), "/a.toml"),
        (("containerd", "--config=/a.toml"), "/a.toml"),
        (("containerd", "-c", "/a.toml", "--log-level", "debug"), "/a.toml"),
        (("containerd", "-config=/a.toml"), "/a.toml"),
        (("containerd", "--log-level", "debug"), "/etc/containerd/config.toml"),
        (("containerd", "--config"), "/etc/containerd/config.toml"),
    ],
)
def test_the_file_that_a_daemon_was_started_with(arguments: tuple[str, ...], file: str) -> None:
    assert replace(WELL, process=Process(7, 0.0, arguments, None)).reads() == file


def test_a_daemon_that_is_well_needs_no_restart() -> None:
    assert WELL.liveness_problem() is None
    assert WELL.restart_reason(["overlayfs"], cri=True) is None


STOPPED = replace(WELL.unit, active="activating", sub="auto-restart", pid=0, result="exit-code")


@pytest.mark.parametrize(
    ("daemon", "reason"),
    [
        (replace(WELL, unit=STOPPED), r"the unit is activating \(auto-restart, last result exit-code\)"),
        (replace(WELL, process=None), r"the unit is active \(running"),
        (replace(WELL, plugins=None), "the daemon doesn't answer on its socket"),
        (replace(WELL, newer=("/etc/containerd/config.toml",)), r"/etc/containerd/config\.toml was changed after"),
        (replace(WELL, binary="/opt/containerd"), "the daemon doesn't run /opt/containerd as it is on disk"),
        (replace(WELL, process=replace(WELL.process, executable=None)), "the daemon doesn't run /usr/bin/containerd"),  # type: ignore[type-var]
        (replace(WELL, plugins=(OVERLAYFS,)), "the CRI plugin isn't loaded"),
        (replace(WELL, plugins=(replace(CRI, status="error"), OVERLAYFS)), r"the CRI plugin .*\.cri\) is in state error"),
        (
            replace(WELL, plugins=(Plugin("io.containerd.cri.v1", "images", "error"), CRI, OVERLAYFS)),
            r"the CRI plugin \(io\.containerd\.cri\.v1\.images\) is in state error",
        ),
        (replace(WELL, plugins=(CRI,)), "the snapshotter overlayfs is not loaded"),
    ],
)
def test_a_daemon_that_is_not_well_says_why(daemon: Daemon, reason: str) -> None:
    found = daemon.restart_reason(["overlayfs"], cri=True)
    assert found is not None
    assert re.match(reason, found)


def test_cri_is_not_missed_where_it_is_disabled() -> None:
    assert replace(WELL, plugins=(OVERLAYFS,)).restart_reason(["overlayfs"], cri=False) is None


def test_reads_what_the_unit_runs() -> None:
    shown = "UnitFileState=masked-runtime\nExecStart={ path=/opt/bin/containerd ; argv[]=/opt/bin/containerd -l x ; }"
    status = UnitStatus.parse(shown)
    assert status.program == "/opt/bin/containerd"
    assert status.masked and not status.loaded
    assert UnitStatus.parse("ExecStart=").program == ""


@pytest.mark.parametrize(
    ("shown", "crashed"),
    [("NRestarts=0\nResult=success", False), ("NRestarts=2\nResult=success", True), ("NRestarts=0\nResult=exit-code", True)],
)
def test_knows_a_unit_that_crashed(shown: str, crashed: bool) -> None:
    assert UnitStatus.parse(shown).crashed is crashed


def test_a_daemon_that_crashed_a_moment_ago_is_started_again() -> None:
    crashed = replace(WELL, unit=replace(WELL.unit, restarts=3), age=5.0)
    assert crashed.restart_reason((), cri=True) == "the daemon crashed a moment ago"
    assert replace(crashed, age=3600.0).restart_reason((), cri=True) is None
    assert replace(WELL, age=5.0).restart_reason((), cri=True) is None


def test_what_the_daemon_was_told_on_its_command_line() -> None:
    told = replace(WELL, process=Process(7, 1.0, ("containerd", "--config=/etc/a//b.toml", "-a", "/run/x.sock"), None))
    assert told.reads() == "/etc/a/b.toml"
    assert told.listens() == "/run/x.sock"
    assert WELL.listens() is None
