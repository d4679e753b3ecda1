# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads a bbolt database, the kind of file in which containerd and its snapshotters keep their metadata.

The format is that of go.etcd.io/bbolt: page.go, bucket.go and meta.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = 0xED0CDAED
_VERSION = 2
_PAGE = struct.Struct("<QHHI")
_META = struct.Struct("<IIIIQQQQQQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_BUCKET = struct.Struct("<QQ")
_BRANCH, _LEAF = 0x01, 0x02
_SUB_BUCKET = 0x01
_PAGE_SIZES = (4096, 8192, 16384, 65536)
# A tree that is deeper than this goes round in circles.
_DEPTH = 32


class Database:
    """One state of a database, given as the bytes of its file. Raises ValueError for what is none, or is damaged."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        metas = [meta for size in _PAGE_SIZES for offset in (0, size) for meta in [_meta(content, offset)] if meta]
        if not metas:
            raise ValueError("it is no bbolt database, or its first two pages are damaged")
        self.transaction, self._page_size, self._root = max(metas)

    def bucket(self, name: str) -> dict[bytes, bytes]:
        """Return the keys and values of a bucket of the first level; empty if there is no such bucket."""
        for key, value, flags in self._entries(self._root, 0):
            if key == name.encode() and flags & _SUB_BUCKET:
                return {key: value for key, value, flags in self._bucket_entries(value) if not flags & _SUB_BUCKET}
        return {}

    def _bucket_entries(self, value: bytes) -> Iterator[tuple[bytes, bytes, int]]:
        root, _sequence = _unpack(_BUCKET, value, 0)
        if root:
            yield from self._entries(root, 0)
        else:
            # A small bucket lies in the value itself.
            yield from _leaf_entries(value, _BUCKET.size)

    def _entries(self, page: int, depth: int) -> Iterator[tuple[bytes, bytes, int]]:
        offset = page * self._page_size
        number, flags, count, _overflow = _unpack(_PAGE, self._content, offset)
        if number != page or depth > _DEPTH:
            raise ValueError(f"page {page} of the database is damaged")
        if flags & _LEAF:
            yield from _leaf_entries(self._content, offset)
        elif flags & _BRANCH:
            for index in range(count):
                at = offset + _PAGE.size + index * _BRANCH_ELEMENT.size
                _position, _size, child = _unpack(_BRANCH_ELEMENT, self._content, at)
                yield from self._entries(child, depth + 1)
        else:
            raise ValueError(f"page {page} of the database is damaged")


def _meta(content: bytes, offset: int) -> tuple[int, int, int] | None:
    """Return transaction, page size and root page of the meta page at an offset, None if it is not valid."""
    start = offset + _PAGE.size
    try:
        magic, version, page_size, _flags, root, _sequence, _free, _high, transaction, checksum = _unpack(_META, content, start)
    except ValueError:
        return None
    if magic != _MAGIC or version != _VERSION or offset not in (0, page_size):
        return None
    if checksum != _fnv1a(content[start : start + _META.size - 8]):
        return None
    return transaction, page_size, root


def _fnv1a(content: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in content:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found


def _leaf_entries(content: bytes, offset: int) -> Iterator[tuple[bytes, bytes, int]]:
    _number, flags, count, _overflow = _unpack(_PAGE, content, offset)
    if not flags & _LEAF:
        raise ValueError("a bucket of the database is damaged")
    for index in range(count):
        at = offset + _PAGE.size + index * _LEAF_ELEMENT.size
        kind, position, key_size, value_size = _unpack(_LEAF_ELEMENT, content, at)
        key = at + position
        end = key + key_size + value_size
        if end > len(content):
            raise ValueError("the database is cut short")
        yield content[key : key + key_size], content[key + key_size : end], kind


def _unpack(layout: struct.Struct, content: bytes, offset: int) -> tuple[int, ...]:
    if offset + layout.size > len(content):
        raise ValueError("the database is cut short")
    return layout.unpack_from(content, offset)
