# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requirements of snapshotters, by their tables in the effective configuration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import DIFFER_PREFIX, EROFS
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import Scratch

# containerd looks for it there: internal/dmverity/dmverity_linux.go, IsSupported.
DM_VERITY = "/sys/module/dm_verity"
# What makes layers for erofs, and the first version that can: containerd docs/snapshotters/erofs.md.
MKFS_EROFS, MKFS_EROFS_SINCE = "mkfs.erofs", (1, 7)
_MKFS_EROFS_VERSION = re.compile(r"mkfs\.erofs\D*?(\d+)\.(\d+)")
_FILE_SYSTEM = re.compile(r"^(?:nodev)?\s+(\S+)$", re.MULTILINE)
DEVICES = "/dev/mapper"


@dataclass(frozen=True)
class MissingRequirement:
    """A requirement that the node doesn't meet. ``creatable``: something is missing that the collection's roles create."""

    reason: str
    creatable: bool = False


def moved_roots(current: EffectiveConfig, wanted: EffectiveConfig) -> dict[str, tuple[str, str]]:
    """Return, by snapshotter, the old and new directory of each one that moves while the daemon's root stays."""
    if current.root != wanted.root:
        return {}
    both = {name: (current.snapshotter_root(name), wanted.snapshotter_root(name)) for name in BUILTIN_SNAPSHOTTERS}
    return {name: roots for name, roots in both.items() if posixpath.normpath(roots[0]) != posixpath.normpath(roots[1])}


def file_systems(text: str) -> frozenset[str]:
    """Parse /proc/filesystems: the file systems that the kernel supports now."""
    return frozenset(_FILE_SYSTEM.findall(text))


def proxy_problem(name: str, address: str, *, there: bool, answers: bool) -> MissingRequirement | None:
    """Return None if the service is there."""
    if not there:
        reason = f"there is no socket {address}: start the service of {name}, or correct the path"
        return MissingRequirement(f"snapshotters.{name}.address: {reason}")
    if not answers:
        return MissingRequirement(f"snapshotters.{name}.address: no service answers at {address}: start the service of {name}")
    return None


def needs_verity(config: EffectiveConfig) -> bool:
    """Return whether erofs, or its differ, doesn't load without dm-verity."""
    differ = bool(config.lookup(("plugins", DIFFER_PREFIX + EROFS, "enable_dmverity")))
    return differ or config.snapshotter_table(EROFS).get("dmverity_mode") == "on"


def devmapper_problem(table: Mapping[str, Any], *, pool_there: bool) -> MissingRequirement | None:
    """Return None if there is a pool of the name that is configured."""
    name = table.get("pool_name")
    if not name:
        return MissingRequirement("snapshotters.devmapper needs pool_name, the name of a thin pool: make one, and name it")
    if not table.get("base_image_size"):
        return MissingRequirement("snapshotters.devmapper needs base_image_size, such as 10GB")
    reason = f"snapshotters.devmapper.pool_name: there is no device {DEVICES}/{name}: make the thin pool, or activate it"
    return None if pool_there else MissingRequirement(reason, creatable=True)


def blockfile_problem(
    table: Mapping[str, Any], found: Scratch | None, copy: Scratch | None, *, loop: bool
) -> MissingRequirement | None:
    """Return the missing requirement. ``copy`` is the snapshotter's copy of the scratch file; ``loop``: loop devices exist."""
    kind = table.get("fs_type") or scratch.EXT4
    if not loop:
        reason = "the snapshotter blockfile needs loop devices, and there is no /dev/loop-control: load the kernel module loop"
        return MissingRequirement(reason)
    unmountable = scratch.mount_problem(kind, tuple(table.get("mount_options") or ()))
    return MissingRequirement(unmountable) if unmountable else _scratch_problem(table, kind, found, copy)


def _scratch_problem(
    table: Mapping[str, Any], kind: str, found: Scratch | None, copy: Scratch | None
) -> MissingRequirement | None:
    path = table.get("scratch_file")
    unusable = _copy_problem(table, kind, copy) if copy is not None else None
    if unusable:
        return unusable
    if not path:
        reason = "snapshotters.blockfile needs scratch_file: make one with slipway.node.blockfile_scratch"
        return None if copy else MissingRequirement(reason)
    if found is None or found.damage:
        problem = f"{path} can't be used: {found.damage}; create it again" if found else f"there is no file {path}: create it"
        reason = f"snapshotters.blockfile.scratch_file: {problem} with slipway.node.blockfile_scratch"
        return MissingRequirement(reason, creatable=found is None)
    if found.fs_type != kind:
        return MissingRequirement(f"snapshotters.blockfile.fs_type: {path} holds {found.fs_type}, not {kind}: name what it holds")
    return None


def _copy_problem(table: Mapping[str, Any], kind: str, copy: Scratch) -> MissingRequirement | None:
    """Check the copy, which layers are made from: a later change of the scratch file doesn't change them."""
    if copy.damage:
        problem = f"containerd's copy of blockfile's scratch file can't be used: {copy.damage}; remove it, and restart the daemon"
        return None if table.get("recreate_scratch") else MissingRequirement(problem)
    if not scratch.mounts_as(copy.fs_type, kind):
        return MissingRequirement(
            f"snapshotters.blockfile.fs_type: containerd's copy of the scratch file, and so its layers, hold {copy.fs_type}, not "
            f"{kind}: leave it, or remove what is unpacked for blockfile, and the copy"
        )
    return None


def erofs_problem(known: frozenset[str], mkfs: str | None, *, verity: bool = True) -> MissingRequirement | None:
    """Return None if erofs works.

    ``mkfs`` is what ``mkfs.erofs -V`` prints, None if there is no such program. ``verity``: the kernel has dm-verity, or needn't.
    """
    if not verity:
        needed = "the kernel has no dm-verity, which dmverity_mode and enable_dmverity need"
        remedy = "load the module with 'modprobe dm_verity', and list it in /etc/modules-load.d"
        return MissingRequirement(f"snapshotters.erofs: {needed}: {remedy}", creatable=True)
    if "erofs" not in known:
        reason = "the kernel has no erofs: load the module with 'modprobe erofs', and list it in /etc/modules-load.d"
        return MissingRequirement(reason, creatable=True)
    if mkfs is None:
        reason = f"there is no program {MKFS_EROFS} on the node, which erofs needs to unpack layers: install erofs-utils"
        return MissingRequirement(reason, creatable=True)
    found = _MKFS_EROFS_VERSION.search(mkfs)
    if found is None:
        return MissingRequirement(
            f"{MKFS_EROFS} doesn't say its version: install erofs-utils {shown_version(MKFS_EROFS_SINCE)} or newer"
        )
    version = (int(found[1]), int(found[2]))
    if version < MKFS_EROFS_SINCE:
        needed = shown_version(MKFS_EROFS_SINCE)
        return MissingRequirement(
            f"{MKFS_EROFS} is of version {shown_version(version)}, and containerd needs {needed}: upgrade erofs-utils"
        )
    return None


def shown_version(version: tuple[int, int]) -> str:
    """Format a version, such as ``1.7``."""
    return f"{version[0]}.{version[1]}"
