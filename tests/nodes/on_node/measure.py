# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the cost of a command: measure.py MOUNT-POINT COMMAND [ARGUMENT...]

Prints JSON: its seconds, what the file system's device was given to write until it returned (``writes``, ``bytes``) and until
everything was on disk (``writes_in_all``, ``bytes_in_all``), and its ``output``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time


def device(mount_point: str) -> str:
    with open("/proc/self/mounts") as stream:
        rows = [line.split() for line in stream]
    return [row[0] for row in rows if row[1] == mount_point][-1].rpartition("/")[2]


def written(name: str) -> tuple[int, int]:
    """Write requests, and bytes; Documentation/block/stat.rst."""
    with open(f"/sys/block/{name}/stat") as stream:
        fields = stream.read().split()
    return int(fields[4]), int(fields[6]) * 512


def main() -> None:
    mount_point, command = sys.argv[1], sys.argv[2:]
    name = device(mount_point)
    subprocess.run(["sync", "-f", mount_point], check=True)
    before = written(name)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    after = written(name)
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    subprocess.run(["sync", "-f", mount_point], check=True)
    end = written(name)
    result = {"seconds": seconds, "output": done.stdout}
    result.update(writes=after[0] - before[0], bytes=after[1] - before[1])
    result.update(writes_in_all=end[0] - before[0], bytes_in_all=end[1] - before[1])
    json.dump(result, sys.stdout)


main()
