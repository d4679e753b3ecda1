# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.snapshotters import migration
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import Candidate
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot

MIB = 1 << 20
ONE = Candidate("one", ("a", "b"), (10, 20))
TWO = Candidate("two", ("a", "c"), (10, 30))


def test_what_is_unpacked_for_the_old_and_not_for_the_new_is_needed() -> None:
    other = Candidate("other", ("x",))
    broken = Candidate("broken", trouble="no config")
    found = migration.needed([ONE, TWO, other, broken, Candidate("empty")], {"a", "b", "c"}, {"a", "c"})
    assert found == (ONE,)


def test_images_without_their_blobs_are_named() -> None:
    migration.require_whole([ONE], "k8s.io", "native")
    gone = [Candidate("b", ("x",), whole=False), ONE, Candidate("a", ("y",), whole=False)]
    with pytest.raises(ValueError, match=r"layers of a, b in the namespace k8s\.io are not in the content store"):
        migration.require_whole(gone, "k8s.io", "native")


USAGE = {"a": 5 * MIB, "b": MIB, "c": 2 * MIB}


@pytest.mark.parametrize(
    ("target", "source", "present", "usage", "needed"),
    [
        ("erofs", "overlayfs", set(), USAGE, 8 * MIB),
        ("erofs", "overlayfs", {"a"}, USAGE, 3 * MIB),
        # Each layer is a copy of those below.
        ("native", "overlayfs", set(), USAGE, (5 + 6 + 7) * MIB),
        ("native", "overlayfs", {"a"}, USAGE, (6 + 7) * MIB),
        ("overlayfs", "native", set(), {"a": 5 * MIB, "b": 6 * MIB, "c": 7 * MIB}, 8 * MIB),
        ("blockfile", "overlayfs", set(), USAGE, 3 * 64 * MIB),
        ("blockfile", "overlayfs", {"a", "b"}, USAGE, 64 * MIB),
        # By what was downloaded, where nothing else is known.
        ("overlayfs", "blockfile", set(), {}, 3 * (10 + 20 + 30)),
        ("devmapper", "overlayfs", set(), USAGE, None),
    ],
)
def test_room(target: str, source: str, present: set[str], usage: dict[str, int], needed: int | None) -> None:
    assert migration.room_needed([ONE, TWO], present, target, source, usage, 64 * MIB) == needed


def test_too_little_room_is_said_with_numbers() -> None:
    migration.require_room(MIB, MIB, "native", "/native")
    migration.require_room(None, 0, "native", "/native")
    with pytest.raises(
        ValueError, match=r"too little space for native in /native: unpacking takes about 2 MiB, and 1 MiB are free"
    ):
        migration.require_room(2 * MIB, MIB, "native", "/native")


def layer(parent: str = "") -> Snapshot:
    return Snapshot(parent, "Committed")


A, B, C = "sha256:a", "sha256:b", "sha256:c"
ALL = frozenset({A, B, C})


def test_what_nobody_uses_can_go() -> None:
    left = migration.left_behind("overlayfs", "default", {A: layer(), B: layer(A), C: layer(A)}, {A: 5, B: 1, C: 2}, ALL)
    assert left is not None
    assert (left.layers, left.size, left.removable, left.users) == (3, 8, 8, ())
    assert set(left.keys) == {A, B, C} and left.keys[-1] == A


@pytest.mark.parametrize("mine", [Snapshot(B, "Active"), Snapshot(B, "View"), Snapshot(B, "Committed")])
def test_what_somebodys_snapshot_stands_on_stays(mine: Snapshot) -> None:
    """Also one that was committed by hand."""
    left = migration.left_behind(
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
    left = migration.left_behind("blockfile", "default", {A: layer(), B: layer(A)}, {A: 64, B: 0}, ALL)
    assert left is not None and (left.size, left.removable) == (128, 128)


def test_nothing_is_left_where_there_is_nothing() -> None:
    assert migration.left_behind("native", "default", {}, {}, ALL) is None


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
    left = migration.left_behind("overlayfs", "default", {A: layer(), B: layer(A), C: layer(A)}, {}, frozenset(elsewhere))
    assert left is not None and (set(left.keys), left.users) == (going, users)
