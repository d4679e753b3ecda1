# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a node whose daemon doesn't run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation
from ansible_collections.slipway.node.plugins.module_utils.verify.host.node_state import read_node


def test_what_a_snapshotter_lacks_is_known_without_the_daemon(tmp_path: Path, recorded: Callable[[str, str], str]) -> None:
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
    state = read_node(
        Containerd(
            Runner(Programs()),
            config_file=str(config),
            unit="slipway-none.service",
            address="/run/none.sock",
            binary=str(program),
        ),
        expectation=Expectation(),
    )
    assert state.config is not None and (state.daemon is None or state.daemon.plugins is None)
    assert "needs scratch_file" in (state.missing_requirements or {})["blockfile"]
