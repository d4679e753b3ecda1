# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.mounts import (
    Mount,
    cover_of,
    parse_mount_id,
    parse_mounts,
    weakness,
)


@pytest.fixture
def mounts(recorded: Callable[[str, str], str]) -> dict[int, Mount]:
    return parse_mounts(recorded("linux-6.18", "mountinfo.txt"))


def test_every_line_is_read(mounts: dict[int, Mount]) -> None:
    assert len(mounts) == 10
    assert mounts[422] == Mount(422, "/srv/plain", "ext4", "/dev/loop0", ("rw", "relatime"), "7:0")
    assert mounts[426].path == "/srv/with space"
    assert mounts[425].options == ("rw", "relatime", "data=writeback")
    assert str(mounts[425]) == "ext4 at /srv/writeback"


def test_a_mount_over_another_is_told_from_it(mounts: dict[int, Mount]) -> None:
    assert [(mounts[number].path, mounts[number].source) for number in (433, 434)] == [
        ("/srv/over", "first"),
        ("/srv/over", "second"),
    ]


# By id of the recorded mount: how bad it is, and what the reason says.
RECORDED = [
    (294, None, ""),
    (422, None, ""),
    (424, "fail", "nobarrier"),
    (425, "warn", "data=writeback"),
    (426, "fail", "nobarrier"),
    (429, "unknown", "below"),
    (432, "fail", "fsync=volatile"),
    (434, "warn", "memory"),
]


@pytest.mark.parametrize(("number", "status", "reason"), RECORDED, ids=[str(one[0]) for one in RECORDED])
def test_weaknesses_of_real_mounts(mounts: dict[int, Mount], number: int, status: str | None, reason: str) -> None:
    found = weakness(mounts[number])
    assert (found.status if found else None) == status
    if found:
        assert reason in found.reason
        assert found.remedy


# Words of other kernels and file systems, from their documentation.
OTHERS = [
    ("xfs", ("rw", "attr2", "inode64"), None),
    ("xfs", ("rw", "nobarrier"), "fail"),
    ("ext3", ("rw", "barrier=0"), "fail"),
    ("ext4", ("rw", "barrier=1"), None),
    ("ext4", ("rw", "data=ordered"), None),
    ("ext4", ("rw", "data=journal"), None),
    ("btrfs", ("rw", "nobarrier", "subvol=/data=writeback"), "fail"),
    ("f2fs", ("rw", "fsync_mode=nobarrier"), "fail"),
    ("f2fs", ("rw", "fsync_mode=posix"), None),
    ("overlay", ("rw", "volatile"), "fail"),
    ("ramfs", ("rw",), "warn"),
    ("nfs4", ("rw",), "unknown"),
    ("fuse.sshfs", ("rw",), "unknown"),
    ("zfs", ("rw",), "unknown"),
]


@pytest.mark.parametrize(("kind", "options", "status"), OTHERS)
def test_weaknesses_of_others(mounts: dict[int, Mount], kind: str, options: tuple[str, ...], status: str | None) -> None:
    found = weakness(replace(mounts[422], type=kind, options=options))
    assert (found.status if found else None) == status


@pytest.mark.parametrize("line", ["nonsense", "36 35 98:0 / /mnt rw", "x 35 98:0 / /mnt rw - ext3 /dev/sda rw", "36 - ext3 a rw"])
def test_refuses_what_is_no_mountinfo(line: str) -> None:
    with pytest.raises(ValueError, match="no line of mountinfo"):
        parse_mounts(line)


def test_optional_fields_do_not_shift_the_rest() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0112 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue"
    assert parse_mounts(line)[36] == Mount(36, "/mnt\t2", "ext3", "/dev/root", ("rw", "noatime", "errors=continue"), "98:0")


def test_the_mount_of_an_open_file_is_read() -> None:
    assert parse_mount_id("pos:\t0\nflags:\t010000000\nmnt_id:\t426\nino:\t131073\n") == 426
    with pytest.raises(ValueError, match="doesn't say"):
        parse_mount_id("pos:\t0\n")


def placed(*mounts: tuple[int, int, str]) -> list[Mount]:
    """Mounts by id, the id of the mount below, and path."""
    return [Mount(number, path, "tmpfs", "tmpfs", (), parent=parent) for number, parent, path in mounts]


@pytest.mark.parametrize(
    ("table", "cover"),
    [
        ([(1, 1, "/"), (2, 1, "/a/b")], None),
        ([(1, 1, "/"), (3, 1, "/a"), (2, 3, "/a/b")], None),
        ([(1, 1, "/"), (2, 1, "/a/b"), (3, 2, "/a/b/c"), (4, 1, "/a/bb")], None),
        ([(1, 1, "/"), (3, 1, "/a/b"), (2, 3, "/a/b")], None),
        ([(1, 1, "/"), (2, 1, "/a/b"), (3, 2, "/a/b")], 3),
        ([(1, 1, "/"), (2, 1, "/a/b"), (3, 1, "/a")], 3),
        ([(1, 1, "/"), (3, 1, "/a"), (2, 3, "/a/b"), (4, 3, "/a")], 4),
    ],
)
def test_a_mount_on_the_path_or_above_hides_another(table: list[tuple[int, int, str]], cover: int | None) -> None:
    mounts = placed(*table)
    found = cover_of(next(one for one in mounts if one.id == 2), mounts)
    assert (found.id if found else None) == cover
