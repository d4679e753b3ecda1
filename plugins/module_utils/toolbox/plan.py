# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a toolbox on a node, and the plan for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.toolbox import mount_unit
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, MOUNTED, PIN_LABEL
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec

# Steps, in the words of the result.
PULL = "pull"
PIN = "pin"
LABEL = "label"
RELEASE = "release"
UNMOUNT = "unmount"
REMOVE = "remove"
PREPARE = "prepare"
DIRECTORY = "directory"
UNIT = "unit"
ENABLE = "enable"
MOUNT = "mount"
DISABLE = "disable"
COLLECT = "collect"
REMOVE_DIRECTORY = "remove_directory"

# What is mounted on the path: nothing, the toolbox's snapshot, one that is gone, anything else.
NOTHING, OURS, STALE, OTHER = "nothing", "ours", "stale", "other"
# What the path is while nothing is mounted on it.
# FOREIGN: empty, but other users than root can write there.
MISSING, EMPTY, FOREIGN, FULL, NO_DIRECTORY = "missing", "empty", "foreign", "full", "no directory"

ACTIVE = "Active"
_SHOWN_USERS = 5


@dataclass(frozen=True)
class CurrentSnapshot:
    """``kind``: Committed, Active or View. ``parent`` is the chain ID of the image, empty for one without layers."""

    key: str
    kind: str
    parent: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        return bool(self.labels.get(PIN_LABEL))


@dataclass(frozen=True)
class CurrentUnit:
    """``text`` None: there is no file. ``link``: it is a symbolic link, which is how units are masked.

    ``loaded``: systemd has read the file as it is. ``drop_ins`` are the paths of files that change it.
    """

    text: str | None = None
    link: bool = False
    loaded: bool = False
    enabled: bool = False
    drop_ins: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        return self.link or (self.text is not None and not self.text.startswith(mount_unit.MARK))


@dataclass(frozen=True)
class CurrentToolbox:
    """The state of a node at a toolbox's path.

    ``snapshots`` are those whose key is the path, however it is spelled; ``leases`` likewise. ``mount`` is one of NOTHING, OURS,
    STALE and OTHER, and ``mounted_from`` says what it is of; ``elsewhere`` are other paths that the snapshot is mounted on,
    ``inside`` mounts below the path. ``users`` are processes in it, if these were looked for. ``unit_text`` is what the unit has
    to be; None if there is no snapshot to mount. ``chain`` is the image's chain ID, None if that isn't known; ``comes``: there is
    something to do for the image before a snapshot can be made of it.
    """

    snapshots: tuple[CurrentSnapshot, ...] = ()
    leases: tuple[str, ...] = ()
    mount: str = NOTHING
    mounted_from: str = ""
    elsewhere: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    point: str = MISSING
    unit: CurrentUnit = CurrentUnit()
    unit_text: str | None = None
    chain: str | None = None
    comes: bool = False

    @property
    def snapshot(self) -> CurrentSnapshot | None:
        return self.snapshots[0] if self.snapshots else None

    @property
    def drift(self) -> tuple[str, str] | None:
        """The chain IDs of what the snapshot is made of and of what its image is now, where these differ."""
        if self.snapshot is None or self.chain is None or self.chain == self.snapshot.parent:
            return None
        return self.snapshot.parent, self.chain


@dataclass(frozen=True)
class Plan:
    """``steps`` in the order in which they are done."""

    found: CurrentToolbox
    wanted: ToolboxSpec
    steps: tuple[str, ...]

    @property
    def key(self) -> str:
        """Of the snapshot as it is afterwards: that of an adopted one stays as it was spelled."""
        snapshot = self.found.snapshot
        return self.wanted.path if snapshot is None or PREPARE in self.steps else snapshot.key

    @property
    def adopted(self) -> bool:
        """Whether a snapshot that was left to garbage collection is taken over."""
        return PREPARE not in self.steps and REMOVE not in self.steps and bool({PIN, RELEASE}.intersection(self.steps))

    @property
    def drift(self) -> tuple[str, str] | None:
        """What is left of it afterwards."""
        return None if {PREPARE, REMOVE}.intersection(self.steps) else self.found.drift

    def result(self) -> dict[str, Any]:
        """Return the module's result for the toolbox after the run."""
        wanted, snapshot, drift = self.wanted, self.found.snapshot, self.drift
        there = wanted.state != ABSENT
        parent = self.found.chain if PREPARE in self.steps or snapshot is None else snapshot.parent
        return {
            "changed": bool(self.steps),
            "key": self.key,
            "path": wanted.path,
            "parent": (parent or None) if there else None,
            "pinned": there,
            "mounted": wanted.state == MOUNTED,
            "adopted": self.adopted,
            "image_drift": dict(zip(("from", "to"), drift)) if there and drift else None,
            "unit": wanted.unit if wanted.state == MOUNTED else None,
            "steps": list(self.steps),
            "diff": self.diff(),
        }

    def diff(self) -> dict[str, str]:
        """Return the diff. It contains the unit's text only if the snapshot exists, whose directories the unit names."""
        before, after = self._described(), self._described(afterwards=True)
        return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}

    def _described(self, *, afterwards: bool = False) -> list[str]:
        found, steps = self.found, self.steps if afterwards else ()
        snapshot = found.snapshot
        parent = snapshot.parent if snapshot else None
        pinned = bool(snapshot and snapshot.pinned) or bool({PIN, PREPARE}.intersection(steps))
        if PREPARE in steps:
            parent = found.chain
        elif REMOVE in steps:
            parent, pinned = None, False
        lines = [f"snapshot of {parent or 'no layers'}, {'pinned' if pinned else 'not pinned'}"] if parent is not None else []
        if found.leases and RELEASE not in steps:
            lines.append(f"leases: {', '.join(found.leases)}")
        mounted = found.mount if not {UNMOUNT, MOUNT}.intersection(steps) else OURS if MOUNT in steps else NOTHING
        if mounted != NOTHING:
            lines.append("mounted" if mounted == OURS else f"mounted from {found.mounted_from}")
        labels = {**(snapshot.labels if snapshot and parent is not None and PREPARE not in steps else {})}
        labels.update(self.wanted.labels if LABEL in steps else {})
        lines += [f"label {key}={value}" for key, value in sorted(labels.items()) if key != PIN_LABEL]
        return lines + self._unit_described(steps)

    def _unit_described(self, steps: Sequence[str]) -> list[str]:
        unit = self.found.unit
        if DISABLE in steps or (unit.text is None and UNIT not in steps):
            return []
        replaced = UNIT in steps and REMOVE in steps
        text = (None if replaced else self.found.unit_text) if UNIT in steps else unit.text
        enabled = unit.enabled or ENABLE in steps
        return [f"unit {self.wanted.unit}, {'enabled' if enabled else 'not enabled'}", *(text or "").splitlines()]


def needs_process_scan(found: CurrentToolbox, wanted: ToolboxSpec) -> bool:
    """Return whether it matters who uses the toolbox, since it would be unmounted or removed."""
    return _unmounts(found, wanted) or _goes(found, wanted)


def needs_image(found: CurrentToolbox, wanted: ToolboxSpec) -> bool:
    """Return whether the image has to be there, and may be fetched for that."""
    return wanted.state != ABSENT and (found.snapshot is None or _replaces(found, wanted))


def _replaces(found: CurrentToolbox, wanted: ToolboxSpec) -> bool:
    return wanted.state != ABSENT and wanted.recreate and found.drift is not None


def _goes(found: CurrentToolbox, wanted: ToolboxSpec) -> bool:
    """Return whether the snapshot that is there is removed."""
    return found.snapshot is not None and (wanted.state == ABSENT or _replaces(found, wanted))


def _unmounts(found: CurrentToolbox, wanted: ToolboxSpec) -> bool:
    return found.mount == STALE or (found.mount == OURS and (wanted.state != MOUNTED or _replaces(found, wanted)))


def plan(found: CurrentToolbox, wanted: ToolboxSpec) -> Plan:
    """Plan the steps. Raises ValueError, with a remedy, if files of users would be lost or hidden."""
    reason = _refusal(found, wanted)
    if reason:
        raise ValueError(reason)
    return Plan(found, wanted, tuple(_absent(found, wanted) if wanted.state == ABSENT else _present(found, wanted)))


def _present(found: CurrentToolbox, wanted: ToolboxSpec) -> Iterable[str]:
    snapshot, replaces = found.snapshot, _replaces(found, wanted)
    fresh = snapshot is None or replaces
    if fresh and found.comes:
        yield PULL
    release = [RELEASE] if found.leases else []
    if not replaces:
        # Protected by the one before the other is given up.
        yield from [*([] if snapshot is None or snapshot.pinned else [PIN]), *release]
    if _unmounts(found, wanted):
        yield UNMOUNT
    if replaces:
        yield from [REMOVE, *release]
    if fresh:
        yield PREPARE
    had = snapshot.labels if snapshot is not None and not fresh else {}
    if any(had.get(key) != value for key, value in wanted.labels.items()):
        yield LABEL
    if wanted.state == MOUNTED:
        yield from _mounted(found, fresh=fresh)
    elif found.unit.text is not None:
        yield DISABLE


def _mounted(found: CurrentToolbox, *, fresh: bool) -> Iterable[str]:
    there = found.mount == OURS and not fresh
    if not there and found.point in (MISSING, FOREIGN):
        yield DIRECTORY
    if fresh or found.unit.text != found.unit_text or not found.unit.loaded:
        yield UNIT
    if not found.unit.enabled:
        yield ENABLE
    if not there:
        yield MOUNT


def _absent(found: CurrentToolbox, wanted: ToolboxSpec) -> Iterable[str]:
    if _unmounts(found, wanted):
        yield UNMOUNT
    if found.unit.text is not None:
        yield DISABLE
    if found.snapshot is not None:
        yield REMOVE
    if found.leases:
        yield RELEASE
    if found.snapshot is not None or found.leases:
        yield COLLECT
    if found.point in (EMPTY, FOREIGN) or found.mount != NOTHING:
        yield REMOVE_DIRECTORY


def _refusal(found: CurrentToolbox, wanted: ToolboxSpec) -> str:
    """Return why nothing may be done; empty if it may."""
    return _taken(found, wanted.path) or _in_use(found, wanted) or _point_refusal(found, wanted)


def _taken(found: CurrentToolbox, path: str) -> str:
    """Return why the mount is not a toolbox."""
    if len(found.snapshots) > 1:
        keys = " and ".join(repr(one.key) for one in found.snapshots)
        return f"{path}: there are several snapshots for it, {keys}: remove those that aren't wanted with ctr snapshots rm"
    if found.snapshot is not None and found.snapshot.kind != ACTIVE:
        return f"{path}: the snapshot of that name is {found.snapshot.kind}, not writable: use another path"
    if found.unit.foreign:
        return f"{mount_unit.unit_path(path)} was not created by slipway.node: remove it, or use another path"
    if found.mount == OTHER:
        return f"{path} is mounted from {found.mounted_from}, not from its snapshot: unmount it first"
    return ""


def _in_use(found: CurrentToolbox, wanted: ToolboxSpec) -> str:
    path, going = wanted.path, _goes(found, wanted)
    if found.elsewhere and (going or (wanted.state == MOUNTED and found.mount != OURS)):
        return f"{path}: its snapshot is mounted on {_listed(found.elsewhere)} too: unmount that first"
    inside = (*found.users, *(f"the mount {one}" for one in found.inside))
    if inside and needs_process_scan(found, wanted):
        what = "removed" if wanted.state == ABSENT else "recreated" if going else "unmounted"
        return f"{path} is in use and can't be {what}: end {_listed(inside)} first"
    return ""


def _point_refusal(found: CurrentToolbox, wanted: ToolboxSpec) -> str:
    if wanted.state != MOUNTED or found.mount != NOTHING:
        return ""
    if found.point == FULL:
        return f"{wanted.path} has files in it, which a mount would hide: move them away, or use another path"
    if found.point == NO_DIRECTORY:
        return f"{wanted.path} is not a directory: move it away, or use another path"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_USERS
    return ", ".join(names[:_SHOWN_USERS]) + (f" and {more} more" if more > 0 else "")
