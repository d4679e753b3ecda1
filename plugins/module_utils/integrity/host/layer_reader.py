# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads a layer's archive, from chunks of it as they come."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    BLOCK,
    EXTENSION,
    EXTENSION_BYTES,
    LONG_LINK,
    LONG_NAME,
    Entry,
    Header,
    parse_header,
    parse_records,
    parse_text,
    pieces,
    to_entry,
)

_PIECE = 1 << 18


class LayerReader:
    """The entries of a layer in turn. Only while an entry is the latest, its ``content`` can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._stream = _Stream(chunks)
        self._left = 0

    def entries(self) -> Iterator[Entry]:
        """Yield the entries of the archive. Raises ValueError if it is broken, or containerd wouldn't unpack it."""
        records: dict[bytes, bytes] = {}
        long_name = long_target = b""
        for header in self._headers():
            if header.flag == EXTENSION:
                records = parse_records(self._extension(header))
            elif header.flag == LONG_NAME:
                long_name = parse_text(self._extension(header))
            elif header.flag == LONG_LINK:
                long_target = parse_text(self._extension(header))
            else:
                entry = to_entry(header, records, long_name, long_target)
                records, long_name, long_target = {}, b"", b""
                self._left = entry.stored
                yield entry
                self._stream.skip(self._left + -entry.stored % BLOCK)

    def content(self, entry: Entry) -> Iterator[tuple[int, bytes]]:
        """Yield pieces of the latest entry's content with their offsets; between them are zeros."""
        sparse = self._map() if entry.sparse == () else entry.sparse
        for offset, length in ((0, self._left),) if sparse is None else sparse:
            at, end = offset, offset + length
            while at < end:
                piece = self._stored(min(end - at, _PIECE))
                yield at, piece
                at += len(piece)

    def _map(self) -> tuple[tuple[int, int], ...]:
        """Read a sparse file's map: lines of decimal numbers, the number of pairs first, padded to whole blocks."""
        numbers: list[int] = []
        text = b""
        read = 0
        while not numbers or len(numbers) <= 2 * numbers[0]:
            line, newline, rest = text.partition(b"\n")
            if not newline:
                read += BLOCK
                if read > EXTENSION_BYTES:
                    raise ValueError(f"a sparse file's map is longer than {EXTENSION_BYTES} bytes, which is too long")
                text += self._stored(BLOCK)
                continue
            if not line.isdigit() or len(line) > 19:
                raise ValueError("a sparse file's map is broken")
            numbers.append(int(line))
            text = rest
        return pieces(numbers[1:])

    def _stored(self, size: int) -> bytes:
        if size > self._left:
            raise ValueError("a sparse file's map is longer than what is stored")
        self._left -= size
        return self._stream.read(size)

    def _headers(self) -> Iterator[Header]:
        while True:
            block = self._stream.read_block()
            header = parse_header(block) if block else None
            if header is None:
                if block and parse_header(self._stream.read_block() or bytes(BLOCK)) is not None:
                    raise ValueError("the archive goes on after its end")
                return
            yield header

    def _extension(self, header: Header) -> bytes:
        if header.size > EXTENSION_BYTES:
            raise ValueError(f"an extended header of {header.size} bytes is too long")
        content = self._stream.read(header.size)
        self._stream.skip(-header.size % BLOCK)
        return content


class _Stream:
    """Bytes in chunks of any size, none of them empty, read in others. Raises ValueError if they end too early."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._chunk):
            found = self._chunk[self._at : end]
            self._at = end
            return found
        parts = [self._chunk[self._at :]]
        missing = size - len(parts[0])
        while missing > 0:
            self._more()
            parts.append(self._chunk[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def read_block(self) -> bytes:
        """Return a block; empty if there is nothing more."""
        return self.read(BLOCK) if self._at < len(self._chunk) or self._fetch() else b""

    def skip(self, size: int) -> None:
        while size > len(self._chunk) - self._at:
            size -= len(self._chunk) - self._at
            self._more()
        self._at += size

    def _more(self) -> None:
        if not self._fetch():
            raise ValueError("the archive ends too early")

    def _fetch(self) -> bool:
        self._at = 0
        self._chunk = next(self._chunks, b"")
        return bool(self._chunk)
