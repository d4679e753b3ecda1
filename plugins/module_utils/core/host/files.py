# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, write and remove files durably, by absolute path. Raises HostError that names the path."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError

SELINUX_ATTRIBUTE = "security.selinux"
# Others of the kernel, such as checksums of the content, are not those of new content.
_KEPT_ATTRIBUTES = (SELINUX_ATTRIBUTE, "system.posix_acl_access", "user.", "trusted.")
# Readers of drop-in directories skip such names.
TEMPORARY_PREFIX = ".slipway-"
TEMPORARY_SUFFIX = ".tmp"
_DEV_NULL = os.makedev(1, 3)


@contextmanager
def naming(action: str, path: str) -> Iterator[None]:
    """Turn an OSError inside the block into HostError("cannot ACTION PATH: reason")."""
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot {action} {path}: {error.strerror or error}") from error


def read_bytes(path: str) -> bytes | None:
    """Return the content of the file, None if there is no such file. A path that is no file is not opened."""
    with naming("read", path):
        try:
            with open_file(path) as stream:
                return stream.read()
        except FileNotFoundError:
            return None


def open_file(path: str) -> IO[bytes]:
    """Open a file to read it, and nothing that could be waited for. Raises HostError for what is no file, and OSError."""
    reason = not_a_file(os.stat(path))
    if reason:
        raise HostError(f"cannot read {path}, which {reason}: remove or repair it by hand")
    # A FIFO that comes in between is not waited for.
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")


def open_null() -> int:
    """Return a new descriptor of /dev/null; on a node whose /dev/null is missing, of an empty file in memory."""
    try:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return os.memfd_create("null")


def not_a_file(found: os.stat_result) -> str:
    """Return how a path differs from a file that can be read to its end, such as "is a FIFO"; empty for such a file.

    /dev/null is one: a link to it masks a file.
    """
    if stat.S_ISREG(found.st_mode) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEV_NULL):
        return ""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return f"is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}"


def file_problem(path: str) -> str:
    """Return why a path is no file that can be read, empty if it is one. Nothing is opened."""
    try:
        return not_a_file(os.stat(path))
    except FileNotFoundError:
        return f"is a link to {os.readlink(path)}, which isn't there" if os.path.islink(path) else "isn't there"
    except OSError as error:
        return "is a link that leads to itself" if error.errno == errno.ELOOP else f"can't be read ({error.strerror})"


def write_file(path: str, content: bytes, mode: int) -> None:
    """Write the file durably and atomically: readers see the old content or the new, never a part.

    A symbolic link is followed, so that it stays a link. An existing file keeps its owner, group, SELinux context, ACL and
    attributes of users; mode is set in every case, also as the mask of the ACL. Missing directories are made with mode 0755.
    """
    with naming("write", path):
        target = os.path.realpath(path)
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    directory = os.path.dirname(target)
    make_directories(directory)
    with naming("write", path):
        prefix = f"{TEMPORARY_PREFIX}{os.path.basename(target)}."
        remove_leftovers(directory, prefix)
        descriptor, temporary = tempfile.mkstemp(TEMPORARY_SUFFIX, prefix, directory)
        try:
            fill_file(descriptor, content, mode, target)
            os.rename(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_directory(directory)


def remove_leftovers(directory: str, prefix: str) -> None:
    """Remove the temporary files of killed runs, which may contain secrets."""
    for name in os.listdir(directory):
        if name.startswith(prefix) and name.endswith(TEMPORARY_SUFFIX):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))


def fill_file(descriptor: int, content: bytes, mode: int, replaced: str) -> None:
    """Give the open file the owner and the attributes of the file that it replaces, then its content."""
    with os.fdopen(descriptor, "wb") as stream:
        _copy_identity(replaced, stream.fileno())
        # After fchown, which clears setuid bits; before the content, so that no one else reads a secret.
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _copy_identity(source: str, descriptor: int) -> None:
    try:
        found = os.stat(source)
    except FileNotFoundError:
        return
    os.fchown(descriptor, found.st_uid, found.st_gid)
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return
    for name in names:
        if name.startswith(_KEPT_ATTRIBUTES):
            os.setxattr(descriptor, name, os.getxattr(source, name))


def make_directories(path: str, mode: int = 0o755) -> list[str]:
    """Make the directory and the missing ones above it, durably; return those made, topmost first."""
    missing: list[str] = []
    directory = path
    while not os.path.isdir(directory):
        missing.insert(0, directory)
        directory = os.path.dirname(directory)
        if directory == missing[0]:
            break
    for directory in missing:
        with naming("create the directory", directory):
            os.mkdir(directory)
            os.chmod(directory, mode)
            sync_directory(os.path.dirname(directory))
    return missing


def remove_file(path: str) -> None:
    """Remove the file or symbolic link itself, durably, and what killed writes of it left. A missing one is fine."""
    directory = os.path.dirname(path)
    with naming("remove", path):
        if os.path.isdir(directory):
            remove_leftovers(directory, f"{TEMPORARY_PREFIX}{os.path.basename(path)}.")
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_directory(directory)


def remove_empty_dir(path: str) -> bool:
    """Remove the directory durably if it is empty; return whether it is gone, True if there was none."""
    with naming("remove the directory", path):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        sync_directory(os.path.dirname(path))
        return True


def sync_directory(path: str) -> None:
    """Flush the directory's entries. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
