# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images compared with their layers, and unpacked again where they differ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import GONE, Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import Comparison, compare_images, sweep_views
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import is_view
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import METADATA
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import DamagedDocumentError, is_whole
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Content, Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.image_names import canonical_names
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Manifest
from ansible_collections.slipway.node.plugins.module_utils.store.reference import is_staged
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import plan_removal

# What comparing an image with its layers comes to.
INTACT = "intact"
DAMAGED = "damaged"
UNKNOWN = "unknown"
# What becomes of images.
REPAIRED = "repaired"
UNPACKED_AGAIN = "unpacked"
MADE_ANEW = "recreated"
BROKEN = "failed"
_DISCARDED = "its layers were discarded when they had been unpacked, so that there is nothing to compare it with"
# An image under a staged name, or layers without an image: it has to be pulled again, if it is still wanted.
DROPPED = "discarded"


@dataclass(frozen=True)
class Mended:
    """What was found of an image, and what became of it; ``reason`` is one sentence, empty if it is intact."""

    name: str
    outcome: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "outcome": self.outcome, "reason": self.reason}


@dataclass(frozen=True)
class _Known:
    """An image that can be understood."""

    reference: Reference
    content: Content

    @property
    def chain(self) -> tuple[str, ...]:
        return self.content.config.chain_ids


class Mender:
    """Works on one namespace and snapshotter. Raises HostError where containerd fails.

    ``trees``: directory where expected trees are kept.
    """

    def __init__(
        self,
        ctr: Ctr,
        namespace: str,
        snapshotter: str,
        *,
        content_root: str,
        platform: str,
        level: str = METADATA,
        trees: str | None = None,
    ) -> None:
        self._ctr = ctr
        self._namespace = namespace
        self._snapshotter = snapshotter
        self._content_root = content_root
        self._platform = platform
        self._level = level
        self._trees = trees
        self._store = NamespaceStore(ctr, namespace)

    def recover(self, lost: Iterable[Pull]) -> tuple[Mended, ...]:
        """After a power cut: judge every layer that was unpacked during these pulls or later, and mend what is wrong.

        Suspect layers of which no image is known go as well.
        """
        self.sweep()
        lost = tuple(lost)
        self._drop_damaged(frozenset(blob for pull in lost for blob in self._store.content.digests().difference(pull.blobs)))
        suspects = frozenset(
            key for pull in lost for key in self._store.snapshots(self._snapshotter).layers().difference(pull.before)
        )
        known = self._known()
        layers = {name: suspects.intersection(one.chain) for name, one in known.items()}
        judged = self._compare({name: one for name, one in known.items() if layers[name]})
        # What can't be judged is taken to be lost.
        wrong = {name: reason for name, one in judged.items() if (reason := describe(one))}
        self._store.content.remove({blob for one in judged.values() for blob in one.damaged_blobs})
        unwanted = suspects.difference(*layers.values()).union(*(layers[name] for name in wrong))
        mended = self._replace(known, unwanted, {name: wrong.get(name, "") for name in judged}, unpacking=True)
        nobodys = suspects.difference(*layers.values())
        if nobodys:
            stuck = nobodys.intersection(self._store.snapshots(self._snapshotter).layers())
            reason = "something stands on them: remove that, and run this again" if stuck else ""
            mended = (*mended, Mended("layers without an image", BROKEN if stuck else DROPPED, reason))
        return mended

    def judge(self, names: Iterable[str], *, keep: bool = False) -> dict[str, Comparison]:
        """Compare images of these names, as far as they can be understood; only ``keep`` leaves anything on the node."""
        known = self._known()
        return self._compare({name: known[name] for name in names if name in known}, keep=keep)

    def judge_all(self) -> dict[str, Comparison]:
        """Every image that is unpacked, under one of its names."""
        known, unpacked = self._known(), self._store.snapshots(self._snapshotter).layers()
        names = canonical_names({name: one.reference.digest for name, one in known.items()})
        there = {str(name): known[str(name)] for name in names}
        return self._compare({name: one for name, one in there.items() if not one.chain or one.chain[-1] in unpacked})

    def undescribed(self) -> dict[str, Comparison]:
        """Those whose documents are damaged or can't be read, each under one of its names."""
        blobs, references = self._store.content.digests(), {one.name: one for one in self._store.images.references()}
        found = {}
        for name in map(str, canonical_names({name: one.digest for name, one in references.items()})):
            try:
                self._store.images.read(references[name], self._platform, blobs)
            except DamagedDocumentError as error:
                found[name] = Comparison(damaged_blobs=(error.digest,))
            except HostError as error:
                if GONE not in str(error):
                    found[name] = Comparison(unknown=str(error))
            except ValueError:
                continue  # it is for another platform, or no image
        return found

    def in_use(self, judged: Mapping[str, Comparison]) -> dict[str, tuple[str, ...]]:
        """What stands on layers that would have to be unpacked again, by the name of an image for which that is so."""
        known = self._known()
        # Views are nobody's: one that is still there is a killed run's, and is swept before anything is removed.
        everything = self._store.snapshots(self._snapshotter).all()
        snapshots = {key: one for key, one in everything.items() if not is_view(key)}
        found = {}
        for name, one in judged.items():
            if one.differences and name in known:
                root = known[name].chain[one.lowest]
                removal = plan_removal(snapshots, [root])
                if root in snapshots and root not in removal.keys:
                    found[name] = tuple(self._store.containers.describe(key) for key in removal.users)
        return found

    def repair(self, judged: Mapping[str, Comparison]) -> tuple[Mended, ...]:
        """Unpack those again whose files differ, and whatever shares the layers at fault; their blobs have to be whole."""
        done: dict[str, Mended] = {name: Mended(name, INTACT) for name in judged}
        left = {name: one for name, one in judged.items() if one.differences}
        # The lowest layer at fault and all on it; if that wasn't it, the whole image.
        for lowest in (False, True):
            known = self._known()
            roots = {known[name].chain[0 if lowest else one.lowest] for name, one in left.items() if name in known}
            if not roots:
                break
            for one in self._replace(known, roots, {name: describe(found) for name, found in left.items()}):
                done[one.name] = one
            left = {name: one for name, one in left.items() if done[name].outcome == BROKEN and one.lowest}
        return tuple(done.values())

    def sweep(self) -> None:
        """Remove what killed runs left of their views."""
        sweep_views(self._ctr, self._namespace, self._snapshotter)

    def _drop_damaged(self, blobs: Iterable[str]) -> None:
        """Forget what isn't what its digest says, so that it is fetched again."""
        self._store.content.remove([digest for digest in blobs if not is_whole(self._content_root, digest)])

    def _known(self) -> dict[str, _Known]:
        """The images that can be understood, by name; the layers of others belong to none."""
        blobs = self._store.content.digests()
        found = {}
        for reference in self._store.images.references():
            try:
                found[reference.name] = _Known(reference, self._store.images.read(reference, self._platform, blobs))
            except (ValueError, HostError):
                continue
        return found

    def _compare(self, known: Mapping[str, _Known], *, keep: bool = False) -> dict[str, Comparison]:
        """An image with several names is compared once. What another namespace has of it is not enough."""
        blobs = self._store.content.digests()
        contents = {one.content.manifest: one.content for one in known.values()}
        found = compare_images(
            self._ctr,
            namespace=self._namespace,
            snapshotter=self._snapshotter,
            content_root=self._content_root,
            contents=tuple(contents.values()),
            level=self._level,
            trees=self._trees,
            keep=keep,
        )
        by_manifest = {content: _without_discarded(one, content, blobs) for content, one in zip(contents, found)}
        return {name: by_manifest[one.content.manifest] for name, one in known.items()}

    def _replace(
        self, known: Mapping[str, _Known], unwanted: Iterable[str], reasons: Mapping[str, str], *, unpacking: bool = False
    ) -> tuple[Mended, ...]:
        """Remove layers, with all that stands on them, and unpack the images again that lack layers then.

        ``reasons``: what is wrong with images that were judged, empty if nothing is. ``unpacking``: pulls that were going on
        are not; what they have brought is dropped.
        """
        before = self._store.snapshots(self._snapshotter).all()
        removal = plan_removal(before, sorted(unwanted), unpacking=unpacking)
        self._store.snapshots(self._snapshotter).remove_all(removal.keys)
        left = self._store.snapshots(self._snapshotter).layers()
        lacking = {name for name, one in known.items() if set(removal.keys).intersection(one.chain) and one.chain[-1] not in left}
        outcomes = {name: self._unpack(known[name], reasons.get(name, ""), dropping=unpacking) for name in sorted(lacking)}
        again = self._compare({name: known[name] for name, outcome in outcomes.items() if outcome.outcome == UNPACKED_AGAIN})
        used = tuple(map(self._store.containers.describe, removal.users))
        return tuple(
            self._judged_again(outcomes.get(name), name, again.get(name), reasons.get(name, ""), used)
            for name in known
            if name in outcomes or name in reasons
        )

    def _unpack(self, image: _Known, reason: str, *, dropping: bool) -> Mended:
        name = image.reference.name
        if dropping and is_staged(name):
            return Mended(name, DROPPED, reason)
        reason = reason or "it shares layers with an image that isn't intact"
        try:
            self._store.snapshots(self._snapshotter).unpack(image.reference.digest)
        except HostError as error:
            return Mended(name, DROPPED, f"{reason}; {error}")
        return Mended(name, UNPACKED_AGAIN, reason)

    @staticmethod
    def _judged_again(done: Mended | None, name: str, again: Comparison | None, reason: str, used: Sequence[str]) -> Mended:
        if done is None:
            return Mended(name, BROKEN, "; ".join(filter(None, (reason, kept(used))))) if reason else Mended(name, INTACT)
        if again is not None and (again.differences or again.damaged_blobs):
            return Mended(name, BROKEN, f"unpacked again, and still: {describe(again)}")
        return done


def _without_discarded(found: Comparison, manifest: Manifest, blobs: Set[str]) -> Comparison:
    """What the namespace has given up isn't damaged: containerd's CRI can be set to discard layers that it has unpacked."""
    discarded = frozenset(layer.digest for layer in manifest.layers).difference(blobs)
    if not discarded:
        return found
    damaged = tuple(blob for blob in found.damaged_blobs if blob not in discarded)
    unknown = _DISCARDED if found.unknown and not damaged else found.unknown
    return replace(found, damaged_blobs=damaged, discarded=tuple(sorted(discarded)), unknown=unknown)


def kept(users: Sequence[str]) -> str:
    """What has to be done about what an image is in use by; empty if it isn't."""
    return f"in use by {', '.join(users)}: stop what runs on it, and run this again" if users else ""


def details(found: Comparison) -> dict[str, Any]:
    """For a module's result."""
    wrong = found.differences or found.damaged_blobs
    return {
        "integrity": DAMAGED if wrong else UNKNOWN if found.unknown else INTACT,
        "differences": {one.path: one.problem for one in found.differences},
        "difference_count": found.count,
        "file_count": found.total,
        "damaged_blobs": list(found.damaged_blobs),
        "integrity_reason": found.unknown,
    }


def describe(found: Comparison) -> str:
    """Why an image isn't certainly intact; empty if it is."""
    if found.differences:
        first = found.differences[0]
        return f"{found.count} of its {found.total} files are not as in its layers, such as {first.path}: {first.problem}"
    return describe_blobs(found)


def describe_blobs(found: Comparison) -> str:
    """As above, of its blobs alone."""
    if found.damaged_blobs:
        return f"damaged in the content store: {', '.join(found.damaged_blobs)}"
    return found.unknown


def trees_directory(content_root: str) -> str:
    """Where expected trees are kept: in containerd's own directory, so that they go with the images."""
    return os.path.join(os.path.dirname(content_root), "slipway-trees")
