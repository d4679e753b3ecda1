# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Expected images, and their state on the node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.durability import DURABLE
from ansible_collections.slipway.node.plugins.module_utils.core.options import one_line, plain_name
from ansible_collections.slipway.node.plugins.module_utils.store import reference


@dataclass(frozen=True)
class ExpectedImage:
    """An image that should be there. None: the daemon's own snapshotter, the node's own platform."""

    name: str
    namespace: str
    snapshotter: str | None = None
    platform: str | None = None

    @classmethod
    def several(cls, entries: Iterable[Mapping[str, Any]]) -> tuple[ExpectedImage, ...]:
        """Parse the module's option ``images``, each image once. Raises ValueError that names the option."""
        found = []
        for entry in entries:
            namespace = plain_name("images.namespace", entry["namespace"])
            if entry["snapshotter"] is not None:
                plain_name("images.snapshotter", entry["snapshotter"])
            if entry["platform"] is not None:
                one_line("images.platform", entry["platform"])
            for name in entry["name"]:
                try:
                    spelled_out = str(reference.parse(name).within(namespace))
                except ValueError as error:
                    raise ValueError(f"images.name: {error}") from error
                found.append(cls(spelled_out, namespace, entry["snapshotter"], entry["platform"]))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class FoundImage:
    """An expected image as the node has it, for one snapshotter.

    ``problem`` is its fault, ``trouble`` why something is unknown; both are empty for an image without faults.
    ``synced``: it is known to have been brought to disk. ``durability`` is what that means for the snapshotter.
    """

    name: str
    namespace: str
    problem: str = ""
    trouble: str = ""
    synced: bool = True
    durability: str = DURABLE


@dataclass(frozen=True)
class JudgedImage:
    """An image that was compared with its layers: its damage, and what is unknown; both empty if it is intact.

    ``snapshotter`` is the one that it is unpacked for, empty if that is the daemon's default.
    """

    name: str
    namespace: str
    damage: str = ""
    unknown: str = ""
    snapshotter: str = ""

    def __str__(self) -> str:
        of = f" ({self.snapshotter})" if self.snapshotter else ""
        return f"{self.name} in {self.namespace}{of}"
