# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounted file systems, and whether they keep synced data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

FAIL = "fail"
UNKNOWN = "unknown"
WARN = "warn"

# File systems with a journal, or that write copies, to which syncfs(2) brings data and metadata.
_JOURNALED = ("ext3", "ext4", "xfs", "btrfs", "f2fs")
_IN_MEMORY = ("tmpfs", "ramfs")
# ext4, btrfs and old xfs; ext3's and reiserfs' spellings; f2fs.
_NO_BARRIERS = ("nobarrier", "barrier=0", "barrier=none", "fsync_mode=nobarrier")
# The kernel's words for overlayfs that ignores syncs, the second since 6.18.
_VOLATILE = ("volatile", "fsync=volatile")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mounted file system; ``options`` are those of the mount and of the file system together.

    ``device`` are the numbers of the one that it is on, as 8:1; ``root`` is the directory of the file system that it shows.
    ``parent`` is the id of the mount that it is mounted on.
    """

    id: int
    path: str
    type: str
    source: str
    options: tuple[str, ...]
    device: str = ""
    root: str = field(default="/", compare=False)
    parent: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.type} at {self.path}"


@dataclass(frozen=True)
class Weakness:
    """The reason why synced data may be lost, its severity (``fail``, ``unknown``, ``warn``), and the remedy."""

    status: str
    reason: str
    remedy: str


def parse_mounts(text: str) -> dict[int, Mount]:
    """Parse /proc/self/mountinfo, by mount id. Raises ValueError if a line is none of proc_pid_mountinfo(5)."""
    found = (_parsed(line) for line in text.splitlines() if line)
    return {mount.id: mount for mount in found}


def cover_of(mount: Mount, table: Iterable[Mount]) -> Mount | None:
    """Return the mount of a table that hides another one, on its path or on a directory above; None if its path shows it."""
    mounts = {one.id: one for one in table}
    below = {mount.id}
    parent = mount.parent
    while parent in mounts and parent not in below:
        below.add(parent)
        parent = mounts[parent].parent
    above = (one for one in mounts.values() if one.id not in below)
    return next((one for one in above if f"{mount.path}/".startswith(f"{one.path.rstrip('/')}/")), None)


def parse_mount_id(text: str) -> int:
    """Return the mount id of an open file from /proc/self/fdinfo/N. Raises ValueError if it contains none."""
    found = re.search(r"^mnt_id:\s*(\d+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError("the kernel doesn't say on which mount a file is")
    return int(found[1])


def weakness(mount: Mount) -> Weakness | None:
    """Return the worst of a file system's weaknesses; None if what is synced there survives a power cut."""
    options = set(mount.options)
    for option in sorted(options.intersection(_VOLATILE)):
        remedy = f"mount {mount.path} without volatile, or keep containerd's data elsewhere"
        return Weakness(FAIL, f"{option}: a sync doesn't write to the disk", remedy)
    for option in sorted(options.intersection(_NO_BARRIERS)):
        reason = f"{option}: synced data may be lost from the drive's write cache in a power cut"
        return Weakness(FAIL, reason, f"remove {option} from /etc/fstab and mount {mount.path} again")
    if mount.type not in _JOURNALED:
        return _of_type(mount.type)
    if "data=writeback" in options:
        reason = (
            "data=writeback: files that a program doesn't sync itself may hold old blocks after a power cut, such as logs and "
            "containers' own files; images that were synced before they were named stay whole"
        )
        return Weakness(WARN, reason, f"mount {mount.path} with data=ordered, which is the default")
    return None


def _of_type(name: str) -> Weakness:
    if name in _IN_MEMORY:
        return Weakness(WARN, "it is in memory: every image is gone after a reboot", "keep containerd's data on a disk")
    if name == "overlay":
        reason = "synced data depends on the file system below, whose options are unknown"
        return Weakness(UNKNOWN, reason, "keep containerd's data on a file system of its own, or check the one below")
    reason = f"it is unknown whether {name} keeps synced data over a power cut"
    return Weakness(UNKNOWN, reason, "ask its documentation, or keep containerd's data on ext4 or xfs")


def _parsed(line: str) -> Mount:
    before, dash, after = line.partition(" - ")
    head, tail = before.split(" "), after.split(" ")
    if not dash or len(head) < 6 or len(tail) < 3 or not (head[0].isdigit() and head[1].isdigit()):
        raise ValueError(f"this is no line of mountinfo: {line!r}")
    options = dict.fromkeys([*head[5].split(","), *tail[2].split(",")])
    path, root, parent = _plain(head[4]), _plain(head[3]), int(head[1])
    return Mount(int(head[0]), path, _plain(tail[0]), _plain(tail[1]), tuple(options), head[2], root, parent)


def _plain(text: str) -> str:
    """Decode a path, in which spaces and the like are written as octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
