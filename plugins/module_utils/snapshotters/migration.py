# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From one snapshotter to another: which images have to be unpacked, what room that takes, and what the old one holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.sizes import shown
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot, is_unpacking, plan_removal

# Snapshotters each of whose layers is a whole file system of its own, with everything of the layers below.
_COPYING = ("native",)
# Those whose layers hold what the layer itself brings.
_LAYERED = ("overlayfs", "erofs")
_BLOCKFILE = "blockfile"
# How much larger layers are than what is downloaded of them, where nothing better is known.
_UNCOMPRESSED = 3


@dataclass(frozen=True)
class Candidate:
    """An image that a namespace has: its layers' chain IDs, the lowest first, and the bytes of their blobs.

    ``whole``: all of its blobs are here. ``trouble`` says why it can't be understood; then there is nothing else.
    """

    name: str
    chain: tuple[str, ...] = ()
    blobs: tuple[int, ...] = ()
    whole: bool = True
    trouble: str = ""


def needed(candidates: Iterable[Candidate], source: Set[str], target: Set[str]) -> tuple[Candidate, ...]:
    """Those that are unpacked for one snapshotter and not for the other, by the layers that each has."""
    return tuple(one for one in candidates if one.chain and one.chain[-1] in source and one.chain[-1] not in target)


def require_whole(images: Iterable[Candidate], namespace: str, target: str) -> None:
    """Raises ValueError that names the images that can't be unpacked again from what is here."""
    incomplete = sorted(one.name for one in images if not one.whole)
    if incomplete:
        raise ValueError(
            f"the layers of {', '.join(incomplete)} in the namespace {namespace} are not in the content store, so they can't be "
            f"unpacked for {target} offline: pull them with slipway.node.containerd_image (snapshotter: {target}), or remove them"
        )


def room_needed(
    images: Iterable[Candidate], present: Set[str], target: str, source: str, usage: Mapping[str, int], copied: int
) -> int | None:
    """Bytes that unpacking takes at most, about; None if that can't be told for this snapshotter.

    ``present`` are the chain IDs that the target has, ``usage`` what the source's snapshots take, by chain ID; ``copied`` is the
    size of blockfile's scratch file.
    """
    if target == _BLOCKFILE:
        return copied * len({key for one in images for key in one.chain if key not in present})
    if target not in (*_COPYING, *_LAYERED):
        return None
    sizes: dict[str, int] = {}
    for image in images:
        below = 0
        for number, key in enumerate(image.chain):
            own = _own_size(image, number, source, usage)
            below += own
            if key not in present:
                sizes[key] = below if target in _COPYING else own
    return sum(sizes.values())


def _own_size(image: Candidate, number: int, source: str, usage: Mapping[str, int]) -> int:
    key = image.chain[number]
    if key in usage and source in _LAYERED:
        return usage[key]
    if key in usage and source in _COPYING:
        return max(0, usage[key] - (usage.get(image.chain[number - 1], 0) if number else 0))
    return _UNCOMPRESSED * (image.blobs[number] if number < len(image.blobs) else 0)


def require_room(needed_bytes: int | None, free: int, target: str, directory: str) -> None:
    """Raises ValueError if unpacking would fill the file system of a snapshotter."""
    if needed_bytes is not None and needed_bytes > free:
        raise ValueError(
            f"there is too little space for {target} in {directory}: unpacking takes about {shown(needed_bytes)}, and "
            f"{shown(free)} are free: make room, or remove images first"
        )


@dataclass(frozen=True)
class Left:
    """What a snapshotter that isn't used any more holds in a namespace.

    ``keys`` can be removed, children first; ``users`` are the snapshots because of which others of its ``layers`` stay.
    ``size`` is the bytes of everything that it holds, ``removable`` those of ``keys``.
    """

    snapshotter: str
    namespace: str
    layers: int
    size: int
    keys: tuple[str, ...]
    removable: int
    users: tuple[str, ...]

    def to_dict(self, users: Sequence[str]) -> dict[str, Any]:
        return {
            "snapshotter": self.snapshotter,
            "namespace": self.namespace,
            "layers": self.layers,
            "size_bytes": self.size,
            "removable_layers": len(self.keys),
            "removable_bytes": self.removable,
            "used_by": list(users),
        }


def left_behind(
    snapshotter: str, namespace: str, snapshots: Mapping[str, Snapshot], usage: Mapping[str, int], elsewhere: Set[str]
) -> Left | None:
    """None if it holds nothing there. What isn't an image's layer is somebody's, and so is what that stands on.

    ``elsewhere`` are the chain IDs of the layers that snapshotters in use have. A layer that isn't among them may be all that is
    left of an image, or some lease's.
    """
    if not snapshots:
        return None
    usage = {key: _whole_size(key, snapshots, usage) for key in usage} if snapshotter == _BLOCKFILE else usage
    layers = [key for key, one in snapshots.items() if _is_layer(key, one)]
    going = {key for key in layers if key in elsewhere}
    judged = {key: one if key in going or is_unpacking(key) else replace(one, kind="Active") for key, one in snapshots.items()}
    removal = plan_removal(judged, sorted(going))
    below = {snapshots[key].parent for key in layers if key not in going}
    return Left(
        snapshotter,
        namespace,
        len(layers),
        sum(usage.values()),
        removal.keys,
        sum(usage.get(key, 0) for key in removal.keys),
        tuple(sorted(key for key, one in judged.items() if not one.is_layer and key not in below)),
    )


def _whole_size(key: str, snapshots: Mapping[str, Snapshot], usage: Mapping[str, int]) -> int:
    """blockfile says by how much a file is larger than its parent's, though it shares nothing with it."""
    size = 0
    while key in snapshots:
        size += usage.get(key, 0)
        key = snapshots[key].parent
    return size


def _is_layer(key: str, snapshot: Snapshot) -> bool:
    return snapshot.is_layer and key.startswith("sha256:")
