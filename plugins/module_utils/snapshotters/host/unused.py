# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""List and remove the snapshots of unused snapshotters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.migration import snapshot_usage
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.unused import UnusedSnapshots, unused_snapshots
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore


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
        store = NamespaceStore(self._containerd.ctr, namespace)
        snapshots = store.snapshots(snapshotter).all()
        if not snapshots:
            return None
        usage = snapshot_usage(self._containerd.ctr, namespace, snapshotter)
        elsewhere = frozenset[str]().union(*(store.snapshots(name).layers() for name in self._used))
        return unused_snapshots(snapshotter, namespace, snapshots, usage, elsewhere)

    def users(self, found: UnusedSnapshots) -> list[str]:
        """Return for people which snapshots keep others."""
        store = NamespaceStore(self._containerd.ctr, found.namespace)
        return [
            f"the layers up to {key}, which no snapshotter in use has"
            if key.startswith("sha256:")
            else store.containers.describe(key)
            for key in found.users
        ]

    def remove(self, found: UnusedSnapshots) -> None:
        """Remove the layers that nothing needs. Raises HostError if something has come to need one meanwhile."""
        store = NamespaceStore(self._containerd.ctr, found.namespace)
        blobs, going = store.content.digests(), frozenset(found.keys)
        for one in store.images.references():
            # When it is unpacked for this snapshotter again, that may not be brought to disk.
            if found.snapshotter in one.synced and not self._stays(store, one, blobs, going):
                store.images.unmark_synced(one.name, found.snapshotter)
        store.snapshots(found.snapshotter).remove_all(found.keys)

    def _stays(self, store: NamespaceStore, reference: Reference, blobs: frozenset[str], going: frozenset[str]) -> bool:
        try:
            return going.isdisjoint(store.images.read(reference, self._containerd.platform, blobs).config.chain_ids)
        except (ValueError, HostError):
            return False
