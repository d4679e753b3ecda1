# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a node whose daemon doesn't run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE, NO_ANSWER
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import UNDETERMINED, report, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation
from ansible_collections.slipway.node.plugins.module_utils.verify.host.node_state import read_node


@pytest.fixture
def containerd(tmp_path: Path, recorded: Callable[[str, str], str]) -> Containerd:
    """One whose program prints what containerd 1.7.24 does, with blockfile as its snapshotter."""
    (tmp_path / "version").write_text(recorded("1.7.24", "version.txt"))
    (tmp_path / "default").write_text(recorded("1.7.24", "default.toml"))
    (tmp_path / "dump").write_text(
        recorded("1.7.24", "default.toml").replace('snapshotter = "overlayfs"', 'snapshotter = "blockfile"')
    )
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\nfor word; do :; done\ncat {tmp_path}/${{word#--}}\n")
    program.chmod(0o755)
    config = tmp_path / "config.toml"
    config.write_text("version = 2\n")
    return Containerd(
        Runner(Programs(), 60),
        config_file=str(config),
        unit="slipway-none.service",
        address="/run/none.sock",
        binary=str(program),
        timeout=60,
    )


def test_what_a_snapshotter_lacks_is_known_without_the_daemon(containerd: Containerd) -> None:
    state = read_node(containerd, expectation=Expectation())
    assert state.config is not None and (state.daemon is None or state.daemon.plugins is None)
    assert "needs scratch_file" in (state.missing_requirements or {})["blockfile"]


def test_a_program_that_hangs_is_left_out(containerd: Containerd, tmp_path: Path) -> None:
    os.remove(tmp_path / "default")
    os.mkfifo(tmp_path / "default")
    state = read_node(containerd, expectation=Expectation(), part_timeout=3)
    assert state.trouble["defaults"] == f"{NO_ANSWER} 3 seconds"
    assert "blockfile" in (state.missing_requirements or {})
    by_id = {one.id: one for one in run_checks(state, Expectation())}
    assert (by_id["unknown_keys"].status, by_id["config_loads"].status) == ("unknown", "ok")
    assert by_id["unknown_keys"].remedy.startswith("find the file system or the service that hangs")


def test_what_has_been_read_by_the_deadline_is_reported(containerd: Containerd, tmp_path: Path) -> None:
    os.remove(tmp_path / "default")
    os.mkfifo(tmp_path / "default")
    state = read_node(containerd, expectation=Expectation(), timeout=3)
    assert state.trouble["defaults"] == state.trouble["room"] == f"{LATE} 3 seconds (timeout)"
    by_id = {one.id: one for one in report(run_checks(state, Expectation()))}
    assert by_id["config_loads"].status == "ok"
    assert by_id[UNDETERMINED].status == "unknown"


def test_a_fifo_among_the_imports_is_one_finding(containerd: Containerd, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "config.toml").write_text('imports = ["*fifo.toml"]\n')
    state = read_node(containerd, expectation=Expectation())
    findings = report(run_checks(state, Expectation(), skip=["daemon_running"]))
    assert [one.id for one in findings if one.status == "fail"] == ["config_loads"]
