# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listing toolboxes: the run of the module toolbox_snapshot_info."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import mounted_on_demand
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.leases import plain_path
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.state import NodeMounts, WritableSnapshots, enabled_units
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import (
    WritableSnapshot,
    is_below,
    is_prunable,
    parse_duration,
    risk_of,
)

OPTIONS: Mapping[str, Any] = {
    "namespace": {"type": "str", "default": "default"},
    "snapshotter": {"type": "str"},
    "path_prefix": {"type": "path", "default": "/var/lib/toolbox"},
    "listed_paths": {"type": "list", "elements": "path"},
    "prune_after": {"type": "str"},
    **Containerd.OPTIONS,
}
RULES: Mapping[str, Any] = {"required_by": {"prune_after": ("listed_paths",)}}


class ImageIndex:
    """The topmost layers of a namespace's images, read one after the other as far as they are needed."""

    def __init__(self, store: NamespaceStore, platform: str) -> None:
        self._store = store
        self._platform = platform
        self._references = {one.name: one for one in store.images.references()}
        self._blobs = store.content.digests() if self._references else frozenset()
        self._known: dict[str, str | None] = {}

    def name_of(self, chain_id: str) -> str | None:
        """Return the image of a topmost layer; None if there is none."""
        tagged = sorted(name for name in self._references if "@sha256:" not in name)
        return next((name for name in tagged if chain_id and self.of(name) == chain_id), None)

    def of(self, name: str) -> str | None:
        """Return the topmost layer of an image, empty if it has none; None if it is missing or unreadable."""
        if name not in self._known:
            self._known[name] = self._read(name) if name in self._references else None
        return self._known[name]

    def _read(self, name: str) -> str | None:
        try:
            chain = self._store.images.read(self._references[name], self._platform, self._blobs).config.chain_ids
        except (ValueError, HostError):
            return None
        return chain[-1] if chain else ""


def described(held: WritableSnapshot, chains: ImageIndex) -> dict[str, Any]:
    """Return what containerd knows of a toolbox."""
    chain = chains.of(held.image) if held.image else None
    return {
        "key": held.key,
        "path": held.path,
        "image": held.image or chains.name_of(held.parent),
        "image_drift": chain != held.parent if chain is not None else None,
        "parent": held.parent,
        "created": held.created,
        "pinned": held.pinned,
        "mounted": held.mounted,
        "lease": held.lease.id if held.lease else None,
        "lease_expires": (held.lease.expires or None) if held.lease else None,
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """List the toolboxes of the node."""
    params = module.params
    containerd = Containerd.from_module(module)
    absolute_path("path_prefix", params["path_prefix"])
    namespace = plain_name("namespace", params["namespace"])
    listed = params["listed_paths"]
    listed_paths = None if listed is None else {plain_path(absolute_path("listed_paths", one)) for one in listed}
    age = None if params["prune_after"] is None else parse_duration("prune_after", params["prune_after"])
    containerd.check_installed()
    snapshotter = plain_name("snapshotter", params["snapshotter"] or containerd.config.default_snapshotter)
    loaded = containerd.loaded_snapshotters
    if snapshotter not in loaded:
        raise HostError(f"the daemon has no snapshotter {snapshotter}: use one of {', '.join(loaded)}")
    mounts = NodeMounts()
    snapshots = WritableSnapshots(containerd.ctr, mounts, mounted_on_demand(containerd.version))
    everything = snapshots.all(loaded)
    own = [one for one in everything if (one.namespace, one.snapshotter) == (namespace, snapshotter)]
    found = sorted((one for one in own if is_below(one.path, params["path_prefix"])), key=lambda one: (one.path, one.key))
    enabled = enabled_units(containerd.runner, [one.path for one in found])
    chains = ImageIndex(NamespaceStore(containerd.ctr, namespace), containerd.platform) if found else None
    toolboxes = []
    for one in found:
        is_listed = None if listed_paths is None else one.path in listed_paths
        toolboxes.append(
            {
                **(described(one, chains) if chains else {}),
                "size_bytes": snapshots.size(one),
                "listed": is_listed,
                "prunable": is_prunable(one, bool(is_listed), age, time.time()),
                "unit_enabled": enabled.get(one.path, False),
            }
        )
    return {
        "changed": False,
        "toolboxes": toolboxes,
        "at_risk": [risk.to_dict() for risk in map(risk_of, everything) if risk is not None],
        "stale_mounts": list(mounts.lost()),
        "errors": list(dict.fromkeys(snapshots.trouble)),
        "snapshotter": snapshotter,
    }
