# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last shutdown: clean or not, by the messages of systemd and the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# What the kernel says when it mounts a file system that was not unmounted. ext4: fs/ext4/super.c and fs/jbd2/recovery.c; xfs:
# fs/xfs/xfs_log_recover.c; btrfs: fs/btrfs/disk-io.c.
_RECOVERIES = (
    r"EXT4-fs \({device}\): (?:recovery complete|write access will be enabled during recovery)",
    r"XFS \({device}\): (?:Starting|Ending) recovery",
    r"BTRFS[^:]*\(device {device}[^)]*\): start tree-log replay",
)
# What fsck says that did it in the kernel's stead: e2fsck/journal.c.
_FSCK = r"^(?:.*: )?/dev/\S*: recovering journal"
# The last that systemd writes on its way down.
_ENDINGS = re.compile(
    r"^(?:Journal stopped|Reached target (?:\S+ - )?System (?:Power Off|Reboot|Halt|Shutdown|Poweroff)\.?)$", re.MULTILINE
)


@dataclass(frozen=True)
class Shutdown:
    """``clean`` is None if unknown; ``evidence`` is the reason."""

    clean: bool | None
    evidence: str


def classify(
    *, born: float | None, booted: float, devices: Iterable[str], kernel: str, fsck: str, before: str | None
) -> Shutdown:
    """Return how the boot before ended.

    ``born``: when containerd's directory was made, in seconds since 1970 as ``booted`` is; None if that isn't known.
    ``devices``: names that the kernel has for those under it, such as vda1. ``kernel`` and ``fsck`` are what these have logged in
    this boot, ``before`` the last lines of the journal of the boot before, None if there is none.
    """
    if born is not None and born > booted:
        return Shutdown(True, "containerd's directory was created in this boot")
    for device in devices:
        for pattern in _RECOVERIES:
            found = re.search(pattern.format(device=re.escape(device)), kernel)
            if found:
                return Shutdown(False, f"the kernel's log has: {found[0]}")
    found = re.search(_FSCK, fsck, re.MULTILINE)
    if found:
        return Shutdown(False, f"fsck's log has: {found[0].strip()}")
    if before is None:
        return Shutdown(None, "the journal has no boot before this one")
    ending = _ENDINGS.search(before)
    if ending:
        return Shutdown(True, f"the journal of the boot before has: {ending[0]}")
    return Shutdown(False, "the journal of the boot before ends without a shutdown")
