# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walks a view of a snapshot and the expected tree at the same time."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.integrity import comparison
from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import FileAttributes
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode, layer_of
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Difference
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    show,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.tree_digest import OF_FILE_SYSTEM

# More are counted, not listed.
LISTED = 100
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: comparison.SOCKET,
}
# The file system has no extended attributes; containerd doesn't set any there either.
NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA)

# What is wrong with a file's bytes, from what is expected, what is found and where; empty if nothing.
Content = Callable[[Inode, FileAttributes, bytes], str]


@dataclass
class TreeComparer:
    """``root`` is a descriptor of a directory. Nothing is opened but directories in it, and no link is followed.

    ``differences`` are the first hundred of ``count``; ``lowest`` is the number of the lowest layer that any of them comes
    from, 0 if unknown. Raises HostError if something can't be read.
    """

    root: int
    content: Content | None = None
    differences: list[Difference] = field(default_factory=list)
    count: int = 0
    lowest: int = 0
    # Where a hard link was seen first, by the node that its names share.
    _links: dict[int, tuple[tuple[int, int], bytes, bytes]] = field(default_factory=dict)

    def compare(self, tree: RootFs) -> None:
        # Directories in a directory; None for one that should not be there.
        pending: list[tuple[bytes, bytes, Inode | None]] = [(b"", b"", tree.root)]
        while pending:
            above, name, node = pending.pop()
            path = _join(above, name)
            pending.extend(reversed([(path, below, child) for below, child in self._directory(path, node)]))

    def compare_content(self, tree: RootFs, has_to_see: Callable[[Inode], bool]) -> None:
        """Compare only the bytes of files that need it; everything else is known to be right."""
        pending = [(b"", b"", tree.root)]
        while pending:
            above, last, directory = pending.pop()
            path = _join(above, last)
            for name, node in directory.children.items():
                if node.kind == DIRECTORY:
                    pending.append((path, name, node))
                elif node.kind == FILE and node.size and self.content is not None and has_to_see(node):
                    file = _join(path, name)
                    with naming(file):
                        status = os.stat(file, dir_fd=self.root, follow_symlinks=False)
                    problem = self.content(node, _found(status), file)
                    if problem:
                        self.report(file, problem, layer_of(node.origin))

    def report(self, path: bytes, problem: str, layer: int) -> None:
        """Add a difference. ``layer`` is the number of the layer of the expected file, 0 if the file is not expected."""
        self.lowest = min(self.lowest, layer) if self.count else layer
        self.count += 1
        if len(self.differences) < LISTED:
            self.differences.append(Difference("/" + show(path), problem))

    def _directory(self, path: bytes, node: Inode | None) -> Iterator[tuple[bytes, Inode | None]]:
        """Judge a directory's entries; yields the directories among them."""
        found = dict(self._scan(path))
        wanted = node.children if node is not None else {}
        for name in sorted(found.keys() | wanted.keys()):
            expected, there = wanted.get(name), found.get(name)
            if there is None:
                self._missing(path, name, wanted[name])
                continue
            if expected is not None:
                self._judge(path, name, expected, there)
                if there.kind != DIRECTORY:
                    self._missing_below(_join(path, name), expected)
            elif name == OF_FILE_SYSTEM and not path and there.kind == DIRECTORY:
                continue
            else:
                self.report(_join(path, name), comparison.EXTRA, 0)
            if there.kind == DIRECTORY:
                yield name, expected

    def _scan(self, path: bytes) -> Iterator[tuple[bytes, FileAttributes]]:
        with naming(path):
            directory = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        # overlayfs lists a whiteout with nothing below it, but it can't be found.
                        with suppress(FileNotFoundError):
                            yield os.fsencode(entry.name), _found(entry.stat(follow_symlinks=False))
            finally:
                os.close(directory)

    def _judge(self, above: bytes, name: bytes, node: Inode, found: FileAttributes) -> None:
        path = _join(above, name)
        wrong = list(comparison.problems(node, found))
        if node.kind == found.kind:
            if node.kind == SYMLINK:
                with naming(path):
                    target = os.readlink(path, dir_fd=self.root)
                wrong.append(comparison.target_problem(node, target))
            else:
                wrong.extend(self._attributes(path, node))
            if node.linked:
                # The directory's path is the same object for all that is in it.
                inode, *first = self._links.setdefault(id(node), (found.inode, above, name))
                if inode != found.inode:
                    wrong.append(f"is not the same file as /{show(_join(*first))}")
            if self.content is not None and node.kind == FILE and node.size == found.size > 0:
                wrong.append(self.content(node, found, path))
        wrong = [problem for problem in wrong if problem]
        if wrong:
            self.report(path, "; ".join(wrong), layer_of(node.origin))

    def _attributes(self, path: bytes, node: Inode) -> Iterator[str]:
        if node.kind not in (FILE, DIRECTORY) or node.mode is None:
            return iter(())
        # There is no call that takes a descriptor of a directory.
        name = b"/proc/self/fd/%d/%s" % (self.root, path)
        try:
            there = [os.fsencode(key) for key in os.listxattr(name, follow_symlinks=False)]
            found = {key: os.getxattr(name, key, follow_symlinks=False) for key in there if comparison.is_judged(node.kind, key)}
        except OSError as error:
            if error.errno in NO_ATTRIBUTES:
                return iter(())
            raise HostError(f"cannot read /{show(path)} of an image: {error.strerror}") from error
        return comparison.attribute_problems(node, found)

    def _missing(self, above: bytes, name: bytes, node: Inode) -> None:
        path = _join(above, name)
        self.report(path, comparison.MISSING, layer_of(node.origin))
        self._missing_below(path, node)

    def _missing_below(self, path: bytes, node: Inode) -> None:
        pending = [(path, b"", node)]
        while pending:
            above, last, node = pending.pop()
            path = _join(above, last) if last else above
            for name, child in sorted(node.children.items()):
                self.report(_join(path, name), comparison.MISSING, layer_of(child.origin))
                pending.append((path, name, child))


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


@contextmanager
def naming(path: bytes) -> Iterator[None]:
    """Turn an OSError inside the block into HostError."""
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot read /{show(path)} of an image: {error.strerror}") from error


def _found(status: os.stat_result) -> FileAttributes:
    mode = status.st_mode
    return FileAttributes(
        kind=KINDS[stat.S_IFMT(mode)],
        mode=stat.S_IMODE(mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        inode=(status.st_dev, status.st_ino),
    )
