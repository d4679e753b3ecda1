# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the layers of an image out of the content store's directory, and sees on the way whether they are damaged."""

from __future__ import annotations

import hashlib
import importlib
import os
import queue
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.host.command import ENVIRONMENT
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.model.oci import Descriptor, digest
from ansible_collections.slipway.node.plugins.module_utils.model.tar_headers import (
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

# What containerd unpacks itself; others, as encrypted ones, need a program that is set in its configuration.
LAYER_TYPES = frozenset(
    [
        f"application/vnd.oci.image.layer.{kind}{compression}"
        for kind in ("v1.tar", "nondistributable.v1.tar")
        for compression in ("", "+gzip", "+zstd")
    ]
    + [
        f"application/vnd.docker.image.rootfs.{kind}.tar{compression}"
        for kind in ("diff", "foreign.diff")
        for compression in ("", ".gzip", ".zstd")
    ]
)
_CHUNK = 1 << 18
_CHUNKS_AHEAD = 4
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


class DamagedBlobError(Exception):
    """A blob is missing, cut off, or not what its digest says."""


class Blob:
    """One blob that is read once, from its beginning; ``close`` has to be called.

    Raises DamagedBlobError if there is none or it hasn't the size that it should, HostError if it can't be read.
    """

    def __init__(self, content_root: str, descriptor: Descriptor) -> None:
        algorithm, _colon, encoded = digest(descriptor.digest).partition(":")
        self.path = os.path.join(content_root, "blobs", algorithm, encoded)
        self._digest = encoded
        self._hash = hashlib.new(algorithm)
        # One chunk behind, on another core.
        self._hasher = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise DamagedBlobError(descriptor.digest) from error
        except OSError as error:
            raise HostError(f"cannot read {self.path}: {error.strerror}") from error
        if os.fstat(self._descriptor).st_size != descriptor.size:
            self.close()
            raise DamagedBlobError(descriptor.digest)

    def read(self) -> bytes:
        """The next bytes, empty at the end."""
        try:
            chunk = os.read(self._descriptor, _CHUNK)
        except OSError as error:
            raise HostError(f"cannot read {self.path}: {error.strerror}") from error
        if self._hashing is not None:
            self._hashing.result()
        self._hashing = self._hasher.submit(self._hash.update, chunk)
        return chunk

    def verify(self) -> None:
        """Read what is left. Raises DamagedBlobError if the digest isn't that of what has been read."""
        while self.read():
            pass
        if self._hashing is not None:
            self._hashing.result()
        if self._hash.hexdigest() != self._digest:
            raise DamagedBlobError(self.path)

    def close(self) -> None:
        self._hasher.shutdown()
        os.close(self._descriptor)


class LayerReader:
    """The entries of a layer in turn. Only while an entry is the latest, its ``content`` can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._stream = _Stream(chunks)
        self._left = 0

    def entries(self) -> Iterator[Entry]:
        """Raises ValueError if the archive is broken, or containerd wouldn't unpack it."""
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
        """Pieces of the latest entry's content, with their offsets; what is between them is zeros."""
        sparse = self._map() if entry.sparse == () else entry.sparse
        for offset, length in ((0, self._left),) if sparse is None else sparse:
            at, end = offset, offset + length
            while at < end:
                piece = self._stored(min(end - at, _CHUNK))
                yield at, piece
                at += len(piece)

    def _map(self) -> tuple[tuple[int, int], ...]:
        """Lines of decimal numbers, the first one says how many pairs follow; padded to whole blocks."""
        numbers: list[int] = []
        text = b""
        while not numbers or len(numbers) <= 2 * numbers[0]:
            line, newline, rest = text.partition(b"\n")
            if not newline:
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
    """Bytes in chunks of whatever size, none of them empty, read in others. Raises ValueError if they end too early."""

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
        """A block; empty if there is nothing more."""
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


@contextmanager
def open_layer(content_root: str, layer: Descriptor) -> Iterator[LayerReader]:
    """A layer to read; at the end of the block its digest is verified.

    Raises DamagedBlobError, whatever happened in the block; else ValueError if the block did, if the layer is compressed in a
    way that can't be read here, or is no layer that containerd unpacks.
    """
    blob = Blob(content_root, layer)
    trouble: ValueError | None = None
    try:
        try:
            with ExitStack() as stack:
                chunks = stack.enter_context(_decompressed(blob, layer.media_type))
                yield LayerReader(stack.enter_context(_ahead(chunks)))
        except ValueError as error:
            trouble = error
        blob.verify()
    finally:
        blob.close()
    if trouble is not None:
        raise ValueError(f"layer {layer.digest}: {trouble}") from trouble


@contextmanager
def _decompressed(blob: Blob, media_type: str) -> Iterator[Iterator[bytes]]:
    """By what it begins with: containerd doesn't go by the media type either."""
    if media_type not in LAYER_TYPES:
        raise ValueError(f"layers of type {media_type} are not understood")
    start = blob.read()
    if start.startswith(_GZIP):
        yield _inflated(blob, start)
    elif start.startswith(_ZSTD) or start[1:4] == b"\x2a\x4d\x18":
        module = _zstd_module()
        if module is not None:
            yield _zstd_decoded(blob, start, module)
        else:
            with _zstd_program(blob) as chunks:
                yield chunks
    else:
        yield _plain(blob, start)


@contextmanager
def _ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The same, a few of them got before they are wanted, on another core."""
    ready: queue.Queue[bytes | Exception] = queue.Queue(_CHUNKS_AHEAD)
    stopped = threading.Event()

    def work() -> None:
        last: bytes | Exception = HostError("cannot read a layer")
        try:
            for chunk in chunks:
                ready.put(chunk)
                if stopped.is_set():
                    break
            last = b""
        except (ValueError, HostError) as error:
            last = error
        finally:
            ready.put(last)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield _wanted(ready)
    finally:
        stopped.set()
        while thread.is_alive():
            # Makes room for what it may be about to put there.
            with suppress(queue.Empty):
                ready.get(timeout=0.01)
        thread.join()


def _wanted(ready: queue.Queue[bytes | Exception]) -> Iterator[bytes]:
    while True:
        chunk = ready.get()
        if isinstance(chunk, Exception):
            raise chunk
        if not chunk:
            return
        yield chunk


def _plain(blob: Blob, chunk: bytes) -> Iterator[bytes]:
    while chunk:
        yield chunk
        chunk = blob.read()


def _inflated(blob: Blob, chunk: bytes) -> Iterator[bytes]:
    """gzip: one member or several."""
    while chunk:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while not member.eof:
            try:
                piece = member.decompress(chunk, 4 * _CHUNK)
            except zlib.error as error:
                raise ValueError(f"it is not gzip: {error}") from error
            chunk = member.unconsumed_tail
            if piece:
                yield piece
            elif not chunk and not member.eof:
                chunk = blob.read()
                if not chunk:
                    raise ValueError("its compressed data end too early")
        chunk = member.unused_data or blob.read()


def _zstd_module() -> Any:
    """Python's own, since 3.14; None if it has none."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def _zstd_decoded(blob: Blob, chunk: bytes, module: Any) -> Iterator[bytes]:
    while chunk:
        frame = module.ZstdDecompressor()
        while not frame.eof:
            try:
                piece = frame.decompress(chunk, 4 * _CHUNK)
            except module.ZstdError as error:
                raise ValueError(f"it is not zstd: {error}") from error
            chunk = b""
            if piece:
                yield piece
            if frame.needs_input and not frame.eof:
                chunk = blob.read()
                if not chunk:
                    raise ValueError("its compressed data end too early")
        chunk = frame.unused_data or blob.read()


@contextmanager
def _zstd_program(blob: Blob) -> Iterator[Iterator[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise ValueError("it is compressed with zstd, which the node has no program for: install zstd on the node")
    with open(blob.path, "rb") as source:
        process = subprocess.Popen(
            [program, "--decompress", "--stdout", "--quiet"],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
        )
    with process:
        try:
            yield _output(process)
        finally:
            process.kill()


def _output(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    while process.stdout is not None and (chunk := process.stdout.read(_CHUNK)):
        yield chunk
    if process.wait() != 0:
        raise ValueError("its compressed data are broken")
