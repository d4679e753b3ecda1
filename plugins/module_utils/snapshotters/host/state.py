# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the state of the node's snapshotters for node_verify."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.stranded import StrandedImage
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import ids_in, snapshotter_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore

_CRI_NAMESPACE = "k8s.io"
# Label of an image's config, by snapshotter: its topmost layer's snapshot. core/unpack and client/image.go.
_UNPACKED = re.compile(r"containerd\.io/gc\.ref\.snapshot\.([\w.-]+)=(sha256:[0-9a-f]{64})")


def plugin_reasons(ctr: Ctr, states: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return why some of the named snapshotters aren't ok, in the daemon's words."""
    return {name: ctr.plugin_reason(name) for name in names if name in states and states[name] != "ok"}


def stranded(ctr: Ctr, config: EffectiveConfig, loaded: Iterable[str]) -> tuple[StrandedImage, ...]:
    """Return CRI's images that are unpacked only for snapshotters that nothing uses. Raises HostError."""
    used = config.used_snapshotters
    loaded = list(loaded)
    idle = [name for name in loaded if name in BUILTIN_SNAPSHOTTERS and name not in used and _may_hold(ctr, name)]
    if not used or not idle:
        return ()
    store = NamespaceStore(ctr, _CRI_NAMESPACE)
    there = {name: store.snapshots(name).layers() for name in (*idle, *(name for name in used if name in loaded))}
    found = []
    for digest, labels in store.content.labels().items():
        # What a snapshotter has that isn't loaded can't be seen: it is taken to have what it is said to.
        unpacked = {
            name
            for name, chain in _UNPACKED.findall(labels)
            if (name in used and name not in there) or chain in there.get(name, ())
        }
        if unpacked and not unpacked.intersection(used):
            found.append(StrandedImage(digest, tuple(sorted(unpacked))))
    return tuple(_named(store, found)) if found else ()


def _may_hold(ctr: Ctr, name: str) -> bool:
    """Return whether a snapshotter may have snapshots, by its directories, which devmapper and zfs lack."""
    directory = os.path.join(snapshotter_root(ctr, name), "snapshots")
    return not os.path.isdir(directory) or bool(ids_in(directory))


def _named(store: NamespaceStore, found: Iterable[StrandedImage]) -> Iterable[StrandedImage]:
    """Return each image under its readable name; CRI also names it by the digest of its config."""
    references = {one.name: one.digest for one in store.images.references()}
    for one in found:
        target = references.get(one.name)
        names = sorted(name for name, digest in references.items() if digest == target and name != one.name)
        if target is not None:
            yield StrandedImage(names[0] if names else one.name, one.snapshotters)
