# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree of files as one digest of all that is judged without opening them: equal digests mean equal trees.

It covers each directory's names in their order, directories before what is in them, and at last which names share a file.
Directories are numbered in that order, so that several processes can each take some of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from operator import itemgetter

from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import is_judged
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FILE, SYMLINK

# mkfs makes it, on the snapshotters that give each snapshot a device.
OF_FILE_SYSTEM = b"lost+found"


class TreeDigest:
    """Takes a tree directory by directory, in any order."""

    def __init__(self) -> None:
        self._directories: dict[int, str] = {}
        # Names that may not be the only ones of their file, and what tells the file from others.
        self._links: list[tuple[int, str, Hashable]] = []

    def directory(self, number: int, lines: Iterable[bytes]) -> None:
        """Take all that is in a directory, as ``line`` encodes it, by name."""
        self._directories[number] = hashlib.sha256(b"".join(lines)).hexdigest()

    def link(self, number: int, name: bytes, file: Hashable) -> None:
        """Take a name, in a directory, of a file that may have several."""
        self._links.append((number, name.decode("latin-1"), file))

    def encode(self) -> bytes:
        """Return a part of a tree for ``add`` of another process; files are told apart by numbers."""
        return json.dumps([list(self._directories.items()), self._links]).encode()

    def add(self, part: bytes) -> None:
        """Take what another process has encoded."""
        directories, links = json.loads(part)
        self._directories.update(directories)
        self._links.extend((number, name, tuple(file)) for number, name, file in links)

    def hexdigest(self) -> str:
        """Return the digest of the whole tree."""
        found = hashlib.sha256("".join(one for _number, one in sorted(self._directories.items())).encode())
        names: dict[Hashable, list[tuple[int, str]]] = {}
        for number, name, file in sorted(self._links, key=itemgetter(0, 1)):
            names.setdefault(file, []).append((number, name))
        found.update(json.dumps([group for group in names.values() if len(group) > 1]).encode())
        return found.hexdigest()


def line(name: bytes, kind: str, mode: int, uid: int, gid: int, value: bytes) -> bytes:
    """Encode one file; ``value`` is its size, a link's target, or the numbers of a device. A link's mode can't be set."""
    return b"%b\0%b %o %d %d %b\0" % (name, kind.encode(), 0 if kind == SYMLINK else mode, uid, gid, value)


def attribute_lines(attributes: Mapping[bytes, bytes]) -> bytes:
    """Encode the extended attributes that are compared; they follow their file's line."""
    return b"".join(b"%b\0%d %b" % (key, len(value), value) for key, value in sorted(attributes.items()))


def expected_digest(tree: RootFs) -> str | None:
    """Return the digest that a view of the tree must have; None if it isn't known of all files, or proves nothing."""
    if OF_FILE_SYSTEM in tree.root.children:
        return None
    digest = TreeDigest()
    pending, number = [tree.root], 0
    while pending:
        directory = pending.pop()
        if directory.mode is None and directory is not tree.root:
            return None
        digest.directory(number, _lines(directory, number, digest))
        below = [(name, node) for name, node in directory.children.items() if node.kind == DIRECTORY]
        pending.extend(node for _name, node in sorted(below, reverse=True, key=itemgetter(0)))
        number += 1
    return digest.hexdigest()


def _lines(directory: Inode, number: int, digest: TreeDigest) -> Iterator[bytes]:
    for name in sorted(directory.children):
        node = directory.children[name]
        if node.linked:
            digest.link(number, name, id(node))
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
