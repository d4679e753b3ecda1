# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a process in /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.process import Process


def read_process(pid: int) -> Process | None:
    """Return a process, None if it doesn't exist (any more). Raises HostError if it can't be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # The name in parentheses may hold spaces; field 22 is the start, in ticks since boot.
            ticks = int(stream.read().rpartition(")")[2].split()[19])
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            arguments = stream.read().decode(errors="surrogateescape").split("\0")[:-1]
        link = os.readlink(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError as error:
        raise HostError(f"cannot read process {pid}: become root (become: true)") from error
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    started = time.time() - (since_boot - ticks / os.sysconf("SC_CLK_TCK"))
    return Process(pid, started, tuple(arguments), None if link.endswith(" (deleted)") else link)


def change_time(path: str) -> float | None:
    """Return when a file's content, name or owner changed, in seconds since the epoch; None for a file that isn't there.

    It is the change time that counts: copying with ``-p`` and package managers set the other one back. A symbolic
    link that leads elsewhere is a change too, however old the file that it leads to.
    """
    times = []
    for look in (os.stat, os.lstat):
        with suppress(FileNotFoundError, NotADirectoryError):
            times.append(look(path).st_ctime)
    return max(times, default=None)


def running_shims(address: str) -> list[str]:
    """Return the shims that serve the daemon behind a socket, as NAMESPACE/ID; found without asking the daemon."""
    return sorted(shim_processes(address).values())


def shim_processes(address: str) -> dict[int, str]:
    """Return the same by process id."""
    shims = {}
    wanted = os.path.realpath(address)
    for entry in os.listdir("/proc"):
        process = read_process(int(entry)) if entry.isdigit() else None
        served = process.option("-address") if process is not None else None
        if process is None or served is None or os.path.realpath(served) != wanted:
            continue
        # A handler's shim may have any name.
        if process.option("-namespace") and process.option("-id"):
            shims[process.pid] = f"{process.option('-namespace')}/{process.option('-id')}"
    return shims


def read_environment(pid: int) -> dict[str, str] | None:
    """Return the variables that a process was started with; None if it is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            pairs = stream.read().decode(errors="surrogateescape").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError as error:
        raise HostError(f"cannot read process {pid}: become root (become: true)") from error
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
