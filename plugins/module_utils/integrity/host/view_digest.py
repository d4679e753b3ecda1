# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A view of a snapshot as one digest, which says quickly whether all is as expected, but not what isn't."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import is_judged
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import call_libc
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.walk import KINDS, NO_ATTRIBUTES, naming
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FILE, SYMLINK
from ansible_collections.slipway.node.plugins.module_utils.integrity.tree_digest import (
    OF_FILE_SYSTEM,
    TreeDigest,
    attribute_lines,
    line,
)

_CLONE_FS = 0x200
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FORMAT_BITS = 0o170000


def view_digest(root: int) -> str:
    """As model.canonical has it, of what is below a directory that ``root`` is a descriptor of.

    Nothing is opened but directories in it, and no link is followed. Raises HostError if something can't be read.
    """
    outcome: list[str | OSError | HostError] = []

    def work() -> None:
        # A thread may have a working directory of its own, which makes short names of long paths.
        try:
            call_libc("unshare", _CLONE_FS)
            outcome.append(_digest(root))
        except (OSError, HostError) as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (found,) = outcome
    if isinstance(found, str):
        return found
    raise found if isinstance(found, HostError) else HostError(f"cannot read an image: {found.strerror}") from found


def _digest(root: int) -> str:
    digest = TreeDigest()
    # Directories in a directory, whose path is one object for all of them.
    pending = [(b"", b"")]
    while pending:
        above, last = pending.pop()
        path = b"%b/%b" % (above, last) if last else above
        below: list[tuple[bytes, bytes]] = []
        with naming(path[1:]):
            _enter(root, path[1:])
            digest.directory(_lines(path, below, digest))
        pending.extend(reversed(below))
    return digest.hexdigest()


def _lines(path: bytes, below: list[tuple[bytes, bytes]], digest: TreeDigest) -> Iterator[bytes]:
    """Read the working directory, which has that path; ``below`` gets the directories in it."""
    with os.scandir(b".") as entries:
        there = sorted([(entry.name, entry) for entry in entries])
    for name, entry in there:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # overlayfs lists a whiteout with nothing below it, but it can't be found.
            continue
        if status.st_mode & _FORMAT_BITS == stat.S_IFDIR:
            if not path and name == OF_FILE_SYSTEM:
                continue
            below.append((path, name))
        elif status.st_nlink > 1:
            digest.link((status.st_dev, status.st_ino), path, name)
        yield _line(name, status)


def _enter(root: int, path: bytes) -> None:
    directory = os.open(path or b".", _OPEN, dir_fd=root)
    try:
        os.fchdir(directory)
    finally:
        os.close(directory)


def _line(name: bytes, status: os.stat_result) -> bytes:
    """Read the attributes of a file in the working directory."""
    kind = KINDS[status.st_mode & _FORMAT_BITS]
    value = attributes = b""
    if kind == FILE:
        value = b"%d" % status.st_size
        attributes = _attributes(name, kind)
    elif kind == DIRECTORY:
        attributes = _attributes(name, kind)
    elif kind == SYMLINK:
        value = os.readlink(name)
    elif kind in (CHARACTER, BLOCK_DEVICE):
        value = b"%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
    return line(name, kind, status.st_mode & 0o7777, status.st_uid, status.st_gid, value) + attributes


def _attributes(name: bytes, kind: str) -> bytes:
    try:
        there = os.listxattr(name, follow_symlinks=False)
        if not there:
            return b""
        judged = [key for key in map(os.fsencode, there) if is_judged(kind, key)]
        return attribute_lines({key: os.getxattr(name, key, follow_symlinks=False) for key in judged})
    except OSError as error:
        if error.errno in NO_ATTRIBUTES:
            return b""
        raise
