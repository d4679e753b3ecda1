# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshots that a namespace has in one snapshotter."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import ContentStore
from ansible_collections.slipway.node.plugins.module_utils.store.host.leases import Leases
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import ids_in
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot, parse_snapshots

# What containerd says when it meets a directory that it doesn't know: overlay.go and native.go, createSnapshot.
ALREADY_EXISTS = "file exists"
# What it says of snapshots that another stands on: core/metadata.
_HAS_CHILD = "cannot remove snapshot with child"
_PARENT_MISSING = "parent snapshot"
_ATTEMPTS = 3
_PROBE = "slipway-probe"
_SNAPSHOT_ID = re.compile(r"/snapshots/(\d+)(?:/fs)?\s")


class Snapshots:
    """containerd core/snapshots. Raises HostError where the daemon refuses."""

    def __init__(self, ctr: NamespaceCtr, snapshotter: str, content: ContentStore, leases: Leases) -> None:
        self._ctr = ctr
        self._snapshotter = snapshotter
        self._content = content
        self._leases = leases

    def all(self) -> dict[str, Snapshot]:
        """Return every snapshot by key, also those that aren't layers."""
        doing = f"ask containerd for the snapshots of {self._snapshotter}"
        stdout = self._ask("ls", doing=doing)
        try:
            return parse_snapshots(stdout)
        except ValueError as error:
            raise HostError(f"cannot {doing}: {error}") from error

    def layers(self) -> frozenset[str]:
        """Return the chain IDs of the layers that are unpacked."""
        return frozenset(key for key, one in self.all().items() if one.is_layer and key.startswith("sha256:"))

    def unpack(self, digest: str) -> None:
        """Unpack again what snapshots of an image are missing, from its blobs; for the node's own platform."""
        arguments = ("snapshots", "unpack", "--snapshotter", self._snapshotter, oci.digest(digest))
        for attempt in range(_ATTEMPTS):
            try:
                self._ctr.ask(*arguments, doing=f"unpack the image {digest}")
            except HostError as error:
                # As long as the image has no topmost layer, garbage collection takes the others, also while this goes on.
                if _PARENT_MISSING not in str(error) or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def remove(self, key: str) -> None:
        """Remove a snapshot; also one that is gone already. Raises HostError if another stands on it."""
        arguments = ("snapshots", "--snapshotter", self._snapshotter, "rm", key)
        self._ctr.ensure_gone(*arguments, doing=f"remove the snapshot {key}")

    def remove_all(self, keys: Iterable[str]) -> None:
        """Remove snapshots, children first. Raises HostError if one has to stay because of something that isn't among them."""
        keys, stuck = tuple(keys), False
        for key in keys:
            try:
                self.remove(key)
            except HostError as error:
                if _HAS_CHILD not in str(error):
                    raise
                stuck = True
        if stuck:
            self._collect(frozenset(keys))

    def _collect(self, keys: frozenset[str]) -> None:
        """Remove snapshots with containerd's garbage collection that ``ctr snapshots rm`` can't remove.

        A child that was collected stays among the children of its parent for ever (core/metadata/gc.go, remove), which then
        can't be removed but by the garbage collection. What an image needs of a snapshotter is a label of its config.
        """
        self._content.release_snapshots(self._snapshotter, keys)
        self._leases.collect_garbage()
        left = sorted(keys.intersection(self.all()))
        if left and self._leases.remove_those_of_pulls():
            self._leases.collect_garbage()
            left = sorted(keys.intersection(self.all()))
        if left:
            raise HostError(
                f"cannot remove the snapshots {', '.join(left)}: other snapshots are based on them, or a lease protects them"
            )

    def latest_id(self) -> int:
        """Return the id that containerd has given last: that of a snapshot that is made to see it.

        Raises HostError if it has none.
        """
        shown = self._probe()
        found = _SNAPSHOT_ID.search(shown)
        if found is None:
            raise HostError(f"cannot read the id of a snapshot from {shown!r}")
        return int(found[1])

    def remove_orphan_directories(self, directory: str) -> None:
        """Get rid of what a snapshotter doesn't know any more: its directories' names reach the disk without its own record.

        It would meet them one by one, each when it gives that id to a new snapshot, and fail with "file exists". ``directory``
        is where it keeps its snapshots; nothing is done if these aren't named by their ids.
        """
        highest = max(ids_in(directory), default=0)
        for _attempt in range(highest):
            try:
                shown = self._probe()
            except HostError as error:
                if ALREADY_EXISTS in str(error):
                    continue  # it is removed now
                raise
            found = _SNAPSHOT_ID.search(shown)
            if found is None or int(found[1]) >= highest:
                return

    def _probe(self) -> str:
        """Return the mounts of a new, empty snapshot, which is removed again."""
        if _PROBE in self.all():
            self.remove(_PROBE)  # a killed run's
        self._ask("prepare", _PROBE, doing="create a snapshot")
        try:
            return self._ask("mounts", "/", _PROBE, doing="ask for a snapshot's mounts")
        finally:
            self.remove(_PROBE)

    def _ask(self, *arguments: str, doing: str) -> str:
        return self._ctr.ask("snapshots", "--snapshotter", self._snapshotter, *arguments, doing=doing)
