# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Expected trees that are kept from one run to the next, so that an image's layers need not be read again.

They are worth nothing but time: one that can't be read or written, or isn't what it says, is not there. None is written before
all layers of its image were read and their digests verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import MOST_BYTES, RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.saved_tree import decode_tree, encode_tree

_FORMAT = b"slipway.node tree 2\n"
_SUFFIX = ".tree"
_TEMPORARY = ".tmp"
# Seconds after which an unused tree is removed, and after which a use is noted.
_UNUSED, _NOTED = 30 * 86400, 86400
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TreeCacheEntry:
    """The expected tree of an image: ``total`` files; an intact view has this ``digest``, empty if not known."""

    total: int
    digest: str
    overlay: bool
    _packed: bytes

    def tree(self) -> RootFs:
        """Return the tree. Raises ValueError if it is broken."""
        return decode_tree(_lines(self._packed), overlay=self.overlay)


class TreeCache:
    """The cached trees in one directory, which may not exist; none without a directory. ``keep``: write to it."""

    def __init__(self, directory: str | None, *, keep: bool, read: bool = True) -> None:
        self._directory = directory
        self._keep = keep and directory is not None
        self._read = read

    def unread(self) -> TreeCache:
        """Open the file for writing only."""
        return TreeCache(self._directory, keep=self._keep, read=False)

    def find(self, layers: Sequence[str], *, overlay: bool) -> TreeCacheEntry | None:
        """Return the tree of an image with these layers (digests, lowest first); None if there is none that is sound."""
        if self._directory is None or not self._read:
            return None
        path = self._path(layers, overlay)
        try:
            content = _read(path)
            head, packed = _parse(content)
        except (OSError, ValueError):
            return None
        if head.get("layers") != list(layers) or head.get("overlay") is not overlay:
            return None
        if self._keep:
            self._note_use(path)
        return TreeCacheEntry(int(head["total"]), str(head["digest"]), overlay, packed)

    def save(self, layers: Sequence[str], tree: RootFs, *, overlay: bool, total: int, digest: str) -> None:
        """Keep a tree, if that is wanted and possible."""
        if self._keep:
            self._write(layers, TreeCacheEntry(total, digest, overlay, _pack(tree)))

    def save_digest(self, layers: Sequence[str], kept: TreeCacheEntry, digest: str) -> None:
        """Keep the tree of an intact view."""
        if self._keep:
            self._write(layers, replace(kept, digest=digest))

    def _write(self, layers: Sequence[str], kept: TreeCacheEntry) -> None:
        if self._directory is None:
            return
        head = {"layers": list(layers), "overlay": kept.overlay, "total": kept.total, "digest": kept.digest}
        body = json.dumps(head).encode() + b"\n" + kept._packed
        with suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._remove_unused()
            descriptor, temporary = tempfile.mkstemp(_TEMPORARY, "", self._directory)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(_FORMAT + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                os.rename(temporary, self._path(layers, kept.overlay))
            except BaseException:
                os.unlink(temporary)
                raise

    def _path(self, layers: Sequence[str], overlay: bool) -> str:
        key = json.dumps([list(layers), overlay]).encode()
        return os.path.join(self._directory or "", hashlib.sha256(key).hexdigest() + _SUFFIX)

    def _note_use(self, path: str) -> None:
        with suppress(OSError):
            if os.stat(path).st_mtime < time.time() - _NOTED:
                os.utime(path)

    def _remove_unused(self) -> None:
        """Remove trees that were not used for a long time, and the leftovers of killed runs."""
        oldest = time.time() - _UNUSED
        with os.scandir(self._directory) as entries:
            for entry in entries:
                since = oldest if entry.name.endswith(_SUFFIX) else oldest + _UNUSED - _NOTED
                ours = entry.name.endswith((_SUFFIX, _TEMPORARY))
                if ours and entry.stat(follow_symlinks=False).st_mtime < since:
                    os.unlink(entry.path)


def _read(path: str) -> bytes:
    """Read a kept tree. Raises OSError or ValueError for a file that this class wouldn't have written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ValueError("it belongs to another user")
        if status.st_size > MOST_BYTES:
            raise ValueError("it is too large")
        return stream.read()


def _parse(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return head and tree of a cache file. Raises ValueError if it is damaged, cut off, or of another format."""
    if not content.startswith(_FORMAT):
        raise ValueError("it is of another format")
    checksum, _newline, body = content[len(_FORMAT) :].partition(b"\n")
    if checksum != hashlib.sha256(body).hexdigest().encode():
        raise ValueError("it is damaged")
    head, _newline, packed = body.partition(b"\n")
    found = json.loads(head)
    if not isinstance(found, dict) or not isinstance(found.get("total"), int) or not isinstance(found.get("digest"), str):
        raise ValueError("it has no head")
    return found, packed


def _pack(tree: RootFs) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(line.encode() + b"\n") for line in encode_tree(tree)]
    return b"".join([*parts, packer.flush()])


def _lines(packed: bytes) -> Iterator[str]:
    """Yield the unpacked lines. Raises ValueError for other data."""
    unpacker = zlib.decompressobj()
    left = b""
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(packed, _CHUNK)
            if not piece and not unpacker.unconsumed_tail:
                break
            packed = unpacker.unconsumed_tail
            *lines, left = (left + piece).split(b"\n")
            yield from map(bytes.decode, lines)
    except zlib.error as error:
        raise ValueError("a cached tree is damaged") from error
    if left or not unpacker.eof:
        raise ValueError("a cached tree ends too early")
