# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.read import rooms


def test_bytes_for_one_file_system_are_added(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    [room] = rooms([(f"{tmp_path}/a", 10), (f"{tmp_path}/a", 20), (f"{tmp_path}/missing/deeper", 5)])
    assert (room.directories, room.needed) == ((f"{tmp_path}/a", str(tmp_path)), 35)


def test_each_file_system_has_room_of_its_own(tmp_path: Path) -> None:
    found = rooms([(str(tmp_path), 10), ("/proc", 20), (str(tmp_path), 5)])
    assert [(one.directories, one.needed) for one in found] == [((str(tmp_path),), 15), (("/proc",), 20)]
    assert found[1].free == 0


def test_blocks_that_are_reserved_for_root_are_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = list(os.statvfs(tmp_path))
    # Fragment size, blocks, free blocks, blocks that are free for others than root.
    fields[1:5] = [4096, 100, 50, 30]
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(fields))
    [room] = rooms([(str(tmp_path), 1)])
    assert room.free == 30 * 4096
