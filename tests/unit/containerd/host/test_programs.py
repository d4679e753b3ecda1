# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import ContainerdBinary, Ctr, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit


def test_the_daemons_program_is_not_asked_to_read_what_it_would_wait_for(tmp_path: Path) -> None:
    """``config dump`` opens a FIFO, and waits forever."""
    program, root = tmp_path / "containerd", tmp_path / "config.toml"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    program.chmod(0o755)
    root.write_text('imports = ["conf.d/*.toml"]\n')
    (tmp_path / "conf.d").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "a.toml")
    with pytest.raises(HostError, match=r"conf\.d/a\.toml, which is a FIFO, .*: remove or repair .*/a\.toml by hand"):
        ContainerdBinary(Runner(Module()), str(program)).config(str(root))
    assert not (tmp_path / "was-run").exists()


def test_a_program_that_never_ends_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(f"{ContainerdBinary.__module__}._ANSWER_SECONDS", 0.1)
    with pytest.raises(HostError, match=r"containerd took more than 0\.1 seconds"):
        ContainerdBinary(Runner(Module()), str(program)).version()


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


def test_a_program_that_can_not_be_executed_is_not_taken_for_none(tmp_path: Path) -> None:
    runner, program = Runner(Module()), tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho containerd example.invalid 2.3.7 0\n")
    program.chmod(0o644)
    found = find_containerd(runner, Unit(runner, "containerd.service"), str(program))
    with pytest.raises(HostError, match=f"{program} is not executable: set its mode to 0755, or install containerd again"):
        ContainerdBinary(runner, found).version()
    program.chmod(0o755)
    assert str(ContainerdBinary(runner, found).version()) == "2.3.7"


@pytest.mark.parametrize(
    "complaint",
    [
        # 1.6.20 and 1.7.24, then 2.x, without a socket and with one that nothing listens on.
        'ctr: failed to dial "/run/c.sock": context deadline exceeded: connection error: desc = "transport: error while dialing"',
        'ctr: failed to dial "/run/c.sock": connection error: desc = "dial unix /run/c.sock: connect: connection refused"',
        "ctr: cannot access socket /run/c.sock: stat /run/c.sock: no such file or directory",
        'ctr: connection error: desc = "transport: Error while dialing: dial unix /run/c.sock: connect: connection refused"',
    ],
)
def test_a_stopped_daemon_is_named(tmp_path: Path, complaint: str) -> None:
    program = tmp_path / "ctr"
    program.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
    program.chmod(0o755)
    ctr = Ctr(Runner(Module()), "/run/c.sock", str(tmp_path / "containerd"))
    with pytest.raises(HostError, match=r"the containerd daemon doesn't answer at /run/c.sock: start its service"):
        ctr.namespaces()


def test_the_namespace_of_the_probe_is_left_out(tmp_path: Path) -> None:
    program = tmp_path / "ctr"
    program.write_text("#!/bin/sh\nprintf '%s\\n' slipway-probe k8s.io default\n")
    program.chmod(0o755)
    assert Ctr(Runner(Module()), "/run/c.sock", str(tmp_path / "containerd")).namespaces() == ["default", "k8s.io"]
