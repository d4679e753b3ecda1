# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bbolt databases: a recorded one, and small ones that are built page by page."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

PAGE = 4096
RECORDED = Path(__file__).parent / "recorded/1.7.24/containerd-pool.db.gz"


def recorded_database() -> bytes:
    """The devmapper snapshotter's, after an image of three layers was pulled; written by containerd 1.7.24."""
    return gzip.decompress(RECORDED.read_bytes())


def fnv1a(content: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in content:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found


def meta(number: int, *, transaction: int, root: int) -> bytes:
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, 9, transaction)
    return page(number, 0x04, 0, fields + struct.pack("<Q", fnv1a(fields)))


def page(number: int, flags: int, count: int, body: bytes) -> bytes:
    return (struct.pack("<QHHI", number, flags, count, 0) + body).ljust(PAGE, b"\0")


def leaf(number: int, entries: list[tuple[bytes, bytes]], *, buckets: bool = False) -> bytes:
    heads, values = b"", b""
    for index, (key, value) in enumerate(entries):
        position = 16 * (len(entries) - index) + len(values)
        heads += struct.pack("<IIII", int(buckets), position, len(key), len(value))
        values += key + value
    return page(number, 0x02, len(entries), heads + values)


def branch(number: int, children: list[tuple[bytes, int]]) -> bytes:
    heads, keys = b"", b""
    for index, (key, child) in enumerate(children):
        heads += struct.pack("<IIQ", 16 * (len(children) - index) + len(keys), len(key), child)
        keys += key
    return page(number, 0x01, len(children), heads + keys)


def database(*, transactions: tuple[int, int] = (6, 7)) -> bytes:
    """A bucket of two leaves below a branch, as the second meta page has it; the first one leads to an empty database."""
    return b"".join(
        [
            meta(0, transaction=transactions[0], root=2),
            meta(1, transaction=transactions[1], root=3),
            leaf(2, []),
            leaf(3, [(b"devices", struct.pack("<QQ", 4, 0))], buckets=True),
            branch(4, [(b"a", 5), (b"c", 6)]),
            leaf(5, [(b"a", b"1"), (b"b", b"")]),
            leaf(6, [(b"c", b"3")]),
        ]
    )


def small_database(devices: dict[bytes, bytes]) -> bytes:
    """The devmapper snapshotter's, with these entries."""
    return b"".join(
        [
            meta(0, transaction=6, root=2),
            meta(1, transaction=7, root=3),
            leaf(2, []),
            leaf(3, [(b"devices", struct.pack("<QQ", 4, 0))], buckets=True),
            leaf(4, sorted(devices.items())),
        ]
    )
