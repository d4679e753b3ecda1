# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run, and no limit for the time that one takes: a busy machine fails no test.
settings.load_profile("ci")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str, str], str]:
    """What the real programs of one containerd version printed, by version and file name."""
    directory = Path(__file__).parent / "recorded"

    def read(version: str, name: str) -> str:
        return (directory / version / name).read_text()

    return read


@pytest.fixture
def attributed() -> Callable[[Path], dict[str, bytes]]:
    """Give a file an ACL, whose mode is 0640, and an attribute; returns both. Skips on a file system without them."""
    # linux include/uapi/linux/posix_acl_xattr.h: the version, and a tag, permissions and an id for each entry.
    entries = [(0x01, 6, 0xFFFFFFFF), (0x02, 4, 12345), (0x04, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    wanted = {
        "system.posix_acl_access": struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries),
        "user.owner": b"an administrator",
    }

    def give(path: Path) -> dict[str, bytes]:
        try:
            for name, value in wanted.items():
                os.setxattr(path, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            pytest.skip(f"the file system of {path} has no such attributes")
        return wanted

    return give
