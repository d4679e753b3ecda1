# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares the bytes of files with a layer, while the layer is read.

A layer is read before it is known whether its files are still there in the end: a layer above may have replaced them, or
taken away all names but that of a hard link. So what isn't equal is kept in mind, and judged when the whole tree is known.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import FileAttributes
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode

_ZEROS = bytes(1 << 16)
Path = tuple[bytes, ...]


class Outcome(NamedTuple):
    """The outcome of one file of a layer: its ``entry``, from 0; the problem of its bytes, None if they couldn't be compared.

    ``inode`` is what was compared, if that has several names. An intact file with one name has none.
    """

    entry: int
    problem: str | None
    inode: tuple[int, int] | None


class ContentCheck:
    """The files below one directory, which ``root`` is a descriptor of. ``close`` has to be called."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._directory: tuple[Path, int | None] = ((), os.dup(root))
        self._outcomes: list[Outcome] = []

    def start(self, path: Path, size: int, entry: int) -> OpenFile | None:
        """Return a file of a layer to compare at this path; None if the path has another size, or is no file."""
        descriptor = self._open(path)
        if descriptor is not None:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size == size:
                return OpenFile(descriptor, size, (status.st_dev, status.st_ino) if status.st_nlink > 1 else None)
            os.close(descriptor)
        self._outcomes.append(Outcome(entry, None, None))
        return None

    def end(self, file: OpenFile, entry: int) -> None:
        """End the comparison of a file whose content is complete."""
        problem = file.finish()
        if problem or file.inode is not None:
            self._outcomes.append(Outcome(entry, problem, file.inode))

    def take_outcomes(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        _path, descriptor = self._directory
        if descriptor is not None:
            os.close(descriptor)

    def _open(self, path: Path) -> int | None:
        """Open a file through real directories only: a link could lead out of the root."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        directory = self._parent(path[:-1])
        if directory is None:
            return None
        try:
            return os.open(path[-1], flags, dir_fd=directory)
        except OSError:
            return None

    def _parent(self, path: Path) -> int | None:
        latest, descriptor = self._directory
        if latest == path:
            return descriptor
        if descriptor is not None:
            os.close(descriptor)
        self._directory = path, None
        descriptor = os.dup(self._root)
        for part in path:
            above = descriptor
            try:
                descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            except OSError:
                return None
            finally:
                os.close(above)
        self._directory = path, descriptor
        return descriptor


class OpenFile:
    """A file that is compared piece by piece; ``size`` in bytes is the same for both, ``inode`` as in Outcome."""

    def __init__(self, descriptor: int, size: int, inode: tuple[int, int] | None) -> None:
        self.inode = inode
        self._descriptor = descriptor
        self._size = size
        self._at = 0
        self._problem = ""

    def compare(self, offset: int, piece: bytes) -> None:
        """Compare with what the file has to contain there; zeros since the last piece."""
        self._compare_zeros(offset)
        self._compare(piece)

    def finish(self) -> str:
        """Return the problem; empty if there is none."""
        self._compare_zeros(self._size)
        return self._problem

    def close(self) -> None:
        os.close(self._descriptor)

    def _compare_zeros(self, end: int) -> None:
        while self._at < end and not self._problem:
            self._compare(_ZEROS[: end - self._at])

    def _compare(self, piece: bytes) -> None:
        if not self._problem:
            try:
                found = os.pread(self._descriptor, len(piece), self._at)
            except OSError as error:
                self._problem = f"cannot be read from byte {self._at} on: {error.strerror}"
                return
            if found != piece:
                at = next((number for number, (one, other) in enumerate(zip(found, piece)) if one != other), len(found))
                self._problem = f"has other content from byte {self._at + at} on"
        self._at += len(piece)


def compare_content(
    checks: Sequence[ContentCheck], path: Path, size: int, entry: int, pieces: Iterable[tuple[int, bytes]]
) -> None:
    """Compare a file of a layer with several trees."""
    if not size:
        return
    started = [(check, check.start(path, size, entry)) for check in checks]
    files = [(check, file) for check, file in started if file is not None]
    if not files:
        return
    with ExitStack() as stack:
        for _check, file in files:
            stack.callback(file.close)
        for offset, piece in pieces:
            for _check, file in files:
                file.compare(offset, piece)
        for check, file in files:
            check.end(file, entry)


class ContentJudge:
    """The results of comparing the bytes of one tree's files, by origin."""

    def __init__(self) -> None:
        self._unequal: dict[int, str | None] = {}
        # That of which file, for those that have several names.
        self._compared: dict[int, tuple[int, int]] = {}
        # Files to compare when the layers are read once more, at these paths.
        self.again: dict[int, bytes] = {}

    def note(self, origin: int, problem: str | None, inode: tuple[int, int] | None) -> None:
        """Return the outcome for the file of an origin."""
        if problem == "":
            self._unequal.pop(origin, None)
        else:
            self._unequal[origin] = problem
        if inode is not None:
            self._compared[origin] = inode

    def has_to_see(self, node: Inode) -> bool:
        """Return whether a file that has its right size isn't just known to be right."""
        return node.linked or node.origin in self._unequal

    def judge(self, node: Inode, found: FileAttributes, path: bytes) -> str:
        """Return the problem of a file's bytes as far as it is known; files not compared are noted in ``again``."""
        origin = node.origin
        if node.linked and self._compared.get(origin) != found.inode:
            self.again.setdefault(origin, path)
            return ""
        problem = self._unequal.get(origin, "")
        if problem is None:
            self.again[origin] = path
        return problem or ""

    def judge_again(self, origin: int) -> str:
        problem = self._unequal.get(origin, "")
        return "its content could not be compared" if problem is None else problem
