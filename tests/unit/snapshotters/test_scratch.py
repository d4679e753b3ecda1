# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.sizes import parse_size, shown
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import Scratch, ScratchSpec

SIZE = 32 << 20


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A file with ext4 in it, as mkfs makes it."""
    path = tmp_path / "scratch"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip("there is no mkfs.ext4 here")
    subprocess.run([program, "-q", str(path)], check=True)
    return path


def judged(path: Path) -> Scratch:
    with path.open("rb") as stream:
        return scratch.classify(stream.read(scratch.HEAD_BYTES), path.stat().st_size)


def test_what_mkfs_makes_is_sound(made: Path) -> None:
    assert judged(made) == Scratch(SIZE, "ext4")


def test_a_file_that_was_cut_short_is_damaged(made: Path) -> None:
    with made.open("rb+") as stream:
        stream.truncate(SIZE // 2)
    assert judged(made).damage == f"it was cut short: its file system has {SIZE} bytes, the file {SIZE // 2}"


@pytest.mark.parametrize(("offset", "bits"), [(1024 + 58, 1), (1024 + 96, 4)])
def test_a_file_system_that_was_not_unmounted_is_damaged(made: Path, offset: int, bits: int) -> None:
    """s_state without EXT4_VALID_FS, and s_feature_incompat with EXT4_FEATURE_INCOMPAT_RECOVER."""
    content = bytearray(made.read_bytes())
    content[offset] ^= bits
    made.write_bytes(content)
    assert judged(made) == Scratch(SIZE, "ext4", "its file system is mounted, or was not unmounted cleanly")


def test_xfs_is_known_by_its_size() -> None:
    head = b"XFSB" + (4096).to_bytes(4, "big") + (100).to_bytes(8, "big") + bytes(scratch.HEAD_BYTES)
    assert scratch.classify(head, 409600) == Scratch(409600, "xfs")
    assert scratch.classify(head, 409599).damage.startswith("it was cut short")


@pytest.mark.parametrize(
    ("head", "size", "words"), [(b"", 0, "empty"), (bytes(2048), 9999, "no file system"), (b"XFSB", 4, "no")]
)
def test_what_is_no_file_system_is_damaged(head: bytes, size: int, words: str) -> None:
    found = scratch.classify(head, size)
    assert (found.fs_type, words in found.damage) == ("", True)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Scratch(SIZE, "ext4"), ""),
        (Scratch(SIZE, "xfs"), "it holds xfs, not ext4"),
        (Scratch(1 << 30, "ext4"), "it has 1 GiB, not 32 MiB"),
        (Scratch(SIZE, "ext4", "it was cut short"), "it was cut short"),
    ],
)
def test_differences(found: Scratch, words: str) -> None:
    assert scratch.difference(ScratchSpec("/scratch", SIZE, "ext4"), found) == words


@pytest.mark.parametrize(
    ("size", "fs_type", "words"),
    [
        (SIZE, "btrfs", "fs_type has to be one of ext4, xfs"),
        (1 << 20, "ext4", "size has to be at least 8 MiB for ext4, not 1 MiB"),
        (SIZE, "xfs", "size has to be at least 300 MiB for xfs"),
        (SIZE + 1, "ext4", "multiple of 4096"),
    ],
)
def test_refuses_what_is_of_no_use(size: int, fs_type: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ScratchSpec("/scratch", size, fs_type)


def test_room_is_for_the_file_and_the_daemons_copy() -> None:
    wanted = ScratchSpec("/scratch", SIZE, "ext4")
    scratch.require_room(wanted, 2 * SIZE)
    with pytest.raises(ValueError, match=r"it and containerd's copy of it take 64 MiB, and 64\.0 MiB are free"):
        scratch.require_room(wanted, 2 * SIZE - 1)


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("1K", 1024), ("64M", 64 << 20), ("1.5 GiB", 3 << 29), ("2tb", 2 << 40), ("7B", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("size", text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "1X", "G", "1 2"])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size has to be a size such as 10G"):
        parse_size("size", text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert shown(size) == text
