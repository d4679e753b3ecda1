# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read release archives and unpack them durably."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO, Any, cast

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, sync_directory
from ansible_collections.slipway.node.plugins.module_utils.release.plan import (
    ELF_HEADER_BYTES,
    Member,
    Release,
    check_machine,
    check_members,
    is_executable_below,
    member_path,
)

CHUNK_BYTES = 1024 * 1024
DIRECTORY_MODE = 0o755
try:
    python_zstd: Any = importlib.import_module("compression.zstd")
except ImportError:
    python_zstd = None

_ELF = b"\x7fELF"
_TAR_MAGIC_OFFSET = 257
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "named pipe",
}


@dataclass(frozen=True)
class Contents:
    """The content of a checked archive: executables to link (paths inside it) and its unpacked size in bytes."""

    executables: dict[str, int]
    size: int


def copy_hashed(source: IO[bytes], target: IO[bytes] | None = None) -> str:
    """Read source to its end, copy it to target if there is one; return its sha256 in hexadecimal."""
    digest = hashlib.sha256()
    while True:
        chunk = source.read(CHUNK_BYTES)
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        if target is not None:
            target.write(chunk)


def inspect(source: IO[bytes], release: Release, label: str) -> Contents:
    """Read the whole archive and check every member; nothing is written.

    label names the archive in errors. Raises ValueError for what must not be installed, HostError for what can't
    be read.
    """
    executables: dict[str, int] = {}
    with naming("read", label), reading(label):
        if _head(source).startswith(_ELF):
            path = _single_path(release)
            check_machine(path, _head(source)[:ELF_HEADER_BYTES], release.architecture)
            size = os.fstat(source.fileno()).st_size
            return Contents({path: size}, size)
        with _decompressed(source, label) as stream:
            size = check_members(_noting_executables(stream, release, executables))
            _drain(stream)
    if not executables:
        raise ValueError(f"{label} has no executable in {release.bin_dir}: set bin_dir to where they are")
    return Contents(executables, size)


def _noting_executables(stream: IO[bytes], release: Release, executables: dict[str, int]) -> Iterator[Member]:
    """Yield the members; note the path and size of the executables to link, once their machine is checked."""
    sizes: dict[str, int] = {}
    for content, member in _members(stream):
        # The caller has checked it by the time it asks for the next one.
        yield member
        path = member_path(member.name)
        sizes[path] = sizes.get(member_path(member.target), 0) if member.kind == "hardlink" else member.size
        if is_executable_below(member, release.bin_dir):
            executables[path] = sizes[path]
            check_machine(path, content.read(ELF_HEADER_BYTES), release.architecture)


def _drain(stream: IO[bytes]) -> None:
    """Read to the end: tar stops before it, and only there does a damaged end show."""
    while stream.read(CHUNK_BYTES):
        pass


def unpack(source: IO[bytes], release: Release, directory: str, label: str) -> None:
    """Unpack a checked archive into an empty directory and flush every file and directory.

    Files belong to root, and only root may write to them. Raises HostError; what was written stays.
    """
    with reading(label), naming("unpack to", directory):
        if _head(source).startswith(_ELF):
            path = os.path.join(directory, _single_path(release))
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            source.seek(0)
            _write(path, source, 0o755)
        else:
            with _decompressed(source, label) as stream:
                _unpack_members(stream, directory)
                _drain(stream)
        for folder, _folders, _files in os.walk(directory, topdown=False):
            os.chmod(folder, DIRECTORY_MODE)
            sync_directory(folder)


def _unpack_members(stream: IO[bytes], directory: str) -> None:
    symlinks: list[tuple[str, str]] = []
    for entry, member in _members(stream):
        path = os.path.join(directory, member_path(member.name))
        if member.kind == "directory":
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if member.kind == "symlink":
            symlinks.append((path, member.target))
        elif member.kind == "hardlink":
            os.link(os.path.join(directory, member_path(member.target)), path, follow_symlinks=False)
        else:
            _write(path, entry, member.mode)
    # Last, so that nothing is ever written through one.
    for path, target in symlinks:
        os.symlink(target, path)


def _write(path: str, content: IO[bytes], mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream, CHUNK_BYTES)
        stream.flush()
        os.fchmod(stream.fileno(), (mode & 0o755) | 0o400)
        os.fsync(stream.fileno())


def _single_path(release: Release) -> str:
    """Return where a source that is one executable, not an archive, goes."""
    return os.path.normpath(os.path.join(release.bin_dir, release.name))


def _members(stream: IO[bytes]) -> Iterator[tuple[IO[bytes], Member]]:
    """Yield each member and, valid until the next, its content (empty unless it is a file)."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            kind = _KINDS.get(entry.type, "member of an unknown type")
            content = archive.extractfile(entry) if kind == "file" else None
            size = entry.size if kind == "file" else 0
            member = Member(entry.name, kind, entry.mode & 0o7777, size, entry.linkname)
            yield content or io.BytesIO(), member


def _head(source: IO[bytes]) -> bytes:
    source.seek(0)
    return source.read(_TAR_MAGIC_OFFSET + 5)


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn what the decompressors and tarfile raise into HostError."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise HostError(f"{label} is damaged or incomplete: {error or type(error).__name__}") from error


def _decompressed(source: IO[bytes], label: str) -> AbstractContextManager[IO[bytes]]:
    """Open the tar stream of an archive, with any compression, which is recognised by its content."""
    head = _head(source)
    source.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("AbstractContextManager[IO[bytes]]", gzip.GzipFile(fileobj=source))
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(source)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(source, label)
    if head[_TAR_MAGIC_OFFSET:] == b"ustar":
        return nullcontext(source)
    raise ValueError(f"{label} is neither a tar archive (plain, gzip, xz, zstd) nor an ELF executable")


@contextmanager
def _zstd(source: IO[bytes], label: str) -> Iterator[IO[bytes]]:
    """Decompress with Python's own module (3.14) or else with the node's zstd."""
    if python_zstd is not None:
        try:
            with python_zstd.ZstdFile(source) as stream:
                yield stream
        except python_zstd.ZstdError as error:
            raise HostError(f"{label} is damaged or incomplete: {error}") from error
        return
    command = shutil.which("zstd")
    if command is None:
        raise HostError(f"{label} is compressed with zstd, which this node can't read: install the package zstd")
    # zstd reads the descriptor, not Python's buffer, so place it itself.
    os.lseek(source.fileno(), 0, os.SEEK_SET)
    arguments = [command, "-q", "-d", "-c"]
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(arguments, stdin=source, stdout=subprocess.PIPE, stderr=complaints) as process:
            try:
                yield cast("IO[bytes]", process.stdout)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            complaints.seek(0)
            stderr = complaints.read().decode(errors="replace")
            raise HostError(f"{label} is damaged or incomplete", command=arguments, exit_code=process.returncode, stderr=stderr)


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, durably. A missing one is fine."""
    with naming("remove", path):
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
        sync_directory(os.path.dirname(path))
