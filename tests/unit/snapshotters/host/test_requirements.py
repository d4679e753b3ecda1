# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import lost_snapshots
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import read_scratch


@pytest.mark.parametrize(
    ("layers", "moved", "root", "new", "lost"),
    [
        (("7",), False, "", "elsewhere", True),
        ((), False, "", "elsewhere", False),
        # Somebody has moved them.
        (("7",), True, "", "elsewhere", False),
        (("7",), False, "", "", False),
        # The daemon's own database is another one then.
        (("7",), False, "other", "elsewhere", False),
    ],
)
def test_snapshots_are_not_left_in_another_directory(
    tmp_path: Path, layers: tuple[str, ...], moved: bool, root: str, new: str, lost: bool
) -> None:
    old = tmp_path / f"{SNAPSHOTTER_PREFIX}native"
    for place in (old, tmp_path / "elsewhere"):
        (place / "snapshots").mkdir(parents=True)
    for layer in layers:
        (old / "snapshots" / layer).mkdir()
    if moved:
        (tmp_path / "elsewhere/metadata.db").touch()
    table = {"root_path": str(tmp_path / new)} if new else {"root_path": f"{old}/"}
    current = EffectiveConfig({"root": str(tmp_path), "plugins": {f"{SNAPSHOTTER_PREFIX}native": {"root_path": ""}}})
    wanted = EffectiveConfig({"root": str(tmp_path / root), "plugins": {f"{SNAPSHOTTER_PREFIX}native": table}})
    problem = lost_snapshots(current, wanted)
    assert bool(problem) is lost
    assert not lost or (f"{old} holds snapshots" in problem and "snapshotters.native.root_path" in problem)


def test_a_scratch_file_that_is_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match="is a FIFO"):
        read_scratch(str(tmp_path / "fifo"))
