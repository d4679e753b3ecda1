# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan for another snapshotter: the images to unpack, the order, and the space that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.core.sizes import shown
from ansible_collections.slipway.node.plugins.module_utils.store import oci

# Snapshotters each of whose layers is a whole file system of its own, with everything of the layers below.
_COPYING = ("native",)
# Those whose layers hold what the layer itself brings.
_LAYERED = ("overlayfs", "erofs")
BLOCKFILE = "blockfile"
# When images are unpacked for a new default snapshotter: at once; after the daemon has loaded it beside the old default; or
# after the default has changed.
BEFORE, BESIDE, AFTER = "before", "beside", "after"
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


def candidate(name: str, manifest: oci.Manifest, config: oci.Config, blobs: Set[str], machine: str) -> Candidate:
    """Return an image as it would be unpacked on a machine of a platform; ``blobs`` are the digests of what is here."""
    trouble = oci.foreign(config.platform, machine)
    if trouble:
        return Candidate(name, trouble=trouble)
    whole = all(layer.digest in blobs for layer in manifest.layers)
    return Candidate(name, config.chain_ids, tuple(layer.size for layer in manifest.layers), whole)


def needed(candidates: Iterable[Candidate], source: Set[str], target: Set[str]) -> tuple[Candidate, ...]:
    """Return those that are unpacked for one snapshotter and not for the other, by the layers that each has."""
    return tuple(one for one in candidates if one.chain and one.chain[-1] in source and one.chain[-1] not in target)


def require_whole(images: Iterable[Candidate], namespace: str, target: str) -> None:
    """Raise ValueError that names the images that can't be unpacked again from what is here."""
    incomplete = sorted(one.name for one in images if not one.whole)
    if incomplete:
        raise ValueError(
            f"the layers of {', '.join(incomplete)} in the namespace {namespace} are not in the content store, so they can't be "
            f"unpacked for {target} offline: pull them with slipway.node.containerd_image (snapshotter: {target}), or remove them"
        )


def room_needed(
    images: Iterable[Candidate], present: Set[str], target: str, source: str, usage: Mapping[str, int], copied: int
) -> int | None:
    """Return the bytes that unpacking takes at most, about; None if unknown for this snapshotter.

    ``present`` are the chain IDs that the target has, ``usage`` what the source's snapshots take, by chain ID; ``copied`` is the
    size of blockfile's scratch file.
    """
    if target == BLOCKFILE:
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
    """Raise ValueError if unpacking would fill the file system of a snapshotter."""
    if needed_bytes is not None and needed_bytes > free:
        raise ValueError(
            f"there is too little space for {target} in {directory}: unpacking takes about {shown(needed_bytes)}, and "
            f"{shown(free)} are free: make room, or remove images first"
        )


def moment(*, new_loaded: bool, old_usable: bool, images: bool) -> str:
    """Return when images are unpacked for a new default snapshotter.

    ``new_loaded``: the running daemon has it. ``old_usable``: the old one works, also with the new settings. ``images``: there
    is something to unpack.
    """
    if new_loaded:
        return BEFORE
    return BESIDE if old_usable and images else AFTER
