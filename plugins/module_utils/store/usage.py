# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sizes of snapshots, as ``ctr snapshots usage`` prints them."""

from __future__ import annotations

import re

_USAGE = re.compile(r"(.*?)\s+(\d+)\s+\d+\s*\Z")


def parse_usage(stdout: str) -> dict[str, int]:
    """Parse the bytes by key from ``ctr snapshots usage -b``."""
    found = (_USAGE.match(line) for line in stdout.splitlines()[1:])
    return {row[1]: int(row[2]) for row in found if row}


def parse_single_usage(stdout: str) -> int:
    """Parse the bytes of ``ctr snapshots usage -b KEY``. Raises ValueError for another output."""
    rows = [line.split() for line in stdout.splitlines()[1:] if line.strip()]
    if len(rows) != 1 or len(rows[0]) < 3 or not rows[0][-2].isdigit():
        raise ValueError(f"this is no snapshot's usage: {stdout!r}")
    return int(rows[0][-2])
