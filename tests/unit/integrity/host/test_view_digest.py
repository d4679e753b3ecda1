# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A view's digest doesn't depend on how many processes share the work; each file is read by one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.integrity.host import view_digest
from ansible_collections.slipway.node.plugins.module_utils.integrity.tree_digest import TreeDigest


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a directory with several shares of files, and with links from one to another."""
    for directory in ("a", "a/b", "b", "c\n", "lost+found", "c\n/lost+found", "empty"):
        (tmp_path / directory).mkdir()
        for number in range(100 if directory != "empty" else 0):
            (tmp_path / directory / f"{number}").write_text(directory)
    os.link(tmp_path / "a/7", tmp_path / "c\n/linked")
    os.link(tmp_path / "c\n/7", os.fsencode(tmp_path) + b"/\xff")
    (tmp_path / "a/leads").symlink_to("elsewhere")
    root = os.open(tmp_path, os.O_RDONLY)
    yield root
    os.close(root)


def shared(root: int, parts: int) -> str:
    digest = TreeDigest()
    for part in range(parts):
        digest.add(view_digest.view_digest(root, part, parts).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_is_the_same_in_any_number_of_parts(tree: int, parts: int) -> None:
    assert shared(tree, parts) == view_digest.view_digest(tree, 0, 1).hexdigest() == shared(tree, 1)


def test_each_file_is_read_once(tree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def note(name: bytes, _status: os.stat_result) -> bytes:
        read.append(name)
        return name

    monkeypatch.setattr(view_digest, "_line", note)
    counts = []
    for part in range(2):
        view_digest.view_digest(tree, part, 2)
        counts.append(len(read))
    total = sum(len(files) + len(directories) for _path, directories, files in os.walk(os.readlink(f"/proc/self/fd/{tree}")))
    # The one that mkfs makes, and what is in it, is not judged.
    assert counts[1] == total - 101 and counts[0] > total / 4 and counts[1] - counts[0] > total / 4


@pytest.mark.parametrize("path", [b"a/7", b"a/b/99", b"b/0", b"c\n/linked", b"c\n/lost+found/3", b"\xff", b"a/leads", b"empty"])
def test_every_name_counts(tree: int, path: bytes) -> None:
    before = shared(tree, 2)
    os.rename(path, path + b"-", src_dir_fd=tree, dst_dir_fd=tree)
    assert shared(tree, 2) != before


def test_which_names_share_a_file_counts(tree: int) -> None:
    before = shared(tree, 2)
    os.unlink("c\n/linked", dir_fd=tree)
    os.link("a/8", "c\n/linked", src_dir_fd=tree, dst_dir_fd=tree)
    assert shared(tree, 2) != before
