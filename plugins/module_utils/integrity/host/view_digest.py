# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest of a view of a snapshot: it shows quickly whether anything differs, but not which files."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator

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
# Files in a row that one process takes, as far as they are in whole directories.
_SHARE = 256


def view_digest(root: int, part: int, parts: int) -> TreeDigest:
    """Digest one of several equal parts, from 0 on, of what is below a directory that ``root`` is a descriptor of.

    Nothing is opened but directories in it, and no link is followed. Raises HostError if something can't be read.
    """
    outcome: list[TreeDigest | OSError | HostError] = []

    def work() -> None:
        # A thread may have a working directory of its own, which makes short names of long paths.
        try:
            call_libc("unshare", _CLONE_FS)
            outcome.append(_digest(root, part, parts))
        except (OSError, HostError) as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (found,) = outcome
    if isinstance(found, TreeDigest):
        return found
    raise found if isinstance(found, HostError) else HostError(f"cannot read an image: {found.strerror}") from found


def _digest(root: int, part: int, parts: int) -> TreeDigest:
    digest = TreeDigest()
    pending, number, files = [b""], 0, 0
    while pending:
        path = pending.pop()
        with naming(path[1:]):
            _enter(root, path[1:])
            # Whether it is a directory, by name.
            there = {name: directory for name, directory in _listed() if path or not (directory and name == OF_FILE_SYSTEM)}
            if files // _SHARE % parts == part:
                digest.directory(number, _lines(sorted(there), number, digest))
        below = sorted((name for name, directory in there.items() if directory), reverse=True)
        pending.extend(b"%b/%b" % (path, name) for name in below)
        number += 1
        files += len(there)
    return digest


def _listed() -> Iterator[tuple[bytes, bool]]:
    """List the working directory, without looking at the files."""
    with os.scandir(b".") as entries:
        for entry in entries:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def _lines(names: Iterable[bytes], number: int, digest: TreeDigest) -> Iterator[bytes]:
    """Read files of the working directory, which has that number."""
    for name in names:
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            # overlayfs lists a whiteout with nothing below it, but it can't be found.
            continue
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            digest.link(number, name, (status.st_dev, status.st_ino))
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
