# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The jobs of a comparison that processes share: one for each layer and each view.

A layer's messages are JSON: lists of its entries, with what was found of their content, and at last how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import is_judged
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import Blob, DamagedBlobError, open_layer
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.content_check import (
    ContentCheck,
    Outcome,
    compare_content,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.view_digest import view_digest
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import clean
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import FILE, Entry
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

# No image has as many files in one layer; one that has would take too long.
MOST_ENTRIES = 1_000_000
_MESSAGE_BYTES = 1 << 17
_ENTRY_BYTES = 100
_NO_DEVICE = (0, 0)
_NO_ATTRIBUTES: dict[bytes, bytes] = {}


@dataclass(frozen=True)
class EntriesMessage:
    """Some entries of a layer, from number ``first`` on; ``outcomes`` for each directory that their content was compared in."""

    first: int
    entries: tuple[Entry, ...]
    outcomes: tuple[tuple[Outcome, ...], ...]


@dataclass(frozen=True)
class EndMessage:
    """``damaged``: the blob isn't what its digest says; else ``trouble`` is why the layer can't be read, or empty."""

    damaged: bool
    trouble: str = ""


def read_layer(content_root: str, layer: Descriptor, roots: Sequence[int], *, threads: bool) -> Iterator[bytes]:
    """Read a layer's entries and compare their content with files below some directories, given by descriptors."""
    end = EndMessage(damaged=False)
    try:
        with ExitStack() as stack:
            checks = [stack.enter_context(closing(ContentCheck(root))) for root in roots]
            reader = stack.enter_context(open_layer(content_root, layer, threads=threads))
            rows: list[Any] = []
            first = size = 0
            for number, entry in enumerate(_limited(reader.entries())):
                path = clean(entry.name) if checks and entry.kind == FILE else ()
                if path:
                    compare_content(checks, path, entry.size, number, reader.content(entry))
                row = _row(entry)
                rows.append(row)
                size += _ENTRY_BYTES + len(row[0]) + len(row[6]) + sum(map(len, row[9].values()))
                if size > _MESSAGE_BYTES:
                    yield _message(first, rows, checks)
                    rows, first, size = [], number + 1, 0
            yield _message(first, rows, checks)
    except DamagedBlobError:
        end = EndMessage(damaged=True)
    except ValueError as error:
        end = EndMessage(damaged=False, trouble=str(error))
    yield json.dumps([end.damaged, end.trouble]).encode()


def _limited(entries: Iterator[Entry]) -> Iterator[Entry]:
    yield from islice(entries, MOST_ENTRIES)
    if next(entries, None) is not None:
        raise ValueError(f"it has more than {MOST_ENTRIES} entries, which are too many")


def verify_blob(content_root: str, blob: Descriptor) -> Iterator[bytes]:
    """End as a layer does."""
    damaged = False
    try:
        with closing(Blob(content_root, blob, threads=False)) as opened:
            opened.verify()
    except DamagedBlobError:
        damaged = True
    yield json.dumps([damaged, ""]).encode()


def digest_view(root: int, part: int, parts: int) -> Iterator[bytes]:
    """Return a part of a view's digest, as TreeDigest encodes it."""
    yield view_digest(root, part, parts).encode()


def parse_message(message: bytes) -> EntriesMessage | EndMessage:
    """Parse one message of a layer's job."""
    document = json.loads(message)
    if len(document) == 2:
        return EndMessage(*document)
    first, rows, outcomes = document
    return EntriesMessage(
        first,
        tuple(map(_entry, rows)),
        tuple(tuple(Outcome(number, problem, inode and tuple(inode)) for number, problem, inode in one) for one in outcomes),
    )


def _message(first: int, rows: Sequence[Any], checks: Sequence[ContentCheck]) -> bytes:
    return json.dumps([first, rows, [check.take_outcomes() for check in checks]], separators=(",", ":")).encode()


def _row(entry: Entry) -> tuple[Any, ...]:
    """Return the values of an entry that are compared."""
    xattrs = {}
    if entry.xattrs:
        xattrs = {_text(key): _text(value) for key, value in entry.xattrs.items() if is_judged(FILE, key)}
    name, kind, mode, uid, gid, size, target, (major, minor) = entry[:8]
    return _text(name), kind, mode, uid, gid, size, _text(target), major, minor, xattrs


def _entry(row: Any) -> Entry:
    name, kind, mode, uid, gid, size, target, major, minor, xattrs = row
    return Entry(
        name.encode("latin-1"),
        kind,
        mode,
        uid,
        gid,
        size,
        target.encode("latin-1"),
        (major, minor) if major or minor else _NO_DEVICE,
        {key.encode("latin-1"): value.encode("latin-1") for key, value in xattrs.items()} if xattrs else _NO_ATTRIBUTES,
        0,
    )


def _text(name: bytes) -> str:
    return name.decode("latin-1")
