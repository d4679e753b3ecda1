# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a root file system: the values of each, and the layer that it comes from."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import CHARACTER, DIRECTORY, FILE

# What they take of the memory beside their names, targets and values.
_BYTES = {FILE: 220, DIRECTORY: 520}
_OTHER_BYTES, _ATTRIBUTE_BYTES = 300, 220
# A file's origin is the number of its layer and that of its entry there.
_ENTRIES = 1 << 40
# Of these there are few: each is kept once.
_MODES: dict[int, int] = {}
_NO_CHILDREN: dict[bytes, Inode] = {}


class Inode:
    """One file; the same object in several directories is a hard link.

    ``kind`` as in tar_headers; ``mode``: permission bits, None with ``uid`` and ``gid`` if these can't be known;
    ``size`` in bytes; ``target`` of a symbolic link; ``device``: major and minor number; ``children`` of a directory;
    ``linked``: has other names; ``origin``: where it comes from, and its content is, as Layer.add was told.
    """

    # Most are regular files, which have no more than these.
    __slots__ = ("gid", "kind", "linked", "mode", "origin", "size", "uid", "xattrs")
    children = _NO_CHILDREN
    opaque = False
    target = b""
    device = (0, 0)

    def __init__(self, kind: str, mode: int | None, uid: int, gid: int) -> None:
        self.kind = kind
        self.mode = None if mode is None else known_mode(mode)
        self.uid = uid
        self.gid = gid
        self.size = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.linked = False
        self.origin = 0

    def copy(self) -> Inode:
        """Copy the inode without its children."""
        other = new_node(self.kind, self.mode, self.uid, self.gid)
        other.size, other.origin, other.xattrs, other.linked = self.size, self.origin, self.xattrs, self.linked
        if isinstance(other, SpecialInode):
            other.target, other.device, other.opaque = self.target, self.device, self.opaque
        return other

    @property
    def is_whiteout(self) -> bool:
        """To overlayfs; elsewhere it is a device like others."""
        return self.kind == CHARACTER and self.device == (0, 0)


class SpecialInode(Inode):
    """A file that is not a regular file."""

    __slots__ = ("children", "device", "opaque", "target")

    def __init__(self, kind: str, mode: int | None, uid: int, gid: int) -> None:
        super().__init__(kind, mode, uid, gid)
        self.children = {} if kind == DIRECTORY else _NO_CHILDREN
        self.opaque = False
        self.target = b""
        self.device = (0, 0)


def new_node(kind: str, mode: int | None, uid: int, gid: int) -> Inode:
    """Create an inode without the further values of its entry."""
    return Inode(kind, mode, uid, gid) if kind == FILE else SpecialInode(kind, mode, uid, gid)


def new_directory(mode: int | None = None, uid: int = 0, gid: int = 0) -> Inode:
    """Return an empty directory; mode and owner are not known, unless given."""
    return SpecialInode(DIRECTORY, mode, uid, gid)


def origin_of(layer: int, entry: int) -> int:
    """Return the origin of an entry of a layer; both are numbered from 0."""
    return layer * _ENTRIES + entry


def layer_of(origin: int) -> int:
    """Return the number of the layer that something comes from."""
    return origin // _ENTRIES


def size_of(name: bytes, node: Inode) -> int:
    """Estimate the memory of a node, in bytes."""
    size = _BYTES.get(node.kind, _OTHER_BYTES) + len(name) + len(node.target)
    if node.xattrs:
        size += sum(_ATTRIBUTE_BYTES + len(key) + len(value) for key, value in node.xattrs.items())
    return size


def known_mode(mode: int) -> int:
    """Return the same number, as an object that all files of that mode share."""
    return _MODES.setdefault(mode, mode)
