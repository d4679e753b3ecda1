# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner


def test_a_command_gives_up_if_it_is_told_when(tmp_path: Path) -> None:
    program = tmp_path / "ctr"
    program.write_text("#!/bin/sh\necho $*\n")
    program.chmod(0o755)
    binary = str(tmp_path / "containerd")
    assert Ctr(Runner(Module()), "/run/c.sock", binary).in_namespace("default", "version", doing="ask") == (
        "--address /run/c.sock --namespace default version\n"
    )
    limited = Ctr(Runner(Module()), "/run/c.sock", binary, timeout=7).in_namespace("default", "version", doing="ask")
    assert limited == "--address /run/c.sock --timeout 7s --namespace default version\n"
