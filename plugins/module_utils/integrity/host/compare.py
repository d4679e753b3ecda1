# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares unpacked images with the layers that they come from; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import Blob, DamagedBlobError
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.image_check import Image, ImageCheck
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.tree_cache import TreeCache
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import LostSnapshotError, View, Views
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import COMPARED_LEVELS, CONTENT, METADATA
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison, Difference
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Content
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

_LOST = "missing, with all that is in it: containerd has a record of the snapshot, but not its directory"


def compare_images(
    views: Views,
    *,
    content_root: str,
    contents: Sequence[Content],
    unpacked: frozenset[str],
    level: str = METADATA,
    trees: str | None = None,
    keep: bool = False,
) -> tuple[Comparison, ...]:
    """Compare images that are unpacked for a snapshotter. Layers that they share from the lowest one on are read once.

    ``unpacked`` are the chain IDs that the snapshotter has.
    ``level``: METADATA, all but the bytes of files, or CONTENT. ``trees`` is a directory, which may not exist, where what is
    expected of images is kept from one run to the next; ``keep``: also write there. For METADATA, layers of which that is known
    are not read: of their blobs it is only looked whether they are there and have their size. All others are compared with
    their digests. Raises HostError if the node can't be read.
    """
    with ExitStack() as stack:
        images: list[tuple[View | None, tuple[Descriptor, ...]]] = []
        for content in contents:
            top = content.config.chain_ids[-1:]
            view = None
            if top and unpacked.issuperset(top):
                with suppress(LostSnapshotError):
                    view = stack.enter_context(views.open(top[0]))
            images.append((view, content.manifest.layers))
        found = compare_views(images, content_root, level, trees=trees, keep=keep)
    return tuple(
        _with_config(one if view is not None else _unseen(one, content, views, unpacked), content_root, content)
        for one, content, (view, _layers) in zip(found, contents, images)
    )


def _unseen(found: Comparison, content: Content, views: Views, unpacked: frozenset[str]) -> Comparison:
    """Return the comparison of an image without a view."""
    top = content.config.chain_ids[-1:]
    if not top:
        return found
    if unpacked.issuperset(top):
        lowest = lowest_lost(views, content.config.chain_ids)
        return replace(found, differences=(Difference("/", _LOST),), count=1, total=1, lowest=lowest)
    return replace(found, unknown=f"it is not unpacked for {views.snapshotter}")


def lowest_lost(views: Views, chain_ids: Sequence[str]) -> int:
    """Return the number of the lowest layer whose snapshot is lost: those below it, which others may use, are left alone."""
    for number, chain_id in enumerate(chain_ids):
        try:
            with views.open(chain_id):
                pass
        except LostSnapshotError:
            return number
    return len(chain_ids) - 1


def _with_config(found: Comparison, content_root: str, content: Content) -> Comparison:
    return replace(found, damaged_blobs=(*damaged_blobs(content_root, (content.manifest.config,)), *found.damaged_blobs))


def compare_views(
    images: Sequence[tuple[View | None, tuple[Descriptor, ...]]],
    content_root: str,
    level: str = METADATA,
    *,
    trees: str | None = None,
    keep: bool = False,
) -> tuple[Comparison, ...]:
    """Compare directory trees with their layers, lowest first. Without a view, only the blobs are compared."""
    if level not in COMPARED_LEVELS:
        raise ValueError(f"the level is one of {', '.join(COMPARED_LEVELS)}, not {level!r}")
    begun = [Image(layers, view) for view, layers in images]
    ImageCheck(content_root, TreeCache(trees, keep=keep), content=level == CONTENT).run(begun)
    return tuple(map(_result, begun))


def _result(image: Image) -> Comparison:
    walk = image.walk
    if walk is None or image.unknown:
        return Comparison(damaged_blobs=image.damaged, unknown=image.unknown)
    return Comparison(tuple(walk.differences), image.total, image.damaged, count=walk.count, lowest=walk.lowest)


def sweep_views(ctr: Ctr, namespace: str, snapshotter: str) -> None:
    """Remove what killed runs left: their views and directories."""
    Views(ctr, namespace, snapshotter).sweep()


def damaged_blobs(content_root: str, descriptors: Sequence[Descriptor]) -> tuple[str, ...]:
    """Return the digests of missing and damaged blobs."""
    return tuple(one.digest for one in dict.fromkeys(descriptors) if not _is_whole(content_root, one))


def _is_whole(content_root: str, descriptor: Descriptor) -> bool:
    try:
        with closing(Blob(content_root, descriptor)) as blob:
            blob.verify()
    except DamagedBlobError:
        return False
    return True
