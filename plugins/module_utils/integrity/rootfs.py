# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The expected root file system of an image, from the entries of its layers as containerd applies them.

containerd pkg/archive/tar.go (applyNaive, createTarFile, mkparent), tar_opts_linux.go (OverlayConvertWhiteout) and
core/diff/apply/apply_linux.go. On overlayfs each layer is unpacked into a directory of its own, which sees nothing of
the layers below, and the kernel lays them over each other; on other snapshotters it is unpacked over the layers below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import (
    Inode,
    SpecialInode,
    known_mode,
    new_directory,
    new_node,
    size_of,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    CHARACTER,
    DIRECTORY,
    FILE,
    GLOBAL,
    HARD_LINK,
    SYMLINK,
    Entry,
    show,
)

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
# continuity fs/path.go, walkLink
_LINKS_FOLLOWED = 255
_TRUSTED = b"trusted."
_CAPABILITY = b"security.capability"
# The kernel's PATH_MAX and NAME_MAX, without the final zero: nothing longer can be made.
_PATH_BYTES, _NAME_BYTES = 4095, 255
# XATTR_SIZE_MAX
_ATTRIBUTE_BYTES = 1 << 16
# What the files of an image may take of the memory, about.
MOST_BYTES = 60 << 20
# What the hash of a path does, as long as its layer is read.
_HASH_BYTES = 140
# How much may have come since the tree was measured last.
_UNMEASURED_BYTES = MOST_BYTES >> 4


class RootFs:
    """Takes the layers of an image, lowest first. ``overlay``: they are unpacked for overlayfs.

    ``implied_modes``: directories that a layer has no entry for get the mode that containerd gives them; with erofs, they have
    and not those that mkfs.erofs set.

    Methods raise ValueError for layers that containerd could not have unpacked.
    """

    def __init__(self, *, overlay: bool, implied_modes: bool = True) -> None:
        # Nothing of a layer's own root directory is applied.
        self.root = new_directory()
        self._overlay = overlay
        self.implied_modes = implied_modes
        self._count = 0
        # Whether directories may be hidden below from which containerd would still take a mode.
        self._hides = False
        # Bytes in memory: at most, and when they were last measured.
        self._used = self._measured = 0

    def fork(self) -> RootFs:
        """Return a copy, for another image with the same layers so far."""
        other = RootFs(overlay=self._overlay, implied_modes=self.implied_modes)
        other._count, other._hides = self._count, self._hides
        other._used, other._measured = self._used, self._measured
        copies: dict[int, Inode] = {}
        pending: list[tuple[Inode, Inode]] = [(self.root, other.root)]
        while pending:
            source, target = pending.pop()
            for name, node in source.children.items():
                copy = copies.get(id(node))
                if copy is None:
                    copy = node.copy()
                    if node.linked:
                        copies[id(node)] = copy
                    elif node.kind == DIRECTORY:
                        pending.append((node, copy))
                target.children[name] = copy
        return other

    def layer(self) -> Layer:
        """Begin the next layer: add its entries, then call ``finish``."""
        self._count += 1
        if self._used - self._measured > _UNMEASURED_BYTES:
            self._used = self._measured = sum(map(_bytes_of, _directories(self.root)))
        if self._overlay and self._count > 1:
            if self._count == 2:
                _drop_whiteouts(self.root)
            return Layer(self, new_directory())
        return Layer(self)

    def take(self, size: int) -> None:
        """Count bytes of memory for a file. Raises ValueError if it gets too much."""
        self._used += size
        if self._used > MOST_BYTES:
            raise ValueError(f"the image has too many files: they take more than {MOST_BYTES >> 20} MiB of memory")

    def merge(self, upper: Inode) -> None:
        """Lay a layer over those below, as overlayfs does."""
        pending = [(self.root, upper)]
        while pending:
            lower, upper = pending.pop()
            for name, node in upper.children.items():
                below = lower.children.get(name)
                if node.is_whiteout:
                    self._hides |= lower.children.pop(name, None) is not None
                elif node.kind == DIRECTORY and below is not None and below.kind == DIRECTORY and not node.opaque:
                    below.mode, below.uid, below.gid, below.xattrs = node.mode, node.uid, node.gid, node.xattrs
                    below.origin = node.origin
                    pending.append((below, node))
                else:
                    self._hides |= below is not None
                    _drop_whiteouts(node)
                    lower.children[name] = node

    def implied(self, path: Sequence[bytes]) -> tuple[bool, Inode | None]:
        """Return the directory below from which containerd takes the mode of one that a layer has no entry for.

        Also whether that is known at all: it looks into one layer after the other, not at what is seen of all.
        """
        node = self.root
        for name in path:
            below = node.children.get(name)
            if below is None:
                return not self._hides, None
            if below.kind != DIRECTORY:
                return below.kind != SYMLINK, None
            node = below
        return True, node

    def entries(self) -> int:
        """Return the number of files, with each name of a hard link, and without the root directory."""
        return sum(len(node.children) for node in _directories(self.root))


class Layer:
    """One layer of a tree while it is read. ``root`` will be laid over the tree; None if it is unpacked right there."""

    def __init__(self, tree: RootFs, root: Inode | None = None) -> None:
        self._tree = tree
        self._root = root or tree.root
        self._over = tree if root is not None else None
        # Only what this layer brought survives its opaque markers. Hashes of paths, which may be long.
        self._unpacked: set[int] = set()

    def add(self, entry: Entry, origin: int = 0) -> tuple[bytes, ...]:
        """Return the path of the regular file that it makes, empty if it makes none."""
        path = clean(entry.name)
        if not path:
            return ()
        above = self._resolve(path[:-1], entry)
        parent, name = self._make_parents(above, entry, origin), path[-1]
        if name.startswith(_WHITEOUT):
            self._white_out(parent, above, name, entry)
            return ()
        existing = parent.children.get(name)
        if existing is not None and not (existing.kind == DIRECTORY and entry.kind == DIRECTORY):
            self._tree.take(-size_of(name, existing))
            del parent.children[name]
            existing = None
        path = (*above, name)
        if self._over is None:
            self._unpacked.add(hash(path))
            self._tree.take(_HASH_BYTES)
        if entry.kind == GLOBAL:
            return ()
        if entry.kind == HARD_LINK:
            existing = self._link_target(entry)
            existing.linked = True
        node = existing or new_node(entry.kind, entry.mode, entry.uid, entry.gid)
        _describe(node, entry)
        if existing is None or entry.kind == HARD_LINK or entry.xattrs:
            self._tree.take(size_of(name, node))
        parent.children[name] = node
        if entry.kind != HARD_LINK:
            node.origin = origin
        return path if entry.kind == FILE else ()

    def finish(self) -> None:
        """Lay the layer over those below, after all its entries were added."""
        if self._over is not None:
            self._over.merge(self._root)

    def _resolve(self, path: Sequence[bytes], entry: Entry) -> tuple[bytes, ...]:
        """Follow symbolic links on the way, never out of the root; what doesn't exist is taken as it is."""
        done: list[bytes] = []
        nodes: list[Inode | None] = [self._root]
        todo = list(reversed(path))
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if done:
                    done.pop()
                    nodes.pop()
                continue
            here = nodes[-1]
            if here is not None and here.kind != DIRECTORY:
                raise ValueError(f"{show(entry.name)} is in {show(b'/'.join(done))}, which is no directory")
            child = here.children.get(part) if here is not None else None
            if child is not None and child.kind == SYMLINK:
                links += 1
                if links > _LINKS_FOLLOWED:
                    raise ValueError(f"{show(entry.name)} leads through more than {_LINKS_FOLLOWED} symbolic links")
                if child.target.startswith(b"/"):
                    done, nodes = [], [self._root]
                todo.extend(reversed(child.target.split(b"/")))
                continue
            done.append(part)
            nodes.append(child)
        return tuple(done)

    def _make_parents(self, path: Sequence[bytes], entry: Entry, origin: int) -> Inode:
        node = self._root
        for depth, name in enumerate(path, 1):
            child = node.children.get(name)
            if child is None:
                child = self._implied(path[:depth], node)
                child.origin = origin
                self._tree.take(size_of(name, child))
                node.children[name] = child
            elif child.kind != DIRECTORY:
                raise ValueError(f"{show(entry.name)} is in {show(b'/'.join(path[:depth]))}, which is no directory")
            node = child
        return node

    def _implied(self, path: Sequence[bytes], parent: Inode) -> Inode:
        if not self._tree.implied_modes:
            return new_directory()
        known, below = self._over.implied(path) if self._over is not None else (True, None)
        if below is not None:
            node = new_directory(below.mode, below.uid, below.gid)
            node.xattrs = below.xattrs
            return node
        if not known or (parent.mode is None and parent is not self._root):
            return new_directory()
        # In a directory with the setgid bit, a new one gets its group.
        return new_directory(0o755, 0, parent.gid if (parent.mode or 0) & 0o2000 else 0)

    def _white_out(self, parent: Inode, path: tuple[bytes, ...], name: bytes, entry: Entry) -> None:
        if name == _OPAQUE:
            if self._over is not None:
                if isinstance(parent, SpecialInode):
                    parent.opaque = True
            else:
                self._clear(parent, path)
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ValueError(f"{show(entry.name)} is a whiteout of nothing")
        if self._over is None:
            parent.children.pop(hidden, None)
            return
        if hidden in parent.children:
            raise ValueError(f"{show(entry.name)} is a whiteout of a file of the same layer")
        parent.children[hidden] = SpecialInode(CHARACTER, 0, entry.uid, entry.gid)
        self._tree.take(size_of(hidden, parent.children[hidden]))

    def _clear(self, directory: Inode, path: tuple[bytes, ...]) -> None:
        pending = [(directory, path, b"")]
        while pending:
            node, path, last = pending.pop()
            path = (*path, last) if last else path
            for name in list(node.children):
                if hash((*path, name)) not in self._unpacked:
                    del node.children[name]
                elif node.children[name].kind == DIRECTORY:
                    pending.append((node.children[name], path, name))

    def _link_target(self, entry: Entry) -> Inode:
        directory, _slash, name = entry.target.rpartition(b"/")
        path = self._resolve(directory.split(b"/"), entry)
        node: Inode | None = self._root
        for part in path:
            node = node.children.get(part) if node is not None else None
        node = node.children.get(name) if node is not None else None
        if node is None or node.kind == DIRECTORY:
            raise ValueError(f"{show(entry.name)} is a hard link to {show(entry.target)}, which is no file of its layer")
        return node


def _describe(node: Inode, entry: Entry) -> None:
    """Set what containerd sets on a new file, an existing directory, or by the entry of a hard link."""
    node.mode, node.uid, node.gid = known_mode(entry.mode), entry.uid, entry.gid
    if entry.kind == FILE:
        node.size = entry.size
    elif not isinstance(node, SpecialInode) or entry.kind == HARD_LINK:
        pass
    elif entry.kind == SYMLINK:
        if len(entry.target) > _PATH_BYTES:
            raise ValueError(f"{show(entry.name)} is a symbolic link to a path of {len(entry.target)} bytes, which is too long")
        node.target = entry.target
    else:
        node.device = entry.device
    kept = dict(node.xattrs or {})
    if node.kind != DIRECTORY:
        # The kernel takes it away when the owner is set.
        kept.pop(_CAPABILITY, None)
    for key, value in entry.xattrs.items():
        if not key.startswith(_TRUSTED):
            if len(value) > _ATTRIBUTE_BYTES:
                raise ValueError(f"{show(entry.name)} has an attribute of {len(value)} bytes, which are too many")
            kept[key] = value
    node.xattrs = kept or None


def clean(name: bytes) -> tuple[bytes, ...]:
    """Return a name's parts, by spelling alone, never above the root. Raises ValueError if no file can have that name."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if (
        len(name) > _NAME_BYTES
        and parts
        and (sum(map(len, parts)) + len(parts) > _PATH_BYTES or len(max(parts, key=len)) > _NAME_BYTES)
    ):
        raise ValueError(f"{show(name)} is a name that is too long")
    return tuple(parts)


def _bytes_of(directory: Inode) -> int:
    return sum(size_of(name, node) for name, node in directory.children.items())


def _drop_whiteouts(top: Inode) -> None:
    """Remove whiteouts of the lowest layer: they hide nothing, and overlayfs doesn't show them."""
    for node in _directories(top):
        for name in [name for name, child in node.children.items() if child.is_whiteout]:
            del node.children[name]


def _directories(top: Inode) -> Iterator[Inode]:
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(child for child in node.children.values() if child.kind == DIRECTORY)
