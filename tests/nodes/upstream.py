# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of upstream's releases that the tests use themselves; tests/upstream has their archives."""

from __future__ import annotations

import fcntl
import tarfile
from pathlib import Path

from nodes.node import CHECKOUT, WORK, run


def unpacked(program: str, version: str) -> Path:
    """The directory with the files of a release's archive, below the checkout's work directory."""
    directory = WORK / "upstream" / f"{program}-{version}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            archive = run([str(CHECKOUT / "tests/upstream"), program, version]).stdout.strip()
            new = directory.with_name(f"{directory.name}.new")
            with tarfile.open(archive) as packed:
                packed.extractall(new, filter="data")
            new.rename(directory)
    return directory
