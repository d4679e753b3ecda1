# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images whose layers may have been lost: compared with their layers, and unpacked again where they differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.images import Content, ImageStore, Reference, is_whole
from ansible_collections.slipway.node.plugins.module_utils.host.integrity import Comparison, compare_image, sweep_views
from ansible_collections.slipway.node.plugins.module_utils.model.pulls import Pull
from ansible_collections.slipway.node.plugins.module_utils.model.reference import is_staged
from ansible_collections.slipway.node.plugins.module_utils.model.snapshots import plan_removal

INTACT = "intact"
UNPACKED_AGAIN = "unpacked again"
BROKEN = "broken"
# An image under a staged name, or layers without an image: it has to be pulled again, if it is still wanted.
DROPPED = "dropped"


@dataclass(frozen=True)
class Mended:
    """What was found of an image, and what became of it; ``reason`` is one sentence, empty if it is intact."""

    name: str
    outcome: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "outcome": self.outcome, "reason": self.reason}


class Mender:
    """Works on one namespace and snapshotter. Raises HostError where containerd fails."""

    def __init__(self, ctr: Ctr, namespace: str, snapshotter: str, *, content_root: str, platform: str) -> None:
        self._ctr = ctr
        self._namespace = namespace
        self._snapshotter = snapshotter
        self._content_root = content_root
        self._platform = platform
        self._store = ImageStore(ctr, namespace)

    def recover(self, lost: Iterable[Pull]) -> tuple[Mended, ...]:
        """After a power cut: judge every layer that was unpacked during these pulls or later."""
        sweep_views(self._ctr, self._namespace, self._snapshotter)
        lost = tuple(lost)
        self._drop_damaged(frozenset(blob for pull in lost for blob in self._store.blobs().difference(pull.blobs)))
        now = self._store.snapshots(self._snapshotter)
        suspects = frozenset(key for pull in lost for key in now.difference(pull.before))
        return self._mend(suspects, None)

    def check(self, names: Iterable[str]) -> tuple[Mended, ...]:
        """Images that somebody else unpacked, whenever that was; and those that have to be unpacked again with them."""
        sweep_views(self._ctr, self._namespace, self._snapshotter)
        return self._mend(self._store.snapshots(self._snapshotter), frozenset(names))

    def _drop_damaged(self, blobs: Iterable[str]) -> None:
        """Forget what isn't what its digest says, so that it is fetched again."""
        for digest in sorted(blobs):
            if not is_whole(self._content_root, digest):
                self._store.remove_blob(digest)

    def _mend(self, suspects: frozenset[str], names: frozenset[str] | None) -> tuple[Mended, ...]:
        """Of the images of these names, or of all, take the suspect layers away if something is wrong, and unpack again.

        Without names, suspect layers of which no image is known go as well.
        """
        contents = self._contents()
        layers = {name: suspects.intersection(content.config.chain_ids) for name, (_one, content) in contents.items()}
        judged = {name for name, chain in layers.items() if chain and (names is None or name in names)}
        wrong = {name: self._difference(contents[name][1], trust=names is not None) for name in sorted(judged)}
        unwanted = {key for name, reason in wrong.items() if reason for key in layers[name]}
        if names is None:
            unwanted |= suspects.difference(*layers.values())
        users = self._remove(unwanted, unpacking=names is None)
        left = self._store.snapshots(self._snapshotter)
        outcomes = []
        for name, (reference, content) in contents.items():
            chain = content.config.chain_ids
            if name in judged or (unwanted.intersection(chain) and chain[-1] not in left):
                outcomes.append(self._outcome(reference, content, wrong.get(name, ""), users))
        if unwanted and not any(wrong.values()):
            outcomes.append(Mended("layers without an image", BROKEN if users else DROPPED, _kept(users)))
        return tuple(outcomes)

    def _contents(self) -> dict[str, tuple[Reference, Content]]:
        """The images that can be understood, by name; the layers of others belong to none."""
        blobs = self._store.blobs()
        found = {}
        for reference in self._store.references():
            try:
                found[reference.name] = (reference, self._store.content(reference, self._platform, blobs))
            except (ValueError, HostError):
                continue
        return found

    def _difference(self, content: Content, *, trust: bool) -> str:
        """What is wrong with it, empty if nothing is; ``trust``: what can't be told is taken to be right."""
        found = self._compare(content)
        if trust:
            return _reason(found) if found.differences else ""
        for digest in found.damaged_blobs:
            self._store.remove_blob(digest)
        return _reason(found)

    def _compare(self, content: Content) -> Comparison:
        return compare_image(
            self._ctr,
            namespace=self._namespace,
            snapshotter=self._snapshotter,
            content_root=self._content_root,
            content=content,
        )

    def _remove(self, unwanted: Iterable[str], *, unpacking: bool) -> tuple[str, ...]:
        """Returns what stands on the layers that had to stay."""
        removal = plan_removal(self._store.all_snapshots(self._snapshotter), sorted(unwanted), unpacking=unpacking)
        self._store.remove_snapshots(self._snapshotter, removal.keys)
        return removal.users

    def _outcome(self, reference: Reference, content: Content, reason: str, users: tuple[str, ...]) -> Mended:
        name = reference.name
        if is_staged(name):
            return Mended(name, DROPPED if reason else INTACT, reason)
        if not reason and content.config.chain_ids[-1] in self._store.snapshots(self._snapshotter):
            return Mended(name, INTACT)
        reason = reason or "it shares layers with an image that isn't intact"
        try:
            self._store.unpack(self._snapshotter, reference.digest)
        except HostError as error:
            return Mended(name, DROPPED, f"{reason}; {error}")
        again = self._compare(content)
        if again.differences or again.damaged_blobs:
            return Mended(name, BROKEN, "; ".join(filter(None, (_reason(again), _kept(users)))))
        return Mended(name, UNPACKED_AGAIN, reason)


def _kept(users: tuple[str, ...]) -> str:
    return f"in use by {', '.join(users)}: stop what runs on them, and run this again" if users else ""


def _reason(found: Comparison) -> str:
    """Why it isn't certainly intact; empty if it is."""
    if found.differences:
        first = found.differences[0]
        return f"{found.count} of its {found.total} files are not as in its layers, such as {first.path}: {first.problem}"
    if found.damaged_blobs:
        return f"missing or damaged in the content store: {', '.join(found.damaged_blobs)}"
    return found.unknown
