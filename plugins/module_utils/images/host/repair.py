# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpack images again that differ from their layers, and clean up after power cuts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import ImageComparer, ReadableImage
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import INTACT, Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import is_whole
from ansible_collections.slipway.node.plugins.module_utils.store.reference import is_staged
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import plan_removal

# The outcomes of a repair, besides INTACT.
REPAIRED = "repaired"
UNPACKED = "unpacked"
RECREATED = "recreated"
FAILED = "failed"
# An image under a staged name, or layers without an image: it has to be pulled again, if it is still wanted.
DISCARDED = "discarded"


@dataclass(frozen=True)
class RepairResult:
    """The outcome of an image; ``reason`` is one sentence with the damage, empty if the image is intact."""

    name: str
    outcome: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the return values of a module."""
        return {"name": self.name, "outcome": self.outcome, "reason": self.reason}


class ImageRepairer:
    """Works on the namespace and snapshotter of ``comparer``. Raises HostError where containerd fails."""

    def __init__(self, comparer: ImageComparer) -> None:
        self.comparer = comparer
        self._store = comparer.store
        self._snapshots = comparer.store.snapshots(comparer.snapshotter)

    def recover(self, lost: Iterable[Pull]) -> tuple[RepairResult, ...]:
        """Compare every layer that was unpacked during these pulls or later, after a power cut, and repair those that differ.

        Suspect layers without an image are removed as well.
        """
        self.sweep()
        lost = tuple(lost)
        self._drop_damaged(frozenset(blob for pull in lost for blob in self._store.content.digests().difference(pull.blobs)))
        suspects = frozenset(key for pull in lost for key in self._snapshots.layers().difference(pull.before))
        known = self.comparer.readable()
        layers = {name: suspects.intersection(image.chain) for name, image in known.items()}
        compared = self.comparer.compare_images({name: image for name, image in known.items() if layers[name]})
        # An image whose state is unknown counts as lost.
        damaged = {name: reason for name, comparison in compared.items() if (reason := comparison.summary())}
        self._store.content.remove({blob for comparison in compared.values() for blob in comparison.damaged_blobs})
        without_image = suspects.difference(*layers.values())
        unwanted = without_image.union(*(layers[name] for name in damaged))
        repaired = self._replace(known, unwanted, {name: damaged.get(name, "") for name in compared}, unpacking=True)
        if without_image:
            stuck = without_image.intersection(self._snapshots.layers())
            reason = "other snapshots depend on them: remove those, and run this again" if stuck else ""
            repaired = (*repaired, RepairResult("layers without an image", FAILED if stuck else DISCARDED, reason))
        return repaired

    def in_use(self, compared: Mapping[str, Comparison]) -> dict[str, tuple[str, ...]]:
        """Return the users of layers that would have to be unpacked again, by the name of each image with such layers."""
        from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import is_view  # noqa: PLC0415

        known = self.comparer.readable()
        # A view that is still there belongs to a killed run, and is swept before anything is removed.
        snapshots = {key: snapshot for key, snapshot in self._snapshots.all().items() if not is_view(key)}
        found = {}
        for name, comparison in compared.items():
            if comparison.differences and name in known:
                root = known[name].chain[comparison.lowest]
                removal = plan_removal(snapshots, [root])
                if root in snapshots and root not in removal.keys:
                    found[name] = tuple(self._store.containers.describe(key) for key in removal.users)
        return found

    def repair(self, compared: Mapping[str, Comparison]) -> tuple[RepairResult, ...]:
        """Unpack again the images whose files differ, and all images that share their layers. Their blobs have to be whole."""
        results: dict[str, RepairResult] = {name: RepairResult(name, INTACT) for name in compared}
        pending = {name: comparison for name, comparison in compared.items() if comparison.differences}
        # First the lowest layer with differences and all above it; if the image still differs, all of its layers.
        for whole in (False, True):
            known = self.comparer.readable()
            roots = {known[name].chain[0 if whole else one.lowest] for name, one in pending.items() if name in known}
            if not roots:
                break
            for result in self._replace(known, roots, {name: found.summary() for name, found in pending.items()}):
                results[result.name] = result
            pending = {name: one for name, one in pending.items() if results[name].outcome == FAILED and one.lowest}
        return tuple(results.values())

    def sweep(self) -> None:
        """Remove the views that killed runs left."""
        from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import sweep_views  # noqa: PLC0415

        sweep_views(self.comparer.ctr, self.comparer.namespace, self.comparer.snapshotter)

    def _drop_damaged(self, blobs: Iterable[str]) -> None:
        """Delete blobs that don't match their digest, so that they are fetched again."""
        self._store.content.remove([digest for digest in blobs if not is_whole(self.comparer.content_root, digest)])

    def _replace(
        self, known: Mapping[str, ReadableImage], unwanted: Iterable[str], reasons: Mapping[str, str], *, unpacking: bool = False
    ) -> tuple[RepairResult, ...]:
        """Remove layers and all snapshots on them, then unpack the images again that lack layers.

        ``reasons``: by the name of each compared image, the differences, empty if there are none. ``unpacking``: no pull is
        going on, so the snapshots of interrupted ones are removed.
        """
        before = self._snapshots.all()
        removal = plan_removal(before, sorted(unwanted), unpacking=unpacking)
        self._keep_others(known.values(), frozenset(before).difference(removal.keys), frozenset(removal.keys))
        self._snapshots.remove_all(removal.keys)
        left = self._snapshots.layers()
        lacking = {name for name, one in known.items() if set(removal.keys).intersection(one.chain) and one.chain[-1] not in left}
        outcomes = {name: self._unpack(known[name], reasons.get(name, ""), dropping=unpacking) for name in sorted(lacking)}
        again = self.comparer.compare_images({name: known[name] for name, one in outcomes.items() if one.outcome == UNPACKED})
        users = tuple(map(self._store.containers.describe, removal.users))
        return tuple(
            self._result(outcomes.get(name), name, again.get(name), reasons.get(name, ""), users)
            for name in known
            if name in outcomes or name in reasons
        )

    def _keep_others(self, images: Iterable[ReadableImage], staying: Set[str], going: Set[str]) -> None:
        """Keep the lower layers of images that lose others.

        Garbage collection would take them as soon as the topmost layer is gone, and all would be unpacked again.
        """
        for image in images:
            lower = tuple(takewhile(staying.__contains__, image.chain))
            if lower and not going.isdisjoint(image.chain):
                config = image.content.manifest.config.digest
                self._store.content.keep_snapshot(config, self.comparer.snapshotter, lower[-1])

    def _unpack(self, image: ReadableImage, reason: str, *, dropping: bool) -> RepairResult:
        name = image.reference.name
        if dropping and is_staged(name):
            return RepairResult(name, DISCARDED, reason)
        reason = reason or "it shares layers with an image that isn't intact"
        try:
            self._snapshots.unpack(image.reference.digest)
        except HostError as error:
            return RepairResult(name, DISCARDED, f"{reason}; {error}")
        return RepairResult(name, UNPACKED, reason)

    @staticmethod
    def _result(
        unpacked: RepairResult | None, name: str, again: Comparison | None, reason: str, users: Sequence[str]
    ) -> RepairResult:
        """Return the result for an image: ``unpacked`` if it was unpacked again, and ``again`` the comparison after that."""
        if unpacked is None:
            reasons = filter(None, (reason, in_use_message(users)))
            return RepairResult(name, FAILED, "; ".join(reasons)) if reason else RepairResult(name, INTACT)
        if again is not None and again.damaged:
            return RepairResult(name, FAILED, f"unpacked again, and still: {again.summary()}")
        return unpacked


def in_use_message(users: Sequence[str]) -> str:
    """Return what has to be stopped before an image can be repaired; empty if nothing uses it."""
    return f"in use by {', '.join(users)}: stop or remove them, and run this again" if users else ""
