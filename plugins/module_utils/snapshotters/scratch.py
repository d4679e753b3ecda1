# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scratch file of the blockfile snapshotter: an empty file system, copied for the lowest layer of every image."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.core.sizes import shown

EXT4, XFS = "ext4", "xfs"
# By file system: what makes it, and the smallest size that is of any use. xfsprogs refuses less than 300 MiB.
PROGRAMS = {EXT4: ("mkfs.ext4", "-q", "-F", "-m", "0"), XFS: ("mkfs.xfs", "-q", "-f")}
SMALLEST = {EXT4: 8 << 20, XFS: 300 << 20}
# Bytes at the beginning of a file in which its superblock is.
HEAD_BYTES = 2048

# linux fs/ext4/ext4.h: ext4_super_block, at byte 1024.
_EXT_OFFSET, _EXT_MAGIC, _EXT_VALID, _EXT_RECOVER, _EXT_EXTENTS, _EXT_64BIT = 1024, 0xEF53, 1, 0x4, 0x40, 0x80
# linux fs/xfs/libxfs/xfs_format.h: xfs_dsb.
_XFS_MAGIC = b"XFSB"


@dataclass(frozen=True)
class Scratch:
    """A file, as far as it can be one. ``size`` in bytes; ``fs_type`` empty if it holds no file system that is known here.

    ``damage`` says what is wrong with it, empty if nothing.
    """

    size: int
    fs_type: str
    damage: str = ""


def classify(head: bytes, size: int) -> Scratch:
    """Classify a scratch file by its first HEAD_BYTES and its size in bytes."""
    if len(head) >= HEAD_BYTES and _little(head, 56, 2) == _EXT_MAGIC:
        return _judged_ext(head, size)
    if head[:4] == _XFS_MAGIC and len(head) >= 16:
        block, blocks = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:16], "big")
        return Scratch(size, XFS, _cut_short(block * blocks, size))
    return Scratch(size, "", "it holds no file system that is known here (ext4, xfs)" if size else "it is empty")


def _judged_ext(head: bytes, size: int) -> Scratch:
    low, log_block, state, incompatible = (_little(head, *place) for place in ((4, 4), (24, 4), (58, 2), (96, 4)))
    high = _little(head, 336, 4) if incompatible & _EXT_64BIT else 0
    damage = _cut_short(((high << 32) + low) << (10 + min(log_block, 6)), size)
    if not damage and (not state & _EXT_VALID or incompatible & _EXT_RECOVER):
        damage = "its file system is mounted, or was not unmounted cleanly"
    return Scratch(size, EXT4 if incompatible & _EXT_EXTENTS else "ext3", damage)


def _little(head: bytes, offset: int, size: int) -> int:
    """Return a number of ext4's superblock."""
    return int.from_bytes(head[_EXT_OFFSET + offset : _EXT_OFFSET + offset + size], "little")


def _cut_short(wanted: int, size: int) -> str:
    return f"it was cut short: its file system has {wanted} bytes, the file {size}" if wanted > size else ""


def mounts_as(found: str, kind: str) -> bool:
    """Return whether a file system can be mounted as one of this type: the kernel has one program for ext3 and ext4."""
    return found == kind or (found, kind) == ("ext3", EXT4)


@dataclass(frozen=True)
class ScratchSpec:
    """``size`` in bytes."""

    path: str
    size: int
    fs_type: str

    def __post_init__(self) -> None:
        if self.fs_type not in PROGRAMS:
            raise ValueError(f"fs_type has to be one of {', '.join(PROGRAMS)}, not {self.fs_type!r}")
        if self.size < SMALLEST[self.fs_type]:
            raise ValueError(
                f"size has to be at least {shown(SMALLEST[self.fs_type])} for {self.fs_type}, not {shown(self.size)}"
            )
        if self.size % 4096:
            raise ValueError(f"size has to be a multiple of 4096 bytes, not {self.size}")


def difference(wanted: ScratchSpec, found: Scratch) -> str:
    """Return how a file differs from the specification; empty if it doesn't."""
    if found.damage:
        return found.damage
    if found.fs_type != wanted.fs_type:
        return f"it holds {found.fs_type}, not {wanted.fs_type}"
    return f"it has {shown(found.size)}, not {shown(wanted.size)}" if found.size != wanted.size else ""


def require_room(wanted: ScratchSpec, free: int) -> None:
    """Check the space for the file and for containerd's copy of it. Raises ValueError if too few bytes are free."""
    if free < 2 * wanted.size:
        raise ValueError(
            f"there is too little space for {wanted.path}: it and containerd's copy of it take {shown(2 * wanted.size)}, and "
            f"{shown(free)} are free: choose a smaller size, or another file system"
        )


def mount_problem(fs_type: str, options: tuple[str, ...]) -> str:
    """Return why copies of one file can't be mounted together with these options; empty if they can.

    Options take the place of containerd's own, which is ``loop``: plugins/snapshots/blockfile/blockfile.go, WithMountOptions.
    """
    if fs_type == XFS and not re.search(r"(^|,)nouuid(,|$)", ",".join(options)):
        return "xfs mounts no second copy of a file system: set snapshotters.blockfile.mount_options to [loop, nouuid]"
    if options and "loop" not in options:
        return "snapshotters.blockfile.mount_options lacks loop, without which no file can be mounted: add it"
    return ""
