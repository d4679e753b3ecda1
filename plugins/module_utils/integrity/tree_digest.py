# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree of files as one digest of all that is judged without opening them: equal digests mean equal trees.

It covers each directory's names in their order, directories before what is in them, and at last which names share a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from operator import itemgetter

from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import is_judged
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FILE, SYMLINK

# mkfs makes it, on the snapshotters that give each snapshot a device.
OF_FILE_SYSTEM = b"lost+found"
# Of a directory: no file has an empty name.
_END = b"\0"


class TreeDigest:
    """Takes a tree directory by directory, in the order of their paths' parts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # Names by what tells a file from others; a directory's path is one object for all that is in it.
        self._links: dict[Hashable, list[tuple[bytes, bytes]]] = {}

    def directory(self, lines: Iterable[bytes]) -> None:
        """All that is in it, as ``line`` says it, by name."""
        for one in lines:
            self._hash.update(one)
        self._hash.update(_END)

    def link(self, file: Hashable, directory: bytes, name: bytes) -> None:
        """One name of a file that may have several; in the order of the lines."""
        self._links.setdefault(file, []).append((directory, name))

    def hexdigest(self) -> str:
        """Nothing may be added after it."""
        for names in self._links.values():
            if len(names) > 1:
                self._hash.update(b"".join(b"%b/%b\0" % pair for pair in names) + b"\n")
        return self._hash.hexdigest()


def line(name: bytes, kind: str, mode: int, uid: int, gid: int, value: bytes) -> bytes:
    """One file; ``value`` is its size, a link's target, or the numbers of a device. A link's mode can't be set."""
    return b"%b\0%b %o %d %d %b\0" % (name, kind.encode(), 0 if kind == SYMLINK else mode, uid, gid, value)


def attribute_lines(attributes: Mapping[bytes, bytes]) -> bytes:
    """Encode the extended attributes that are compared; they follow their file's line."""
    return b"".join(b"%b\0%d %b" % (key, len(value), value) for key, value in sorted(attributes.items()))


def expected_digest(tree: RootFs) -> str | None:
    """Return the digest that a view of the tree must have; None if it isn't known of all files, or proves nothing."""
    if OF_FILE_SYSTEM in tree.root.children:
        return None
    digest = TreeDigest()
    # Directories in a directory, whose path is one object for all of them.
    pending: list[tuple[bytes, bytes, Inode]] = [(b"", b"", tree.root)]
    while pending:
        above, last, directory = pending.pop()
        path = b"%b/%b" % (above, last) if last else above
        if directory.mode is None and directory is not tree.root:
            return None
        digest.directory(_lines(directory, path, digest))
        below = [(path, name, node) for name, node in directory.children.items() if node.kind == DIRECTORY]
        pending.extend(sorted(below, reverse=True, key=itemgetter(1)))
    return digest.hexdigest()


def _lines(directory: Inode, path: bytes, digest: TreeDigest) -> Iterator[bytes]:
    for name in sorted(directory.children):
        node = directory.children[name]
        if node.linked:
            digest.link(id(node), path, name)
        yield _line(name, node, node.mode or 0)


def _line(name: bytes, node: Inode, mode: int) -> bytes:
    value = b""
    if node.kind == FILE:
        value = b"%d" % node.size
    elif node.kind == SYMLINK:
        value = node.target
    elif node.kind in (CHARACTER, BLOCK_DEVICE):
        value = b"%d:%d" % node.device
    written = line(name, node.kind, mode, node.uid, node.gid, value)
    if node.xattrs:
        written += attribute_lines({key: value for key, value in node.xattrs.items() if is_judged(node.kind, key)})
    return written
