# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A thin pool as the kernel and LVM report it, and the devices that containerd's devmapper snapshotter lists in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.bolt import Database

SECTOR = 512
# States of a device in containerd's database: core/snapshots, plugins/snapshots/devmapper/device_info.go. Those that
# a crash may leave for a device that isn't in the pool, or not any more; and the one that async_remove sets as well.
_UNSETTLED = frozenset({0, 1, 11, 13})
_REMOVED = 12
_IDS_SHOWN = 20
LVM_MEMBER = "LVM2_member"
BELONGS, FOREIGN, LEFTOVERS, UNKNOWN = "match", "mismatch", "orphans", "unknown"
# containerd's own database lists the snapshots as well, so the snapshotter's alone can't be reset.
_RESET = "if all images and containers may be lost, remove the pool and containerd's root"
_MISMATCH_REMEDY = f"restore the replaced one; or, {_RESET}"
_NO_DATABASE_REMEDY = (
    f"there is no such file: if containerd's root is elsewhere, name it (containerd_root); if it isn't, {_MISMATCH_REMEDY}"
)
DATABASE_SUFFIX = ".db"


@dataclass(frozen=True)
class PoolStatus:
    """A line of ``dmsetup status``. ``size`` in bytes, else the kernel's blocks; None where it has given up on the pool.

    ``mode`` is ``rw``, ``ro`` or ``out_of_data_space``; ``failed``: the kernel takes no more requests.
    """

    size: int = 0
    used_metadata: int | None = None
    total_metadata: int | None = None
    used_data: int | None = None
    total_data: int | None = None
    held_root: bool = False
    mode: str = ""
    failed: bool = False
    needs_check: bool = False

    @property
    def data_percent(self) -> float | None:
        return _percent(self.used_data, self.total_data)

    @property
    def metadata_percent(self) -> float | None:
        return _percent(self.used_metadata, self.total_metadata)


def _percent(used: int | None, total: int | None) -> float | None:
    return None if used is None or not total else round(100 * used / total, 1)


def parse_status(line: str) -> PoolStatus:
    """Parse the output of ``dmsetup status POOL``. Raises ValueError if it isn't a thin pool's.

    Documentation/admin-guide/device-mapper/thin-provisioning.rst
    """
    words = line.split()
    if words and words[0].endswith(":"):
        words = words[1:]
    if len(words) < 4 or words[2] != "thin-pool":
        raise ValueError(f"it is no thin pool: {line.strip()!r}")
    if words[3] == "Fail":
        return PoolStatus(failed=True, mode="Fail")
    try:
        size = int(words[1]) * SECTOR
        used_metadata, total_metadata = (int(number) for number in words[4].split("/"))
        used_data, total_data = (int(number) for number in words[5].split("/"))
        flags = words[7:]
        mode = next(flag for flag in flags if flag in ("rw", "ro", "out_of_data_space"))
    except (IndexError, ValueError, StopIteration) as error:
        raise ValueError(f"the state of the thin pool can't be read: {line.strip()!r}") from error
    return PoolStatus(
        size,
        used_metadata,
        total_metadata,
        used_data,
        total_data,
        held_root=words[6] != "-",
        mode=mode,
        needs_check="needs_check" in flags,
    )


@dataclass(frozen=True)
class Volume:
    """A thin pool as LVM has it; ``size`` in bytes."""

    uuid: str
    size: int
    active: bool
    profile: str = ""
    monitored: bool = False


LVS_FIELDS = "vg_name,lv_name,lv_uuid,lv_attr,lv_size,lv_active,lv_profile,seg_monitor"


def parse_volume(report: str, pool: str | None = None) -> Volume | None:
    """Parse ``lvs --reportformat json --units b --nosuffix``: the pool of this name or the only one, None if there is none.

    Raises ValueError if that is no thin pool.
    """
    rows = [row for one in json.loads(report)["report"] for row in one.get("lv", []) if pool in (None, row["lv_name"])]
    if not rows:
        return None
    row = rows[0]
    if not row["lv_attr"].startswith("t"):
        raise ValueError(f"the logical volume {row['vg_name']}/{row['lv_name']} is no thin pool: name another")
    monitored = row["seg_monitor"] == "monitored"
    return Volume(row["lv_uuid"], int(row["lv_size"]), row["lv_active"] == "active", row["lv_profile"], monitored)


def mapper_name(volume_group: str, volume: str) -> str:
    """Return the device mapper's name of a logical volume: hyphens of the names are doubled."""
    return f"{volume_group.replace('-', '--')}-{volume.replace('-', '--')}"


@dataclass(frozen=True)
class Record:
    """A device as containerd's snapshotter has it in its database.

    ``settled``: it is in the pool; ``removed``: it was, and may be until the garbage collection.
    """

    name: str
    id: int
    settled: bool
    removed: bool = False


def parse_records(database: Database) -> tuple[Record, ...]:
    """Parse the devices in the snapshotter's database. Raises ValueError for another database."""
    found = []
    for name, value in database.bucket("devices").items():
        try:
            device = json.loads(value)
            state = int(device["state"])
            settled = state != _REMOVED and state not in _UNSETTLED
            found.append(Record(name.decode(), int(device["device_id"]), settled, state == _REMOVED))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the database's entry of the device {name.decode(errors='replace')} is damaged") from error
    return tuple(found)


def parse_thin_ls(stdout: str) -> frozenset[int]:
    """Parse the ids of a pool's devices from ``thin_ls --no-headers --format DEV``."""
    return frozenset(int(line) for line in stdout.split("\n") if line.strip().isdigit())


@dataclass(frozen=True)
class DatabaseMatch:
    """The comparison of a pool with the database in the snapshotter's root: whether the devices agree, and how they differ."""

    verdict: str
    reason: str = ""
    remedy: str = ""


def compare(records: Collection[Record] | None, ids: Collection[int], database: str) -> DatabaseMatch:
    """Compare a database (None if there is none; its path is for the message) with the ids of the pool's devices."""
    remedy = _MISMATCH_REMEDY if records is not None else _NO_DATABASE_REMEDY
    records = records or ()
    settled = {record.id for record in records if record.settled}
    missing = settled.difference(ids)
    known = settled.union(record.id for record in records if record.removed)
    strangers = set(ids).difference(known)
    unlisted = strangers.difference(record.id for record in records)
    if settled and missing == settled:
        reason = f"the pool has none of the {len(settled)} devices that {database} lists: it was recreated, or is another root's"
    elif missing:
        reason = f"the pool lacks {len(missing)} of the {len(settled)} devices that {database} lists"
    elif unlisted and known.isdisjoint(ids):
        reason = f"{database} lists none of the {len(ids)} devices of the pool: the root was recreated, or is another pool's"
    elif strangers:
        shown = ", ".join(map(str, sorted(strangers)[:_IDS_SHOWN])) + (", …" if len(strangers) > _IDS_SHOWN else "")
        count = f"{len(strangers)} devices of the pool (ID {shown})"
        reason = f"{database} lists all but {count}, which an interrupted change left there"
        return DatabaseMatch(LEFTOVERS, reason)
    else:
        return DatabaseMatch(BELONGS)
    return DatabaseMatch(FOREIGN, reason, remedy)


def another_pools(records: Collection[Record], database: str) -> DatabaseMatch | None:
    """Report a database beside the pool's own, which lists no devices: the directory's snapshots are of that other pool."""
    count = sum(record.settled for record in records)
    if not count:
        return None
    name = database.rsplit("/", 1)[-1].removesuffix(DATABASE_SUFFIX)
    reason = f"{database} lists {count} devices of another pool, {name}"
    return DatabaseMatch(FOREIGN, reason, f"name that pool again; or, {_RESET}")


@dataclass(frozen=True)
class Device:
    """A block device for a pool. ``path`` as named, ``real`` without links.

    ``kind`` is empty if there is nothing, ``block`` or something else. ``signatures`` are types, such as ``ext4`` or ``gpt``;
    ``uses`` says in words who has it open; ``group`` is the volume group that it belongs to, empty if it is LVM's and in none.
    """

    path: str
    real: str
    kind: str = "block"
    size: int = 0
    signatures: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    group: str | None = None

    @property
    def foreign_signatures(self) -> tuple[str, ...]:
        """Of what would be lost if it was given to a volume group that it isn't in; LVM's own are nothing if it is in none."""
        if self.group is None:
            return self.signatures
        return () if self.group else tuple(kind for kind in self.signatures if kind != LVM_MEMBER)


def device_problem(device: Device, volume_group: str, may_be_wiped: Iterable[str]) -> str:
    """Return why a device can't be taken for the volume group; empty if it can. ``may_be_wiped`` are paths without links."""
    if not device.kind:
        return f"there is no device {device.path}"
    if device.kind != "block":
        return f"{device.path} is no block device"
    problem = ""
    if device.group and device.group != volume_group:
        problem = f"{device.path} belongs to the volume group {device.group}: name another device, or remove it from that group"
    elif not device.group and device.uses:
        problem = f"{device.path} is in use ({', '.join(device.uses)}): name another device"
    elif device.foreign_signatures and device.real not in may_be_wiped:
        held = " and ".join(device.foreign_signatures)
        problem = (
            f"{device.path} holds {held}: name another device, or list it in devmapper_wipe_devices if what is on it may be lost"
        )
    return problem


def group_problem(volume_group: str, devices: Collection[Device]) -> str:
    """Return why a volume group that is there can't be taken: it is on none of the devices that are named. Empty if it can."""
    if not devices or any(device.group == volume_group for device in devices):
        return ""
    named = " or ".join(device.path for device in devices)
    return f"there is a volume group {volume_group} already, and it isn't on {named}: name another group, or a device of this one"


@dataclass(frozen=True)
class BackingFile:
    """A file for a loop device, before it is attached. ``written``: it takes up space."""

    path: str
    regular: bool = True
    written: bool = False
    signatures: tuple[str, ...] = ()


def file_problem(file: BackingFile) -> str:
    """Return why a file can't be attached and given to LVM; empty if it can: if it is LVM's already, or if it is empty."""
    if not file.regular:
        return f"{file.path} is no regular file: name another for the pool"
    if not file.written or file.signatures == (LVM_MEMBER,):
        return ""
    held = " and ".join(file.signatures) or "something"
    return f"the file {file.path} is there and holds {held}: name another, or remove it if what is in it may be lost"


def uses(device: Mapping[str, Any], groups: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Describe the uses of a device and its parts, of an element of ``lsblk --json --output NAME,PATH,TYPE,MOUNTPOINT``.

    ``groups`` are LVM's volume groups by device, also those of which nothing is active.
    """
    found = [f"{device['name']} mounted at {device['mountpoint']}"] if device.get("mountpoint") else []
    for child in device.get("children", []):
        found += uses(child, groups) or _used_as(child, groups or {})
    return tuple(found)


def _used_as(child: Mapping[str, Any], groups: Mapping[str, str]) -> tuple[str, ...]:
    if child["type"] != "part":
        return (f"{child['type']} {child['name']}",)
    group = groups.get(child.get("path", ""))
    return (f"{child['name']} of the volume group {group}",) if group else ()


def database_path(root_path: str, name: str) -> str:
    """Return where the snapshotter with this directory keeps what it knows of a pool (its name in the device mapper)."""
    return f"{root_path.rstrip('/')}/{name}{DATABASE_SUFFIX}"


@dataclass(frozen=True)
class PoolState:
    """The pool that a daemon's devmapper snapshotter is configured for, by its name in the device mapper.

    ``status`` None: it isn't loaded; ``volume`` None: it is no LVM volume. ``loaded`` and ``started`` say when the pool appeared
    and when the daemon was started, in seconds since boot, None if that isn't known.
    """

    name: str
    status: PoolStatus | None
    belonging: DatabaseMatch
    volume: Volume | None = None
    loaded: float | None = None
    started: float | None = None
