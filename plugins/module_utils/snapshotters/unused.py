# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshots of unused snapshotters, and those that can be removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import BLOCKFILE
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot, is_unpacking, plan_removal


@dataclass(frozen=True)
class UnusedSnapshots:
    """The snapshots of an unused snapshotter in a namespace.

    ``keys`` can be removed, children first; ``users`` are the snapshots because of which others of its ``layers`` stay.
    ``size`` is the bytes of everything that it holds, ``removable`` those of ``keys``.
    """

    snapshotter: str
    namespace: str
    layers: int
    size: int
    keys: tuple[str, ...]
    removable: int
    users: tuple[str, ...]

    def to_dict(self, users: Sequence[str]) -> dict[str, Any]:
        return {
            "snapshotter": self.snapshotter,
            "namespace": self.namespace,
            "layers": self.layers,
            "size_bytes": self.size,
            "removable_layers": len(self.keys),
            "removable_bytes": self.removable,
            "used_by": list(users),
        }


def unused_snapshots(
    snapshotter: str, namespace: str, snapshots: Mapping[str, Snapshot], usage: Mapping[str, int], elsewhere: Set[str]
) -> UnusedSnapshots | None:
    """Return None if the namespace has no snapshots there. Snapshots that aren't layers of images, and their parents, are in use.

    ``elsewhere`` are the chain IDs of the layers that snapshotters in use have. A layer that isn't among them may be all that is
    left of an image, or some lease's.
    """
    if not snapshots:
        return None
    usage = {key: _whole_size(key, snapshots, usage) for key in usage} if snapshotter == BLOCKFILE else usage
    layers = [key for key, one in snapshots.items() if _is_layer(key, one)]
    going = {key for key in layers if key in elsewhere}
    judged = {key: one if key in going or is_unpacking(key) else replace(one, kind="Active") for key, one in snapshots.items()}
    removal = plan_removal(judged, sorted(going))
    below = {snapshots[key].parent for key in layers if key not in going}
    return UnusedSnapshots(
        snapshotter,
        namespace,
        len(layers),
        sum(usage.values()),
        removal.keys,
        sum(usage.get(key, 0) for key in removal.keys),
        tuple(sorted(key for key, one in judged.items() if not one.is_layer and key not in below)),
    )


def _whole_size(key: str, snapshots: Mapping[str, Snapshot], usage: Mapping[str, int]) -> int:
    """Return the size of a snapshot with its parents: blockfile reports only the difference, although it shares no blocks."""
    size = 0
    while key in snapshots:
        size += usage.get(key, 0)
        key = snapshots[key].parent
    return size


def _is_layer(key: str, snapshot: Snapshot) -> bool:
    return snapshot.is_layer and key.startswith("sha256:")
