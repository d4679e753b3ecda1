# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writable snapshots without a container: their protection from garbage collection, and those that aren't listed."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.store.leases import Lease, parse_time, plain_path
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import IMAGE_LABEL, MOUNTED, PIN_LABEL

_DURATION = re.compile(r"(\d{1,6})([smhdw])\Z")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class WritableSnapshot:
    """A writable snapshot that no container has, by its path if its key is one. ``mount_points`` None: unknown.

    ``lease`` is the one that is made for it, the longest lasting if there are several; ``others`` are the ids of leases whose
    content isn't known. ``created`` is as containerd says it. ``source`` is None if one mount can't show it.
    """

    namespace: str
    snapshotter: str
    key: str
    parent: str = ""
    created: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    lease: Lease | None = None
    others: tuple[str, ...] = ()
    mount_points: tuple[str, ...] | None = ()
    source: Source | None = None

    @property
    def path(self) -> str:
        return plain_path(self.key)

    @property
    def mounted(self) -> bool | None:
        """Whether it is what is seen at its path; None if unknown."""
        return None if self.mount_points is None else self.path in self.mount_points

    @property
    def pinned(self) -> bool:
        return bool(self.labels.get(PIN_LABEL))

    @property
    def image(self) -> str:
        """Name of the image that it is to be made of; empty if that isn't known."""
        return self.labels.get(IMAGE_LABEL, "")


@dataclass(frozen=True)
class Risk:
    """A mounted writable snapshot that garbage collection deletes. ``certain``: nothing that can't be seen may keep it.

    ``expires`` is when its lease ends; empty if none of its own keeps it, or if unknown.
    """

    namespace: str
    snapshotter: str
    key: str
    mount_point: str
    expires: str
    reason: str
    certain: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the modules' result."""
        return {
            "namespace": self.namespace,
            "snapshotter": self.snapshotter,
            "key": self.key,
            "mount_point": self.mount_point or None,
            "expires": self.expires or None,
            "reason": self.reason,
            "certain": self.certain,
        }


@dataclass(frozen=True)
class ExpectedToolbox:
    """A toolbox that should be there. None: the daemon's own snapshotter."""

    path: str
    namespace: str = "default"
    snapshotter: str | None = None
    state: str = MOUNTED

    @classmethod
    def several(cls, entries: Iterable[Mapping[str, Any]]) -> tuple[ExpectedToolbox, ...]:
        """Parse the module's option ``toolboxes``. Raises ValueError that names the option."""
        found = []
        for entry in entries:
            path = posixpath.normpath(absolute_path("toolboxes.path", entry["path"]))
            plain_name("toolboxes.namespace", entry["namespace"])
            if entry["snapshotter"] is not None:
                plain_name("toolboxes.snapshotter", entry["snapshotter"])
            found.append(cls(path, entry["namespace"], entry["snapshotter"], entry["state"]))
        return tuple(found)


@dataclass(frozen=True)
class ToolboxState:
    """An expected toolbox as the node has it; ``problem`` says what is wrong with it, ``trouble`` what is unknown.

    ``remedies`` are the steps that correct it, as in toolbox/faults.py.
    """

    expected: ExpectedToolbox
    problem: str = ""
    trouble: str = ""
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Toolboxes:
    """The writable snapshots of a node without a container: expected toolboxes, unlisted pins, and those at risk.

    ``unlisted`` are their sizes in bytes, by what they are, or None if unknown. ``lost`` are mount points whose
    snapshot is gone. ``trouble`` says what couldn't be read. ``pinned`` is how many of them are pinned.
    """

    expected: tuple[ToolboxState, ...] = ()
    unlisted: Mapping[str, int | None] = field(default_factory=dict)
    at_risk: tuple[Risk, ...] = ()
    lost: tuple[str, ...] = ()
    trouble: str = ""
    pinned: int = 0


def is_below(path: str, prefix: str) -> bool:
    """Return whether a path is inside a directory, and not the directory itself."""
    return path.startswith(f"{plain_path(prefix).rstrip('/')}/")


def parse_duration(option: str, text: str) -> int:
    """Parse a duration as seconds. Raises ValueError that names the option."""
    found = _DURATION.match(text)
    if found is None:
        raise ValueError(f"{option} has to be a number with one of the units s, m, h, d and w, such as 30d, not {text!r}")
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def parse_writable_snapshot(namespace: str, snapshotter: str, text: str) -> WritableSnapshot:
    """Parse ``ctr snapshots info``. Raises ValueError for another output."""
    found = json.loads(text)
    if not isinstance(found, Mapping) or not isinstance(found.get("Name"), str):
        raise ValueError(f"this is no snapshot: {text[:80]!r}")
    labels = {str(key): str(value) for key, value in (found.get("Labels") or {}).items()}
    return WritableSnapshot(
        namespace, snapshotter, found["Name"], str(found.get("Parent") or ""), str(found.get("Created") or ""), labels
    )


def risk_of(held: WritableSnapshot) -> Risk | None:
    """Return the risk of a snapshot without a container; None if it isn't mounted, or is protected."""
    if held.pinned or held.mount_points == () or (held.lease is not None and not held.lease.expires):
        return None
    unseen = "; whether it is mounted can't be determined" if held.mount_points is None else ""
    place = held.mount_points[-1] if held.mount_points else ""
    own = (held.namespace, held.snapshotter, held.key, place)
    if held.lease is not None:
        reason = f"all that keeps it is the lease {held.lease.id}, until {held.lease.expires}{unseen}"
        return Risk(*own, held.lease.expires, reason, not unseen)
    if held.others:
        reason = f"it isn't pinned; whether a lease protects it can't be determined: there are {len(held.others)}{unseen}"
        return Risk(*own, "", reason, certain=False)
    reason = f"nothing keeps it: it is deleted with the next garbage collection{unseen}"
    return Risk(*own, "", reason, not unseen)


def is_prunable(held: WritableSnapshot, listed: bool, age: int | None, now: float) -> bool:
    """Return whether an unlisted toolbox is to be removed: it is at least ``age`` seconds old (None: none is removed)."""
    if listed or age is None:
        return False
    try:
        return now - parse_time(held.created) >= age
    except ValueError:
        return False
