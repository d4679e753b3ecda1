# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison of a file with its expected state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import Inode
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    show,
)

SOCKET = "s"
MISSING = "missing"
EXTRA = "should not be there"
_NAMES = {
    FILE: "a regular file",
    DIRECTORY: "a directory",
    SYMLINK: "a symbolic link",
    CHARACTER: "a character device",
    BLOCK_DEVICE: "a block device",
    FIFO: "a named pipe",
    SOCKET: "a socket",
}
_CAPABILITY = b"security.capability"
_OF_OVERLAY = b"user.overlay."


class FileAttributes(NamedTuple):
    """The attributes of one file, as of Inode; ``inode`` identifies it among the files of all devices."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    device: tuple[int, int]
    inode: tuple[int, int]


def problems(node: Inode, found: FileAttributes) -> Iterator[str]:
    """Return the problem that is visible without opening the file."""
    if node.kind != found.kind:
        yield f"is {_NAMES[found.kind]}, should be {_NAMES[node.kind]}"
        return
    if node.kind == FILE and node.size != found.size:
        if found.size == 0:
            yield f"is empty, should have {_bytes(node.size)}"
        else:
            yield f"has {_bytes(found.size)}, should have {node.size}"
    if node.kind in (CHARACTER, BLOCK_DEVICE) and node.device != found.device:
        yield f"is the device {_pair(found.device)}, should be {_pair(node.device)}"
    if node.mode is None:
        return
    # A symbolic link's mode can't be set.
    if node.kind != SYMLINK and node.mode != found.mode:
        yield f"has mode {found.mode:04o}, should have {node.mode:04o}"
    if (node.uid, node.gid) != (found.uid, found.gid):
        yield f"belongs to {_pair((found.uid, found.gid))}, should belong to {_pair((node.uid, node.gid))}"


def target_problem(node: Inode, target: bytes) -> str:
    """Return the problem of a symbolic link; empty if there is none."""
    return "" if node.target == target else f"leads to {show(target)}, should lead to {show(node.target)}"


def is_judged(kind: str, attribute: bytes) -> bool:
    """Return whether an extended attribute is an image's own business, and files of this kind can have it.

    Others are set by the node, such as ``security.selinux``, or may be refused by it.
    """
    if kind not in (FILE, DIRECTORY):
        return False
    return attribute == _CAPABILITY or (attribute.startswith(b"user.") and not attribute.startswith(_OF_OVERLAY))


def attribute_problems(node: Inode, found: Mapping[bytes, bytes]) -> Iterator[str]:
    """Return the problem of extended attributes; ``found`` are those that are compared."""
    wanted = {key: value for key, value in (node.xattrs or {}).items() if is_judged(node.kind, key)}
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            yield f"has no attribute {show(key)}"
        elif key not in wanted:
            yield f"has the attribute {show(key)}, should have none"
        elif wanted[key] != found[key]:
            yield f"has the attribute {show(key)} with another value"


def _pair(numbers: tuple[int, int]) -> str:
    return f"{numbers[0]}:{numbers[1]}"


def _bytes(size: int) -> str:
    return f"{size} byte" if size == 1 else f"{size} bytes"
