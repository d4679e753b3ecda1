# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Thin pools, devices for them, and the database of containerd's devmapper snapshotter, read without changing them."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.bolt import Database
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import (
    DATABASE_SUFFIX,
    LVS_FIELDS,
    UNKNOWN,
    BackingFile,
    DatabaseMatch,
    Device,
    PoolState,
    PoolStatus,
    Record,
    Volume,
    another_pools,
    compare,
    database_path,
    parse_records,
    parse_status,
    parse_thin_ls,
    parse_volume,
    uses,
)

# A database that is written while it is read is read again.
_TRIES = 5
HELD_BY_KERNEL = ("the kernel holds it",)
# Held while a pool's devices are listed, which one run at a time can do.
LOCK = "/run/slipway-thin-pool.lock"
_PATIENCE = 60


def read_devices(runner: Runner, paths: Sequence[str]) -> list[Device]:
    """Read the block devices at these paths. Raises HostError."""
    groups = _volume_groups(runner) if paths else {}
    return [_read_device(runner, path, groups) for path in paths]


def _read_device(runner: Runner, path: str, groups: dict[str, str]) -> Device:
    real = os.path.realpath(path)
    with naming("read", path):
        try:
            mode = os.stat(real).st_mode
        except FileNotFoundError:
            return Device(path, real, kind="")
    if not stat.S_ISBLK(mode):
        return Device(path, real, kind="other")
    columns = "NAME,PATH,TYPE,SIZE,MOUNTPOINT"
    doing = f"inspect {path}"
    listed = _json(runner, "lsblk", "--json", "--bytes", "--output", columns, real, doing=doing)["blockdevices"][0]
    used = uses(listed, groups) or (HELD_BY_KERNEL if _claimed(path, real) else ())
    return Device(path, real, size=int(listed["size"]), signatures=_signatures(runner, real), uses=used, group=groups.get(real))


def _claimed(path: str, real: str) -> bool:
    """Return whether the kernel holds a device, also for users that lsblk doesn't list: btrfs, ZFS, other mount namespaces."""
    with naming("read", path):
        try:
            os.close(os.open(real, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return True
    return False


def _signatures(runner: Runner, path: str) -> tuple[str, ...]:
    found = _json(runner, "wipefs", "--no-act", "--json", path, doing=f"inspect {path}")
    return tuple(one["type"] for one in (found or {}).get("signatures", []))


def _json(runner: Runner, *command: str, doing: str) -> Any:
    output = runner.run(*command, doing=doing)
    try:
        # wipefs and losetup print nothing where there is nothing.
        return json.loads(output) if output.strip() else None
    except ValueError as error:
        raise HostError(f"cannot {doing}: {command[0]} doesn't print JSON") from error


def read_backing_file(runner: Runner, path: str) -> BackingFile | None:
    """Return a file that is to be a device, as it is before it is attached; None if there is none. Raises HostError."""
    with naming("read", path):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(found.st_mode):
        return BackingFile(path, regular=False)
    return BackingFile(path, written=found.st_blocks > 0, signatures=_signatures(runner, path))


def _volume_groups(runner: Runner) -> dict[str, str]:
    """Return the volume groups by device; empty on a node without LVM."""
    if runner.find("pvs") is None:
        return {}
    doing = "ask LVM for its devices"
    report = _json(runner, "pvs", "--reportformat", "json", "--options", "pv_name,vg_name", doing=doing)
    rows = [row for one in report["report"] for row in one["pv"]]
    return {os.path.realpath(row["pv_name"]): row["vg_name"] for row in rows}


def read_volume(runner: Runner, volume_group: str, pool: str) -> tuple[bool, Volume | None]:
    """Return whether the volume group and its thin pool exist. Raises HostError, and ValueError if the volume is no pool."""
    if runner.find("lvs") is None:
        return False, None
    doing = "ask LVM for its volume groups"
    names = runner.run("vgs", "--noheadings", "--options", "vg_name", doing=doing).split()
    if volume_group not in names:
        return False, None
    # Where lvm.conf disables monitoring, LVM doesn't look whether a pool is watched all the same.
    config = ("--config", "activation/monitoring=1")
    options = (*config, "--reportformat", "json", "--units", "b", "--nosuffix", "--options", LVS_FIELDS)
    report = runner.run("lvs", *options, "--", volume_group, doing=f"ask LVM for the volumes of {volume_group}")
    return True, parse_volume(report, pool)


def loop_device(runner: Runner, file: str) -> str:
    """Return the loop device that a file is attached to; empty if it is to none. Raises HostError."""
    arguments = ("--json", "--list", "--output", "NAME", "--associated", file)
    found = _json(runner, "losetup", *arguments, doing=f"look for the loop device of {file}")
    return str(found["loopdevices"][0]["name"]) if found and found["loopdevices"] else ""


def read_status(runner: Runner, name: str) -> PoolStatus | None:
    """Return a pool by its name in the device mapper; None if it isn't loaded. Raises HostError."""
    if not os.path.exists(f"/dev/mapper/{name}"):
        return None
    return _status(runner, name)


def _status(runner: Runner, name: str) -> PoolStatus:
    output = runner.run("dmsetup", "status", "--noflush", name, doing=f"ask the device mapper for the pool {name}")
    try:
        return parse_status(output)
    except ValueError as error:
        raise HostError(f"cannot read the state of {name}: {error}") from error


def loaded_at(name: str) -> float | None:
    """Return when a device appeared according to udev, in seconds since boot; None if unknown."""
    with naming("read", f"/dev/mapper/{name}"):
        number = os.stat(f"/dev/mapper/{name}").st_rdev
    known = read_bytes(f"/run/udev/data/b{os.major(number)}:{os.minor(number)}") or b""
    found = [line[2:] for line in known.decode(errors="replace").splitlines() if line.startswith("I:")]
    return int(found[0]) / 1e6 if found and found[0].isdigit() else None


def read_records(path: str) -> tuple[Record, ...] | None:
    """Read the devices in the snapshotter's database; None if there is no such file. Raises HostError."""
    for _attempt in range(_TRIES):
        content = read_bytes(path)
        if content is None:
            return None
        if not content:
            # bbolt makes a new one of it: what a power cut leaves of a first start.
            return ()
        try:
            database = Database(content)
            records = parse_records(database)
            again = Database(read_bytes(path) or b"")
        except ValueError as error:
            trouble = str(error)
            continue
        if again.transaction == database.transaction:
            return records
        trouble = "it is written to all the time"
    raise HostError(f"cannot read {path}: {trouble}")


def read_ids(runner: Runner, name: str, lock: str = LOCK) -> frozenset[int]:
    """Read the ids of all devices in a pool, from a snapshot of its metadata. Raises HostError."""
    if runner.find("thin_ls") is None:
        packages = "package thin-provisioning-tools, or device-mapper-persistent-data"
        raise HostError(f"cannot list the pool's devices: there is no program thin_ls ({packages})")
    doing = f"list the devices of the pool {name}"
    table = runner.run("dmsetup", "table", name, doing=doing).split()
    with exclusive(_PATIENCE, lock) as held, _state_kept_aside(runner, name, held, doing):
        arguments = ("--metadata-snap", "--no-headers", "--format", "DEV", f"/dev/block/{table[3]}")
        return parse_thin_ls(runner.run("thin_ls", *arguments, doing=doing))


@contextmanager
def _state_kept_aside(runner: Runner, name: str, lock: int, doing: str) -> Iterator[None]:
    """Reserve a snapshot of the pool's metadata. A locked file has the pool's name meanwhile; a killed run leaves both."""
    if _status(runner, name).held_root:
        if os.pread(lock, len(name) + 1, 0) != name.encode():
            raise HostError(
                f"cannot list the devices of {name}: another program keeps a state of it aside; if none runs any more, "
                f"'dmsetup message {name} 0 release_metadata_snap' drops it"
            )
        runner.run("dmsetup", "message", name, "0", "release_metadata_snap", doing=doing)
    _write(lock, name)
    try:
        runner.run("dmsetup", "message", name, "0", "reserve_metadata_snap", doing=doing)
    except HostError:
        _write(lock, "")
        raise
    try:
        yield
    finally:
        runner.run("dmsetup", "message", name, "0", "release_metadata_snap", doing=doing)
        _write(lock, "")


def _write(lock: int, text: str) -> None:
    with naming("write", LOCK):
        os.truncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)


def match_database(runner: Runner, name: str, status: PoolStatus | None, database: str) -> DatabaseMatch:
    """Return whether a pool is the one that a snapshotter's database speaks of; without a status, there is no such pool.

    Raises nothing: what can't be read is ``unknown``, with the reason.
    """
    try:
        records = read_records(database)
        if not records:
            elsewhere = _other_pool(database)
            if elsewhere is not None:
                return elsewhere
        if status is None:
            return compare(records, (), database)
        if status.failed or status.needs_check or status.mode == "ro":
            return DatabaseMatch(UNKNOWN, f"cannot list the devices of {name}: the pool doesn't work ('dmsetup status {name}')")
        for _attempt in range(_TRIES):
            before, ids = records, read_ids(runner, name)
            records = read_records(database)
            # A running daemon makes and removes devices meanwhile.
            if records == before:
                return compare(records, ids, database)
    except HostError as error:
        return DatabaseMatch(UNKNOWN, str(error))
    return DatabaseMatch(UNKNOWN, f"cannot compare {name} with {database}, which changes all the time")


def _other_pool(database: str) -> DatabaseMatch | None:
    """Return the database match of another pool that the directory was used for before, if any. Raises HostError."""
    directory = os.path.dirname(database)
    with naming("read", directory):
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for path in (os.path.join(directory, name) for name in names if name.endswith(DATABASE_SUFFIX)):
        found = another_pools(read_records(path) or (), path) if path != database else None
        if found is not None:
            return found
    return None


def thin_pools_supported(runner: Runner) -> bool:
    """Return whether the kernel has the module for them, or could load it."""
    if os.path.isdir("/sys/module/dm_thin_pool"):
        return True
    return runner.try_run("modprobe", "--dry-run", "--quiet", "dm_thin_pool").code == 0


def read_pool(runner: Runner, name: str, directory: str, started: float | None) -> PoolState:
    """Read the pool of a snapshotter directory. ``started``: of the daemon, in seconds since boot. Raises HostError."""
    status = read_status(runner, name)
    belonging = match_database(runner, name, status, database_path(directory, name))
    if status is None:
        return PoolState(name, None, belonging, started=started)
    return PoolState(name, status, belonging, _volume_at(runner, name), loaded_at(name), started)


def _volume_at(runner: Runner, name: str) -> Volume | None:
    if runner.find("lvs") is None:
        return None
    # Where lvm.conf disables monitoring, LVM doesn't look whether a pool is watched all the same.
    config = ("--config", "activation/monitoring=1")
    options = (*config, "--reportformat", "json", "--units", "b", "--nosuffix", "--options", LVS_FIELDS)
    result = runner.try_run("lvs", *options, "--", f"/dev/mapper/{name}")
    return parse_volume(result.stdout) if result.code == 0 else None
