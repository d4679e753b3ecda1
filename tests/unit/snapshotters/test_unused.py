# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.snapshotters.unused import unused_snapshots
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot


def layer(parent: str = "") -> Snapshot:
    return Snapshot(parent, "Committed")


A, B, C = "sha256:a", "sha256:b", "sha256:c"
ALL = frozenset({A, B, C})


def test_what_nobody_uses_can_go() -> None:
    left = unused_snapshots("overlayfs", "default", {A: layer(), B: layer(A), C: layer(A)}, {A: 5, B: 1, C: 2}, ALL)
    assert left is not None
    assert (left.layers, left.size, left.removable, left.users) == (3, 8, 8, ())
    assert set(left.keys) == {A, B, C} and left.keys[-1] == A


@pytest.mark.parametrize("mine", [Snapshot(B, "Active"), Snapshot(B, "View"), Snapshot(B, "Committed")])
def test_what_somebodys_snapshot_stands_on_stays(mine: Snapshot) -> None:
    """Also one that was committed by hand."""
    left = unused_snapshots(
        "overlayfs", "default", {A: layer(), B: layer(A), C: layer(A), "mine": mine}, {A: 5, C: 2, "mine": 9}, ALL
    )
    assert left is not None
    assert (left.keys, left.removable, left.users) == ((C,), 2, ("mine",))
    assert left.to_dict(["somebody"]) == {
        "snapshotter": "overlayfs",
        "namespace": "default",
        "layers": 3,
        "size_bytes": 16,
        "removable_layers": 1,
        "removable_bytes": 2,
        "used_by": ["somebody"],
    }


def test_files_of_blockfile_share_nothing() -> None:
    left = unused_snapshots("blockfile", "default", {A: layer(), B: layer(A)}, {A: 64, B: 0}, ALL)
    assert left is not None and (left.size, left.removable) == (128, 128)


def test_nothing_is_left_where_there_is_nothing() -> None:
    assert unused_snapshots("native", "default", {}, {}, ALL) is None


@pytest.mark.parametrize(
    ("elsewhere", "going", "users"),
    [
        ({A, B}, {B}, (C,)),
        ({A}, set(), (B, C)),
        (set(), set(), (B, C)),
    ],
)
def test_a_layer_that_no_snapshotter_in_use_has_stays(elsewhere: set[str], going: set[str], users: tuple[str, ...]) -> None:
    """It may be the last of an image whose blobs were discarded, or a lease's."""
    left = unused_snapshots("overlayfs", "default", {A: layer(), B: layer(A), C: layer(A)}, {}, frozenset(elsewhere))
    assert left is not None and (set(left.keys), left.users) == (going, users)
