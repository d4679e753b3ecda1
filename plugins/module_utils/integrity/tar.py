# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The entries of a tar archive, read as Go's archive/tar does, with which containerd reads layers.

Names, link targets and attributes are bytes: no encoding is known of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

BLOCK = 512
# Go takes no longer extended header: archive/tar, maxSpecialFileSize.
EXTENSION_BYTES = 1 << 20
# The longest path.
SHOWN_BYTES = 4095

FILE, DIRECTORY, SYMLINK, CHARACTER, BLOCK_DEVICE, FIFO, HARD_LINK, GLOBAL = "f", "d", "l", "c", "b", "p", "h", "g"
LONG_NAME, LONG_LINK, EXTENSION = b"L", b"K", b"x"

_KINDS = {
    b"0": FILE,
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
    b"g": GLOBAL,
}
_XATTR = b"SCHILY.xattr."
# What names a file: archive/tar, validPAXRecord.
_PATHS = (b"path", b"linkpath")


class Header(NamedTuple):
    """One block; ``size`` in bytes is that of what follows it, ``flag`` the type as it is written there."""

    name: bytes
    flag: bytes
    mode: int
    uid: int
    gid: int
    size: int
    target: bytes
    device: tuple[int, int]


class Entry(NamedTuple):
    """One file of an archive.

    ``kind`` is one of the constants above, ``size`` that of the file and ``stored`` that of what the archive holds of it,
    both in bytes; ``sparse`` says where that belongs: pieces (offset, length), None if the file is stored whole, and an
    empty tuple if the pieces are told at the beginning of what is stored.
    """

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    target: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    stored: int
    sparse: tuple[tuple[int, int], ...] | None = None


def parse_header(block: bytes) -> Header | None:
    """Parse a header of 512 bytes; None if all are zero, which ends an archive. Raises ValueError if it is no header."""
    if not block.strip(b"\0"):
        return None
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    written = _number(block[148:156])
    if written != total and written != total - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127):
        raise ValueError("a header's checksum is wrong")
    magic = block[257:263]
    standard = magic in (b"ustar\0", b"ustar ")
    name = _text(block[0:100])
    if magic == b"ustar\0":
        prefix = _text(block[345 : 345 + (131 if block[508:512] == b"tar\0" else 155)])
        name = prefix + b"/" + name if prefix else name
    header = Header(
        name=name,
        flag=block[156:157],
        mode=_number(block[100:108]),
        uid=_number(block[108:116]),
        gid=_number(block[116:124]),
        size=_number(block[124:136]),
        target=_text(block[157:257]),
        device=(_number(block[329:337]), _number(block[337:345])) if standard else (0, 0),
    )
    if header.size < 0:
        raise ValueError("a header says a negative size")
    return header


def parse_text(content: bytes) -> bytes:
    """Return a long name, from what follows its header."""
    return _text(content)


def parse_records(content: bytes) -> dict[bytes, bytes]:
    """Return an extended (PAX) header's records; of those that repeat, as in sparse files, all values joined by commas.

    Raises ValueError on anything else.
    """
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    for key, value in _records(content):
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)
        else:
            records[key] = value
    if pieces:
        records[b"GNU.sparse.map"] = b",".join(pieces)
    return records


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 20)
        length = _decimal(content[at:space]) if space > 0 else 0
        end = at + length
        if length < 5 or end > len(content) or content[end - 1 : end] != b"\n":
            raise ValueError("an extended header is broken")
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in (value if key in _PATHS else key):
            raise ValueError("an extended header is broken")
        yield key, value
        at = end


def to_entry(header: Header, records: Mapping[bytes, bytes], long_name: bytes, long_target: bytes) -> Entry:
    """Convert the headers of one file. Raises ValueError if they contradict each other, or containerd refuses the type."""
    name = long_name or records.get(b"path") or header.name
    flag = header.flag
    if flag == b"\0":
        flag = b"5" if name.endswith(b"/") else b"0"
    kind = _KINDS.get(flag)
    if kind is None:
        raise ValueError(f"{show(name)} is of a type that containerd doesn't unpack: {flag!r}")
    if kind == GLOBAL:
        return Entry(header.name, GLOBAL, 0, 0, 0, 0, b"", (0, 0), {}, header.size)
    size = _record_number(records, b"size", header.size)
    stored = size if kind == FILE else 0
    sparse = _sparse(records)
    if sparse is not None:
        name = records.get(b"GNU.sparse.name") or name
        size = _record_number(records, b"GNU.sparse.size", _record_number(records, b"GNU.sparse.realsize", size))
    return Entry(
        name=name,
        kind=kind,
        mode=header.mode & 0o7777,
        uid=_record_number(records, b"uid", header.uid),
        gid=_record_number(records, b"gid", header.gid),
        size=size if kind == FILE else 0,
        target=long_target or records.get(b"linkpath") or header.target,
        device=header.device,
        xattrs={key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)} if records else {},
        stored=stored,
        sparse=sparse,
    )


def show(name: bytes) -> str:
    """Return a name for people: bytes that are no UTF-8 as ``\\xff``, and no more than a path can have."""
    return name[:SHOWN_BYTES].decode("utf-8", "backslashreplace") + "\u2026" * (len(name) > SHOWN_BYTES)


def _sparse(records: Mapping[bytes, bytes]) -> tuple[tuple[int, int], ...] | None:
    """Return the map of a sparse file, empty in format 1.0, which has it before the content; None for other files.

    GNU tar's manual, "Storing Sparse Files".
    """
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    if version == (b"1", b"0"):
        return ()
    written = records.get(b"GNU.sparse.map", b"")
    if version not in ((b"0", b"0"), (b"0", b"1")) and not (version == (b"", b"") and written):
        return None
    return pieces([_decimal(number) for number in written.split(b",")] if written else [])


def pieces(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Return pairs of offset and length. Raises ValueError if they overlap, or a number is missing."""
    found = tuple(zip(numbers[::2], numbers[1::2]))
    end = 0
    for offset, length in found:
        if offset < end:
            raise ValueError("a sparse file's pieces overlap")
        end = offset + length
    if len(numbers) % 2:
        raise ValueError("a sparse file's map is broken")
    # Never empty: that says that the map is elsewhere.
    return found or ((0, 0),)


def _record_number(records: Mapping[bytes, bytes], key: bytes, default: int) -> int:
    value = records.get(key)
    return _decimal(value) if value else default


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ValueError(f"{text[:40]!r} is not a number")
    return int(text)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Parse octal digits or, if the first bit is set, two's complement without that bit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (1 << (8 * len(field) - 1))
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise ValueError(f"a header has {digits!r} where a number has to be")
    return int(digits, 8)
