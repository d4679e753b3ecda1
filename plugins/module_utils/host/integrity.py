# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares unpacked images with the layers that they come from; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace

from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.content_check import ContentCheck, compare_content
from ansible_collections.slipway.node.plugins.module_utils.host.images import Content
from ansible_collections.slipway.node.plugins.module_utils.host.layers import Blob, DamagedBlobError, open_layer
from ansible_collections.slipway.node.plugins.module_utils.host.rootfs_walk import Difference, Walk
from ansible_collections.slipway.node.plugins.module_utils.host.views import LostSnapshotError, View, Views
from ansible_collections.slipway.node.plugins.module_utils.model.oci import Descriptor
from ansible_collections.slipway.node.plugins.module_utils.model.rootfs import RootFs

__all__ = ["Comparison", "Difference", "compare_image", "compare_images", "compare_views", "damaged_blobs", "sweep_views"]

METADATA, CONTENT = "metadata", "content"
LEVELS = (METADATA, CONTENT)
_UNJUDGED = "its files cannot be judged, because blobs that they come from are damaged"
_LOST = "missing, with all that is in it: containerd has a record of the snapshot, but not its directory"
# A file's origin is the number of its layer and that of its entry there.
_ENTRIES = 1 << 40


@dataclass(frozen=True)
class Comparison:
    """What was found of one image.

    ``differences``: at most 100 of ``count``; ``total``: how many files there should be. ``damaged_blobs``: digests of the
    image's blobs that are missing, cut off or something else. ``unknown``: why the files can't be judged, else empty.
    """

    differences: tuple[Difference, ...] = ()
    total: int = 0
    damaged_blobs: tuple[str, ...] = ()
    unknown: str = ""
    count: int = 0
    lowest: int = 0
    discarded: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether it is certain that nothing is wrong, as far as has been looked."""
        return not (self.differences or self.damaged_blobs or self.unknown)


def compare_image(
    ctr: Ctr, *, namespace: str, snapshotter: str, content_root: str, content: Content, level: str = METADATA
) -> Comparison:
    """An image that is unpacked for a snapshotter; see ``compare_images``."""
    (found,) = compare_images(
        ctr, namespace=namespace, snapshotter=snapshotter, content_root=content_root, contents=[content], level=level
    )
    return found


def compare_images(
    ctr: Ctr,
    *,
    namespace: str,
    snapshotter: str,
    content_root: str,
    contents: Sequence[Content],
    level: str = METADATA,
    trees: str | None = None,
    keep: bool = False,
) -> tuple[Comparison, ...]:
    """Images that are unpacked for a snapshotter; layers that they share from the lowest one on are read once.

    ``level``: METADATA, all but the bytes of files, or CONTENT. Every blob is compared with its digest in either case.
    Raises HostError if the node refuses to be looked at.
    """
    views = Views(ctr, namespace, snapshotter)
    unpacked = views.layers() if contents else frozenset()
    with ExitStack() as stack:
        images: list[tuple[View | None, tuple[Descriptor, ...]]] = []
        for content in contents:
            top = content.config.chain_ids[-1:]
            view = None
            if top and unpacked.issuperset(top):
                with suppress(LostSnapshotError):
                    view = stack.enter_context(views.open(top[0]))
            images.append((view, content.manifest.layers))
        found = compare_views(images, content_root, level)
    return tuple(
        _with_config(one if view is not None else _unseen(one, content, snapshotter, unpacked), content_root, content)
        for one, content, (view, _layers) in zip(found, contents, images)
    )


def _unseen(found: Comparison, content: Content, snapshotter: str, unpacked: frozenset[str]) -> Comparison:
    """Of an image that has no view."""
    top = content.config.chain_ids[-1:]
    if not top:
        return found
    if unpacked.issuperset(top):
        return replace(found, differences=(Difference("/", _LOST),), count=1, total=1)
    return replace(found, unknown=f"it is not unpacked for {snapshotter}")


def _with_config(found: Comparison, content_root: str, content: Content) -> Comparison:
    return replace(found, damaged_blobs=(*damaged_blobs(content_root, (content.manifest.config,)), *found.damaged_blobs))


def compare_views(
    images: Sequence[tuple[View | None, tuple[Descriptor, ...]]], content_root: str, level: str = METADATA
) -> tuple[Comparison, ...]:
    """Directory trees, and the layers that they should be of, lowest first. Without a view, the blobs alone are looked at."""
    if level not in LEVELS:
        raise ValueError(f"the level is one of {', '.join(LEVELS)}, not {level!r}")
    with ExitStack() as stack:
        begun = []
        for view, layers in images:
            check = stack.enter_context(closing(ContentCheck(view.root))) if view is not None and level == CONTENT else None
            begun.append(_Image(layers, view, check))
        _Comparer(content_root).run(begun)
    return tuple(image.result() for image in begun)


def sweep_views(ctr: Ctr, namespace: str, snapshotter: str) -> None:
    """Remove what killed runs left: their views and directories."""
    Views(ctr, namespace, snapshotter).sweep()


def damaged_blobs(content_root: str, descriptors: Sequence[Descriptor]) -> tuple[str, ...]:
    """Digests of those that are not what they should be."""
    return tuple(one.digest for one in dict.fromkeys(descriptors) if not _is_whole(content_root, one))


def _is_whole(content_root: str, descriptor: Descriptor) -> bool:
    try:
        with closing(Blob(content_root, descriptor)) as blob:
            blob.verify()
    except DamagedBlobError:
        return False
    return True


@dataclass(eq=False)
class _Image:
    """One to compare, and what has been found of it; without a view its blobs alone are looked at."""

    layers: tuple[Descriptor, ...]
    view: View | None = None
    check: ContentCheck | None = None
    unknown: str = ""
    damaged: tuple[str, ...] = ()
    walk: Walk | None = None
    total: int = 0

    def result(self) -> Comparison:
        if self.walk is None or self.unknown:
            return Comparison(damaged_blobs=self.damaged, unknown=self.unknown)
        return Comparison(tuple(self.walk.differences), self.total, self.damaged, count=self.walk.count)


@dataclass(frozen=True)
class _Task:
    """A layer to apply to the tree of those below it, for all images that have it; ``fork``: others need that tree too."""

    depth: int
    layer: Descriptor
    images: Sequence[_Image]
    tree: RootFs
    fork: bool


@dataclass
class _Comparer:
    """Reads layers that several images have in common once; each image gets a tree of its own where they part."""

    content_root: str
    _whole: dict[Descriptor, bool] = field(default_factory=dict)

    def run(self, images: Sequence[_Image]) -> None:
        seen = [image for image in images if image.view is not None]
        overlay = any(image.view is not None and image.view.overlay for image in seen)
        pending = self._above(0, seen, RootFs(overlay=overlay))
        while pending:
            task = pending.pop()
            tree = task.tree.fork() if task.fork else task.tree
            if self._apply(tree, task):
                pending.extend(self._above(task.depth + 1, task.images, tree))
        for image in images:
            if image.view is None or image.unknown:
                image.damaged = tuple(layer.digest for layer in dict.fromkeys(image.layers) if not self._is_whole(layer))

    def _above(self, depth: int, images: Sequence[_Image], tree: RootFs) -> list[_Task]:
        """Judge the images that have no more layers; returns what has to be read for the others."""
        groups: dict[Descriptor, list[_Image]] = {}
        for image in images:
            if len(image.layers) == depth:
                self._walk(image, tree)
            else:
                groups.setdefault(image.layers[depth], []).append(image)
        # Done from the last to the first, which then has the tree for itself.
        return [_Task(depth, layer, group, tree, number > 0) for number, (layer, group) in enumerate(groups.items())]

    def _apply(self, tree: RootFs, task: _Task) -> bool:
        checks = [image.check for image in task.images if image.check is not None]
        try:
            with open_layer(self.content_root, task.layer) as reader:
                target = tree.layer()
                for number, entry in enumerate(reader.entries()):
                    origin = task.depth * _ENTRIES + number
                    path = target.add(entry, origin)
                    if path and checks:
                        compare_content(checks, path, entry.size, origin, reader.content(entry))
                target.finish()
        except (DamagedBlobError, ValueError) as error:
            self._whole[task.layer] = isinstance(error, ValueError)
            for image in task.images:
                image.unknown = str(error) if isinstance(error, ValueError) else _UNJUDGED
            return False
        self._whole[task.layer] = True
        return True

    def _is_whole(self, layer: Descriptor) -> bool:
        if layer not in self._whole:
            self._whole[layer] = _is_whole(self.content_root, layer)
        return self._whole[layer]

    def _walk(self, image: _Image, tree: RootFs) -> None:
        if image.view is None:
            return
        image.walk = Walk(image.view.root, image.check.judge if image.check is not None else None)
        image.walk.compare(tree)
        image.total = tree.entries()
        if image.check is not None and image.check.again:
            try:
                self._compare_again(image, image.check, image.walk)
            except (DamagedBlobError, ValueError):
                image.unknown = _UNJUDGED

    def _compare_again(self, image: _Image, check: ContentCheck, walk: Walk) -> None:
        """Hard links whose file was not compared under a name that it still has."""
        for depth in sorted({origin // _ENTRIES for origin in check.again}):
            with open_layer(self.content_root, image.layers[depth]) as reader:
                for number, entry in enumerate(reader.entries()):
                    origin = depth * _ENTRIES + number
                    path = check.again.get(origin)
                    if path is not None:
                        compare_content([check], tuple(path.split(b"/")), entry.size, origin, reader.content(entry))
                        problem = check.judge_again(origin)
                        if problem:
                            walk.report(path, problem)
