# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One namespace of the daemon: its images, content, snapshots and leases."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr, NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.store.host.containers import Containers
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import ContentStore
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Images
from ansible_collections.slipway.node.plugins.module_utils.store.host.leases import Leases
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import content_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.snapshots import Snapshots


class NamespaceStore:
    """Its images, blobs, leases and containers, and its snapshots by snapshotter."""

    def __init__(self, ctr: Ctr, name: str) -> None:
        self._ctr = NamespaceCtr(ctr, name)
        self.leases = Leases(self._ctr)
        self.content = ContentStore(self._ctr, self.leases, lambda: content_root(ctr))
        self.images = Images(self._ctr, self.content)
        self.containers = Containers(self._ctr)

    def snapshots(self, snapshotter: str) -> Snapshots:
        """Return the snapshots of one snapshotter."""
        return Snapshots(self._ctr, snapshotter, self.content, self.leases)
