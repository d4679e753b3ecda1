# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the memory of a command and all its processes: peak.py COMMAND [ARGUMENT...]

Prints JSON: ``bytes``, the largest sum of their proportional set sizes (memory that several share counts once), as often looked
at as possible; ``samples``, how often that was; ``processes``, how many there were then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress


def family(pid: int) -> list[int]:
    """A process and what came of it."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with suppress(OSError), open(f"/proc/{one}/task/{task}/children") as stream:
                    found.extend(map(int, stream.read().split()))
    return found


def proportional_set_size(pid: int) -> int:
    """In bytes; 0 if the process is gone. Documentation/filesystems/proc.rst, smaps_rollup."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as stream:
        for line in stream:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def main() -> None:
    samples, most = 0, (0, 0)
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            sizes = [proportional_set_size(pid) for pid in family(process.pid)]
            most = max(most, (sum(sizes), len(sizes)))
            samples += 1
    if process.returncode != 0:
        sys.exit(f"{sys.argv[1:]} ended with {process.returncode}")
    json.dump({"bytes": most[0], "processes": most[1], "samples": samples}, sys.stdout)


main()
