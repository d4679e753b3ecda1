# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares unpacked images with the layers that they come from; nothing is changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.images import Content
from ansible_collections.slipway.node.plugins.module_utils.host.layers import Blob, DamagedBlobError, open_layer
from ansible_collections.slipway.node.plugins.module_utils.host.views import View, Views
from ansible_collections.slipway.node.plugins.module_utils.model import comparison
from ansible_collections.slipway.node.plugins.module_utils.model.comparison import Found
from ansible_collections.slipway.node.plugins.module_utils.model.oci import Descriptor
from ansible_collections.slipway.node.plugins.module_utils.model.rootfs import Node, RootFs
from ansible_collections.slipway.node.plugins.module_utils.model.tar_headers import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    show,
)

METADATA = "metadata"
# More are counted, not listed.
LISTED = 100
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: comparison.SOCKET,
}
# mkfs makes it, on the snapshotters that give each snapshot a device.
_OF_FILE_SYSTEM = b"lost+found"


@dataclass(frozen=True)
class Difference:
    """``path`` from the image's root, ``problem``: "missing", "is empty, should have 5 bytes", …; several joined by "; "."""

    path: str
    problem: str


@dataclass(frozen=True)
class Comparison:
    """What was found of one image.

    ``differences``: at most 100 of ``count``; ``total``: how many files there should be. ``damaged_blobs``: digests of the
    image's blobs that are missing, cut off or something else. ``unknown``: why the files can't be judged, else empty.
    """

    differences: tuple[Difference, ...] = ()
    total: int = 0
    damaged_blobs: tuple[str, ...] = ()
    unknown: str = ""
    count: int = 0

    @property
    def intact(self) -> bool:
        """Whether it is certain that nothing is wrong, as far as has been looked."""
        return not (self.differences or self.damaged_blobs or self.unknown)


def compare_image(ctr: Ctr, *, namespace: str, snapshotter: str, content_root: str, content: Content) -> Comparison:
    """An image that is unpacked for a snapshotter. Raises HostError if the node refuses to be looked at."""
    layers, chain_ids = content.manifest.layers, content.config.chain_ids
    damaged = damaged_blobs(content_root, (content.manifest.config,))
    if not chain_ids:
        return Comparison(damaged_blobs=damaged)
    views = Views(ctr, namespace, snapshotter)
    if not views.has(chain_ids[-1]):
        reason = f"it is not unpacked for {snapshotter}"
        return Comparison(damaged_blobs=(*damaged, *damaged_blobs(content_root, layers)), unknown=reason)
    with views.open(chain_ids[-1]) as view:
        found = compare_view(view, content_root, layers)
        return replace(found, damaged_blobs=(*damaged, *found.damaged_blobs))


def sweep_views(ctr: Ctr, namespace: str, snapshotter: str) -> None:
    """Remove what killed runs left: their views and directories."""
    Views(ctr, namespace, snapshotter).sweep()


def damaged_blobs(content_root: str, descriptors: tuple[Descriptor, ...]) -> tuple[str, ...]:
    """Digests of those that are not what they should be."""
    damaged = []
    for descriptor in dict.fromkeys(descriptors):
        try:
            blob = Blob(content_root, descriptor)
            try:
                blob.verify()
            finally:
                blob.close()
        except DamagedBlobError:
            damaged.append(descriptor.digest)
    return tuple(damaged)


def compare_view(view: View, content_root: str, layers: tuple[Descriptor, ...]) -> Comparison:
    """A directory tree, and the layers that it should be of, lowest first."""
    tree = RootFs(overlay=view.overlay)
    for number, layer in enumerate(layers):
        try:
            _apply(tree, content_root, layer)
        except DamagedBlobError:
            reason = "its files cannot be judged, because blobs that they come from are damaged"
            return Comparison(damaged_blobs=(layer.digest, *damaged_blobs(content_root, layers[number + 1 :])), unknown=reason)
        except ValueError as error:
            return Comparison(damaged_blobs=damaged_blobs(content_root, layers[number + 1 :]), unknown=str(error))
    walk = _Walk(view)
    walk.compare(tree)
    return Comparison(tuple(walk.listed), tree.entries(), count=walk.count)


def _apply(tree: RootFs, content_root: str, layer: Descriptor) -> None:
    with open_layer(content_root, layer) as reader:
        target = tree.layer()
        for entry in reader.entries():
            target.add(entry)
        target.finish()


@dataclass
class _Walk:
    """Goes through a view and the expected tree at once."""

    view: View
    listed: list[Difference] = field(default_factory=list)
    count: int = 0
    # Where a hard link was seen first, by the node that its names share.
    _links: dict[int, tuple[tuple[int, int], bytes]] = field(default_factory=dict)

    def compare(self, tree: RootFs) -> None:
        # None: a directory that should not be there.
        pending: list[tuple[bytes, Node | None]] = [(b"", tree.root)]
        while pending:
            path, node = pending.pop()
            directories = [(child, wanted) for child, wanted, is_directory in self._entries(path, node) if is_directory]
            pending.extend(reversed(directories))

    def _entries(self, path: bytes, node: Node | None) -> Iterator[tuple[bytes, Node | None, bool]]:
        """Judge a directory's entries; yields them, and whether they have to be looked into."""
        found = dict(self._scan(path))
        wanted = node.children if node is not None else {}
        for name in sorted(found.keys() | wanted.keys()):
            child = path + b"/" + name if path else name
            expected, there = wanted.get(name), found.get(name)
            if there is None:
                self._missing(child, wanted[name])
            elif expected is None:
                if child != _OF_FILE_SYSTEM or there.kind != DIRECTORY:
                    self._report(child, comparison.EXTRA)
                    yield child, None, there.kind == DIRECTORY
            else:
                self._judge(child, expected, there)
                if there.kind == DIRECTORY:
                    yield child, expected, True

    def _scan(self, path: bytes) -> Iterator[tuple[bytes, Found]]:
        with _naming(path):
            directory = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.view.root)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        # overlayfs lists a whiteout with nothing below it, but it can't be found.
                        with suppress(FileNotFoundError):
                            yield os.fsencode(entry.name), _found(entry.stat(follow_symlinks=False))
            finally:
                os.close(directory)

    def _judge(self, path: bytes, node: Node, found: Found) -> None:
        wrong = list(comparison.problems(node, found))
        if node.kind == found.kind == SYMLINK:
            with _naming(path):
                target = os.readlink(path, dir_fd=self.view.root)
            wrong.append(comparison.target_problem(node, target))
        if node.linked:
            inode, first = self._links.setdefault(id(node), (found.inode, path))
            if inode != found.inode:
                wrong.append(f"is not the same file as /{show(first)}")
        wrong = [problem for problem in wrong if problem]
        if wrong:
            self._report(path, "; ".join(wrong))

    def _missing(self, path: bytes, node: Node) -> None:
        pending = [(path, node)]
        while pending:
            path, node = pending.pop()
            self._report(path, comparison.MISSING)
            pending.extend((path + b"/" + name, node.children[name]) for name in sorted(node.children, reverse=True))

    def _report(self, path: bytes, problem: str) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(Difference("/" + show(path), problem))


@contextmanager
def _naming(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot read /{show(path)} of an image: {error.strerror}") from error


def _found(status: os.stat_result) -> Found:
    mode = status.st_mode
    return Found(
        kind=_KINDS[stat.S_IFMT(mode)],
        mode=stat.S_IMODE(mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        inode=(status.st_dev, status.st_ino),
    )
