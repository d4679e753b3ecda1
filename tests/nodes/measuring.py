# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared parts of the measurements of images: the image, the module's run on a node, runs in turn, and their medians."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nodes import payload
from nodes.own_disk import CONFIG, PROGRAMS, SOCKET

DISK_MEGABYTES = 2048
# For its size it has more files than a Debian base system, and fewer than a Python environment.
LAYERS, FILES, BYTES = 7, 16000, 380_000_000


def module_args(*names: str, **more: Any) -> dict[str, Any]:
    """Of containerd_image, for the containerd that has a disk of its own."""
    own = {"plain_http": True, "address": SOCKET, "config_file": CONFIG, "binary": f"{PROGRAMS}/containerd"}
    return {"name": list(names), **own, **more}


def module(*names: str, **more: Any) -> str:
    """Shell command that runs containerd_image on the node."""
    return shlex.join(payload.command("containerd_image", module_args(*names, **more), payload.PACKAGE))


def interleaved(runs: int, measures: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """The results of each, all in turn; the first round only warms up."""
    found: dict[str, list[Any]] = {name: [] for name in measures}
    for number in range(runs + 1):
        for name, measure in measures.items():
            result = measure()
            print(f"round {number}: {name}: {result}", file=sys.stderr, flush=True)
            if number > 0:
                found[name].append(result)
    return found


def seconds(values: Sequence[float]) -> str:
    """The median, and minimum and maximum."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"
