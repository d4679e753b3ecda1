# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.snapshotters import migration
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import Candidate
from ansible_collections.slipway.node.plugins.module_utils.store import oci

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


@pytest.mark.parametrize(
    ("new_loaded", "old_usable", "images", "when"),
    [
        (True, True, True, migration.BEFORE),
        (True, False, True, migration.BEFORE),
        (False, True, True, migration.BESIDE),
        # No restart for nothing.
        (False, True, False, migration.AFTER),
        # Such as a thin pool that is lost: there is nothing to stay on meanwhile.
        (False, False, True, migration.AFTER),
    ],
)
def test_the_old_default_stays_until_images_are_unpacked(new_loaded: bool, old_usable: bool, images: bool, when: str) -> None:
    assert migration.moment(new_loaded=new_loaded, old_usable=old_usable, images=images) == when


def test_an_image_of_another_platform_is_listed_with_the_reason() -> None:
    layer = oci.Descriptor("x", "sha256:" + "a" * 64, 10)
    manifest = oci.Manifest(oci.Descriptor("y", "sha256:" + "b" * 64, 5), (layer,))
    own = migration.candidate("own", manifest, oci.Config("linux/386", ("a",)), {layer.digest}, "linux/amd64")
    assert own == Candidate("own", ("a",), (10,))
    arm = migration.candidate("arm", manifest, oci.Config("linux/arm64", ("a",)), set(), "linux/amd64")
    assert arm.trouble == "the image is not for linux/amd64: it is for linux/arm64"
    assert migration.needed([own, arm], {"a"}, set()) == (own,)
