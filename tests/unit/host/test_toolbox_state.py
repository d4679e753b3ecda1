# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.host import mountpoint, toolbox_state

ROOT = "21 1 8:1 / / rw - ext4 /dev/vda1 rw\n"
CONTAINER = "90 21 0:50 / /run/task/rootfs rw - overlay overlay rw,lowerdir=/a,upperdir=/none/snapshots/7/fs,workdir=/none/w\n"


@pytest.mark.parametrize(("later", "lost"), [(ROOT + CONTAINER, ("/run/task/rootfs",)), (ROOT, ())])
def test_a_container_that_ends_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str, lost: tuple[str, ...]
) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(mountpoint, "_MOUNTS", f"{table}")
    table.write_text(ROOT + CONTAINER)
    mounts = toolbox_state.NodeMounts()
    table.write_text(later)
    assert mounts.lost() == lost
