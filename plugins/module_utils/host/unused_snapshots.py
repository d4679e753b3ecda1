# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of snapshotters that nothing uses: listed, and removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.images import ImageStore, Reference
from ansible_collections.slipway.node.plugins.module_utils.host.snapshotter_switch import snapshot_usage
from ansible_collections.slipway.node.plugins.module_utils.model.settings import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.model.unused_snapshots import UnusedSnapshots, unused_snapshots


class SnapshotCleanup:
    """The snapshots of one daemon. ``keep`` are snapshotters that count as used. Raises HostError."""

    def __init__(self, containerd: Containerd, keep: Iterable[str]) -> None:
        self._containerd = containerd
        config, loaded = containerd.config, containerd.loaded_snapshotters
        used = {config.default_snapshotter, *keep, *(handler.snapshotter for handler in config.handlers.values())}
        self._used = [name for name in loaded if name in used]
        self._unused = [name for name in loaded if name not in used and name in BUILTIN_SNAPSHOTTERS]

    def find(self, namespaces: Sequence[str]) -> list[UnusedSnapshots]:
        """Return what unused snapshotters hold, one entry for each snapshotter and namespace that has snapshots."""
        found = [self._find(namespace, snapshotter) for snapshotter in self._unused for namespace in namespaces]
        return [one for one in found if one is not None]

    def _find(self, namespace: str, snapshotter: str) -> UnusedSnapshots | None:
        store = self._containerd.store(namespace)
        snapshots = store.all_snapshots(snapshotter)
        if not snapshots:
            return None
        usage = snapshot_usage(self._containerd.ctr, namespace, snapshotter)
        elsewhere = frozenset[str]().union(*map(store.snapshots, self._used))
        return unused_snapshots(snapshotter, namespace, snapshots, usage, elsewhere)

    def users(self, found: UnusedSnapshots) -> list[str]:
        """Return for people which snapshots keep others."""
        store = self._containerd.store(found.namespace)
        return [
            f"the layers up to {key}, which no snapshotter in use has" if key.startswith("sha256:") else store.described_user(key)
            for key in found.users
        ]

    def remove(self, found: UnusedSnapshots) -> None:
        """Remove the layers that nothing needs. Raises HostError if something has come to need one meanwhile."""
        store = self._containerd.store(found.namespace)
        blobs, going = store.blobs(), frozenset(found.keys)
        for one in store.references():
            # When it is unpacked for this snapshotter again, that may not be brought to disk.
            if found.snapshotter in one.synced and not self._stays(store, one, blobs, going):
                store.unmark_synced(one.name, found.snapshotter)
        store.remove_snapshots(found.snapshotter, found.keys)

    def _stays(self, store: ImageStore, reference: Reference, blobs: frozenset[str], going: frozenset[str]) -> bool:
        try:
            return going.isdisjoint(store.content(reference, self._containerd.platform, blobs).config.chain_ids)
        except (ValueError, HostError):
            return False
