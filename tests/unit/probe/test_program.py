# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of the probe runs, and ends with a code that no other program of a runtime has."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.names import GO_ARCHITECTURES
from ansible_collections.slipway.node.plugins.module_utils.probe.program import ARCHITECTURES, EXIT_CODE, program

MACHINE = GO_ARCHITECTURES.get(os.uname().machine, os.uname().machine)


def test_the_program_ends_with_its_code(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    path.write_bytes(program(MACHINE))
    path.chmod(0o755)
    assert subprocess.run([path], check=False).returncode == EXIT_CODE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_program_of_each_architecture_is_one_segment(architecture: str) -> None:
    content = program(architecture)
    order = "<" if content[5] == 1 else ">"
    start, offset = struct.unpack_from(order + "QQ", content, 24)
    address, _physical, size = struct.unpack_from(order + "QQQ", content, offset + 16)
    assert content[:5] == b"\x7fELF\x02"
    assert size == len(content)
    # The code is what follows the headers, and starts on a boundary that every architecture accepts.
    assert start == address + 120
    assert start % 4 == 0


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="no program for mips: it has one for amd64"):
        program("mips")
