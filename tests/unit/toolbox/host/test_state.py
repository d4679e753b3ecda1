# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host import mounts as host_mounts
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host import state

ROOT = "21 1 8:1 / / rw - ext4 /dev/vda1 rw\n"
CONTAINER = "90 21 0:50 / /run/task/rootfs rw - overlay overlay rw,lowerdir=/a,upperdir=/none/snapshots/7/fs,workdir=/none/w\n"


@pytest.mark.parametrize(("later", "lost"), [(ROOT + CONTAINER, ("/run/task/rootfs",)), (ROOT, ())])
def test_a_container_that_ends_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str, lost: tuple[str, ...]
) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(host_mounts, "_MOUNTS", f"{table}")
    table.write_text(ROOT + CONTAINER)
    mounts = state.NodeMounts()
    table.write_text(later)
    assert mounts.lost() == lost


@pytest.mark.parametrize(
    ("backing", "lost"),
    [
        ("/srv/blockfile/snapshots/7 (deleted)\n", ("/box",)),
        ("/srv/blockfile/snapshots/rm-7 (deleted)\n", ("/box",)),
        ("/srv/blockfile/snapshots/7\n", ()),
        ("/srv/image.iso (deleted)\n", ()),
    ],
)
def test_a_snapshot_of_blockfile_whose_file_is_gone_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backing: str, lost: tuple[str, ...]
) -> None:
    (tmp_path / "mountinfo").write_text(ROOT + "95 21 7:3 / /box rw - ext4 /dev/loop3 rw\n")
    (tmp_path / "7:3").write_text(backing)
    monkeypatch.setattr(host_mounts, "_MOUNTS", f"{tmp_path}/mountinfo")
    monkeypatch.setattr(state, "_BACKING_FILE", f"{tmp_path}/{{}}")
    assert state.NodeMounts().lost() == lost


@pytest.mark.parametrize("name", ["rm-14", "14", "14/fs"])
def test_a_directory_that_is_bound_and_gone_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # As Linux 6.18 shows it for native on containerd 1.7.24, with rm-14.
    bound = f"627 21 254:0 /lib/io.containerd.snapshotter.v1.native/snapshots/{name}//deleted /box rw - ext4 /dev/vda rw\n"
    (tmp_path / "mountinfo").write_text(ROOT + bound)
    monkeypatch.setattr(host_mounts, "_MOUNTS", f"{tmp_path}/mountinfo")
    assert state.NodeMounts().lost() == ("/box",)
