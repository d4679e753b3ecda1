# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares directory trees with their layers. Layers that images share are read once.

All blobs and views are read by processes that share the work; the trees are put together here, layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.slipway.node.plugins.module_utils.core.host.workers import Job, Results, cores, spread
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import DamagedBlobError, has_its_size, open_layer
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.content_check import (
    ContentCheck,
    ContentJudge,
    compare_content,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.layer_jobs import (
    EndMessage,
    EntriesMessage,
    digest_view,
    parse_message,
    read_layer,
    verify_blob,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.tree_cache import TreeCache, TreeCacheEntry
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import View
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.walk import TreeComparer
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import layer_of, origin_of
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import Layer, RootFs, clean
from ansible_collections.slipway.node.plugins.module_utils.integrity.tree_digest import TreeDigest, expected_digest
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

_UNJUDGED = "its files cannot be compared, because blobs of its layers are damaged"
# Bytes of layers that take as long to read as it takes to begin with other processes, and as looking at one file.
WORTH_SHARING = 4 << 20
_FILE_COST = 1300
_VERIFY_COST = 0.2
# Of an image's layers, that is about what looking at its files costs.
_WALK_COST = 0.05


@dataclass(eq=False)
class Image:
    """An image to compare, and its results; without a view, only its blobs are compared.

    ``unknown`` says why its files can't be judged; ``lowest``: as in integrity.Comparison.
    """

    layers: tuple[Descriptor, ...]
    view: View | None = None
    unknown: str = ""
    damaged: tuple[str, ...] = ()
    walk: TreeComparer | None = None
    total: int = 0
    kept: TreeCacheEntry | None = None
    judge: ContentJudge | None = None
    jobs: tuple[int, ...] = ()

    @property
    def digests(self) -> list[str]:
        return [layer.digest for layer in self.layers]


@dataclass(eq=False)
class _Step:
    """A layer to apply to the tree of those below it, for all images that have it; ``fork``: others need that tree too.

    ``tree`` is None as long as it isn't known; ``done`` are the images that have no more layers.
    """

    depth: int
    layer: Descriptor
    images: Sequence[Image]
    fork: bool
    above: list[_Step] = field(default_factory=list)
    tree: RootFs | None = None
    job: int = -1

    @property
    def done(self) -> list[Image]:
        return [image for image in self.images if len(image.layers) == self.depth + 1]


class ImageCheck:
    """``content``: compare the bytes of files as well. ``run`` raises HostError if the node can't be read."""

    def __init__(self, content_root: str, trees: TreeCache, *, content: bool) -> None:
        self._content_root = content_root
        self._trees = trees
        self._content = content
        self._overlay = self._packed = False
        self._jobs: list[Job] = []
        self._costs: list[float] = []
        self._whole: dict[Descriptor, bool] = {}
        # Images of which a tree was kept that can't be understood.
        self._distrusted: list[Image] = []

    def run(self, images: Sequence[Image]) -> None:
        seen = [image for image in images if image.view is not None]
        self._overlay = any(image.view is not None and image.view.overlay for image in seen)
        self._packed = any(image.view is not None and image.view.packed for image in seen)
        if self._packed:
            # What is kept is how other snapshotters have it.
            self._trees = TreeCache(None, keep=False)
        for image in seen:
            if self._content:
                image.judge = ContentJudge()
            else:
                image.kept = self._trees.find(image.digests, overlay=self._is_overlay(image))
        begun = [image for image in seen if image.kept is None]
        steps = _plan([image for image in begun if image.layers])
        blobs = self._begin(images, begun, steps)
        with spread(self._jobs, self._processes()) as results:
            self._finish(images, begun, steps, results)
            for blob, job in blobs.items():
                self._whole[blob] = not _end_of(results, job).damaged
        if self._distrusted:
            for image in self._distrusted:
                image.kept = None
            ImageCheck(self._content_root, self._trees.unread(), content=False).run(self._distrusted)
        for image in images:
            if image.view is None or (image.unknown and image not in self._distrusted):
                image.damaged = tuple(blob.digest for blob in dict.fromkeys(image.layers) if not self._whole[blob])

    def _begin(self, images: Sequence[Image], begun: Sequence[Image], steps: Sequence[_Step]) -> dict[Descriptor, int]:
        """Add all jobs that can run at once, in the order in which their results are needed; returns jobs by blob."""
        for image in begun:
            if not image.layers:
                self._look(image, 0)
        layers_left, size = len(steps), sum(step.layer.size for step in steps)
        for step in steps:
            roots = [image.view.root for image in step.images if image.view is not None] if self._content else []
            # At the end there are more cores than layers, or there is hardly another layer.
            few = layers_left < cores() or step.layer.size * cores() > size
            threads = cores() > 1 and few and step.layer.size > WORTH_SHARING
            layers_left -= 1
            step.job = self._job(step.layer.size, partial(read_layer, self._content_root, step.layer, roots, threads=threads))
            for image in step.done:
                self._look(image, _WALK_COST * sum(layer.size for layer in image.layers))
        for image in images:
            if image.kept is not None:
                # Each process lists all directories, which is worth it only for the sake of the others.
                self._look(image, _FILE_COST * image.kept.total, parts=cores() if len(images) == 1 else 1)
        read = {step.layer for step in steps}
        blobs = dict.fromkeys(blob for image in images if image.view is None for blob in image.layers if blob not in read)
        return {blob: self._job(_VERIFY_COST * blob.size, partial(verify_blob, self._content_root, blob)) for blob in blobs}

    def _job(self, cost: float, job: Job) -> int:
        self._jobs.append(job)
        self._costs.append(cost)
        return len(self._jobs) - 1

    def _look(self, image: Image, cost: float, *, parts: int = 1) -> None:
        """Add the jobs that read a view. ``parts``: the number of processes that may share it."""
        if image.view is not None:
            parts = parts if cost - cost / parts > WORTH_SHARING else 1
            jobs = [partial(digest_view, image.view.root, part, parts) for part in range(parts)]
            image.jobs = tuple(self._job(cost / parts, job) for job in jobs)

    def _processes(self) -> int:
        shared = sum(self._costs) - max(self._costs, default=0)
        return cores() if shared > WORTH_SHARING else 1

    def _finish(self, images: Sequence[Image], begun: Sequence[Image], steps: Sequence[_Step], results: Results) -> None:
        tree = RootFs(overlay=self._overlay, implied_modes=not self._packed)
        for image in begun:
            if not image.layers:
                self._judge(image, tree, results)
        for step in steps:
            if step.depth == 0:
                step.tree = tree
            self._take(step, results)
        for image in images:
            if image.kept is not None:
                self._judge_kept(image, image.kept, results)

    def _take(self, step: _Step, results: Results) -> None:
        """Put a layer on the tree below, and judge the images that have no more."""
        tree = step.tree.fork() if step.tree is not None and step.fork else step.tree
        target = tree.layer() if tree is not None else None
        end, trouble = EndMessage(damaged=False), ""
        for message in results.of(step.job):
            part = parse_message(message)
            if isinstance(part, EndMessage):
                end = part
            elif target is not None and not trouble:
                trouble = _apply(part, step, target)
        if target is not None and not (end.damaged or end.trouble or trouble):
            trouble = _close(target, step.layer)
        self._whole[step.layer] = not end.damaged
        reason = _UNJUDGED if end.damaged else end.trouble or trouble
        step.tree = None
        if reason or tree is None:
            for image in step.images:
                image.unknown = image.unknown or reason
            return
        for image in step.done:
            self._judge(image, tree, results)
        for above in step.above:
            above.tree = tree

    def _judge(self, image: Image, tree: RootFs, results: Results) -> None:
        if image.view is None:
            return
        found = _digest_of(image, results)
        expected = expected_digest(tree)
        self._walk(image, image.view, tree, right=found == expected)
        if expected is None and image.walk is not None and not image.walk.count:
            expected = found
        overlay = self._is_overlay(image)
        image.total = tree.entries()
        self._trees.save(image.digests, tree, overlay=overlay, total=image.total, digest=expected or "")

    def _walk(self, image: Image, view: View, tree: RootFs, *, right: bool) -> None:
        """Walk a view. ``right``: everything but the bytes of files is known to be correct."""
        judge = image.judge
        image.walk = walk = TreeComparer(view.root, judge.judge if judge is not None else None)
        if not right:
            walk.compare(tree)
        elif judge is not None:
            walk.compare_content(tree, judge.has_to_see)
        if judge is not None and judge.again:
            try:
                self._compare_again(image, view, judge, walk)
            except (DamagedBlobError, ValueError):
                image.unknown = _UNJUDGED

    def _compare_again(self, image: Image, view: View, judge: ContentJudge, walk: TreeComparer) -> None:
        """Compare the files that could not be compared in their place: behind links, or under another name of a hard link."""
        for depth in sorted({layer_of(origin) for origin in judge.again}):
            check = ContentCheck(view.root)
            try:
                with open_layer(self._content_root, image.layers[depth]) as reader:
                    for number, entry in enumerate(reader.entries()):
                        origin = origin_of(depth, number)
                        path = judge.again.get(origin)
                        if path is not None:
                            compare_content([check], tuple(path.split(b"/")), entry.size, number, reader.content(entry))
                            judge.note(origin, "", None)
                            for outcome in check.take_outcomes():
                                judge.note(origin, outcome.problem, outcome.inode)
                            problem = judge.judge_again(origin)
                            if problem:
                                walk.report(path, problem, depth)
            finally:
                check.close()

    def _judge_kept(self, image: Image, kept: TreeCacheEntry, results: Results) -> None:
        """Compare an image with the cached tree of an earlier run, without its blobs."""
        found = _digest_of(image, results)
        image.total = kept.total
        image.damaged = tuple(blob.digest for blob in dict.fromkeys(image.layers) if not has_its_size(self._content_root, blob))
        if image.view is None:
            return
        if found == kept.digest:
            image.walk = TreeComparer(image.view.root)
            return
        try:
            tree = kept.tree()
        except ValueError:
            self._distrusted.append(image)
            return
        self._walk(image, image.view, tree, right=False)
        if not kept.digest and image.walk is not None and not image.walk.count:
            self._trees.save_digest(image.digests, kept, found)

    def _is_overlay(self, image: Image) -> bool:
        """Return whether it matters: of a single layer, there is nothing to lay over each other."""
        return self._overlay and len(image.layers) > 1


def _plan(images: Sequence[Image]) -> list[_Step]:
    """Plan the reading, each layer once for all images that have it and the same layers below."""
    steps = []
    pending = _above(0, images)
    while pending:
        step = pending.pop()
        step.above = _above(step.depth + 1, [image for image in step.images if len(image.layers) > step.depth + 1])
        steps.append(step)
        pending.extend(step.above)
    return steps


def _above(depth: int, images: Sequence[Image]) -> list[_Step]:
    groups: dict[Descriptor, list[Image]] = {}
    for image in images:
        groups.setdefault(image.layers[depth], []).append(image)
    # Done from the last to the first, which then has the tree for itself.
    return [_Step(depth, layer, group, number > 0) for number, (layer, group) in enumerate(groups.items())]


def _apply(part: EntriesMessage, step: _Step, target: Layer) -> str:
    """Add entries to a layer, and note what was found of their content; returns why that can't be, else nothing."""
    judges = [image.judge for image in step.images if image.judge is not None]
    for judge, outcomes in zip(judges, part.outcomes):
        for outcome in outcomes:
            judge.note(origin_of(step.depth, outcome.entry), outcome.problem, outcome.inode)
    try:
        # Without contents, it is of no interest which entry of the layer it was; and one number takes less memory.
        origin = origin_of(step.depth, 0)
        for number, entry in enumerate(part.entries, part.first):
            if judges:
                origin = origin_of(step.depth, number)
            path = target.add(entry, origin)
            if path and judges and path != clean(entry.name):
                # It was compared where its name leads without links.
                for judge in judges:
                    judge.note(origin, None, None)
    except ValueError as error:
        return f"layer {step.layer.digest}: {error}"
    return ""


def _close(target: Layer, layer: Descriptor) -> str:
    try:
        target.finish()
    except ValueError as error:
        return f"layer {layer.digest}: {error}"
    return ""


def _digest_of(image: Image, results: Results) -> str:
    digest = TreeDigest()
    for job in image.jobs:
        for part in results.of(job):
            digest.add(part)
    return digest.hexdigest()


def _end_of(results: Results, job: int) -> EndMessage:
    end = EndMessage(damaged=False)
    for message in results.of(job):
        part = parse_message(message)
        if isinstance(part, EndMessage):
            end = part
    return end
