# Copyright (c) 2026, the slipway.node authors
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

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import ENVIRONMENT
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.layer_reader import LayerReader
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import blob_path
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor, digest

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
    """One blob that is read once, from its beginning; ``close`` has to be called. ``threads``: other cores may help.

    Raises DamagedBlobError if there is none or it hasn't the size that it should, HostError if it can't be read.
    """

    def __init__(self, content_root: str, descriptor: Descriptor, *, threads: bool = True) -> None:
        algorithm, _colon, encoded = digest(descriptor.digest).partition(":")
        self.path = blob_path(content_root, descriptor.digest)
        self._digest = encoded
        self._hash = hashlib.new(algorithm)
        # One chunk behind, on another core.
        self._hasher = ThreadPoolExecutor(1) if threads else None
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
        """Return the next bytes, empty at the end."""
        try:
            chunk = os.read(self._descriptor, _CHUNK)
        except OSError as error:
            raise HostError(f"cannot read {self.path}: {error.strerror}") from error
        if self._hashing is not None:
            self._hashing.result()
        if self._hasher is not None:
            self._hashing = self._hasher.submit(self._hash.update, chunk)
        else:
            self._hash.update(chunk)
        return chunk

    def verify(self) -> None:
        """Read what is left. Raises DamagedBlobError if the digest isn't that of what has been read."""
        while self.read():
            pass
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
        if self._hash.hexdigest() != self._digest:
            raise DamagedBlobError(self.path)

    def close(self) -> None:
        if self._hasher is not None:
            self._hasher.shutdown()
        os.close(self._descriptor)


def has_its_size(content_root: str, descriptor: Descriptor) -> bool:
    """Return whether a blob is there, by its size. Raises HostError if that can't be read."""
    path = blob_path(content_root, descriptor.digest)
    try:
        return os.stat(path).st_size == descriptor.size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def open_layer(content_root: str, layer: Descriptor, *, threads: bool = True) -> Iterator[LayerReader]:
    """Open a layer for reading; the end of the block verifies its digest. ``threads``: other cores may help.

    Raises DamagedBlobError, even if the block failed; else ValueError if the block did, if the layer is compressed in a
    way that can't be read here, or is no layer that containerd unpacks.
    """
    blob = Blob(content_root, layer, threads=threads)
    trouble: ValueError | None = None
    try:
        try:
            with ExitStack() as stack:
                chunks = stack.enter_context(_decompressed(blob, layer.media_type))
                yield LayerReader(stack.enter_context(_ahead(chunks)) if threads else chunks)
        except ValueError as error:
            trouble = error
        blob.verify()
    finally:
        blob.close()
    if trouble is not None:
        raise ValueError(f"layer {layer.digest}: {trouble}") from trouble


@contextmanager
def _decompressed(blob: Blob, media_type: str) -> Iterator[Iterator[bytes]]:
    """Decompress a blob by its first bytes, as containerd does, which ignores the media type too."""
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
    """Yield the same pieces, a few of them read ahead on another core."""
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
    """Decompress gzip with one member or several."""
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
    """Return Python's module for zstd (3.14 and newer); None if it has none."""
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
