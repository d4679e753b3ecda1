# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel gives to containers: its null device, and what its limits leave."""

from __future__ import annotations

import glob
import os
import stat
from contextlib import suppress

from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    FEW_NAMESPACES,
    NAMESPACES,
    NULL,
    KernelLimits,
    parse_keys,
    parse_number,
    parse_tasks,
)

# mem(4).
_NULL_DEVICE = (1, 3)


def read_null_problem(pid: int) -> str:
    """Return why a process can't use /dev/null, empty if it can, or has ended."""
    place = f"/proc/{pid}/root{NULL}"
    try:
        found = os.stat(place)
        if not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != _NULL_DEVICE:
            return f"{NULL} is not the kernel's null device"
        # The file system may be mounted nodev.
        os.close(os.open(place, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{NULL} isn't there" if os.path.exists(f"/proc/{pid}/root") else ""
    except OSError as error:
        return f"{NULL} can't be opened ({error.strerror})"
    return ""


def read_kernel_limits(pid: int) -> KernelLimits:
    """Return what the kernel's limits leave for containers that a process starts. Raises HostError."""
    most = [parse_number(read_text(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max")]
    mounts = parse_number(read_text("/proc/sys/fs/mount-max"))
    return KernelLimits(
        namespaces={kind: left for kind in NAMESPACES for left in [_namespaces_left(kind)] if left is not None},
        tasks=parse_tasks(read_text("/proc/loadavg") or "", [one for one in most if one is not None]),
        keys=parse_keys(read_text("/proc/key-users") or ""),
        mounts=None if mounts is None else mounts - len((read_text(f"/proc/{pid}/mountinfo") or "").splitlines()),
    )


def _namespaces_left(kind: str) -> int | None:
    """Return how many namespaces root may still create; None if there is no limit that could be reached soon."""
    most = parse_number(read_text(f"/proc/sys/user/max_{kind}_namespaces"))
    if most is None or most >= FEW_NAMESPACES:
        return None
    used = set()
    for link in glob.glob(f"/proc/[0-9]*/ns/{kind}"):
        with suppress(OSError):
            used.add(os.readlink(link))
    return most - len(used)
