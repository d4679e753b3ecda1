# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tree that an image's layers make, as text to be kept: a line of JSON for each directory, those in it after it.

A file is [name, kind, mode, uid, gid, layer, value, attributes, link]: ``mode`` null if it can't be known; ``layer`` the number
of the one that it comes from; ``value`` its size, a link's target or the numbers of a device; ``link`` a number that the names
of one file share, 0 if it has no other. What is empty at the end is left out; names are bytes, a character each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.integrity.comparison import is_judged
from ansible_collections.slipway.node.plugins.module_utils.integrity.inode import (
    Inode,
    SpecialInode,
    layer_of,
    new_node,
    origin_of,
)
from ansible_collections.slipway.node.plugins.module_utils.integrity.rootfs import RootFs
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
)

_LINK = 8


def encode_tree(tree: RootFs) -> Iterator[str]:
    """Return the lines, without their ends."""
    links: dict[int, int] = {}
    pending = [tree.root]
    while pending:
        directory = pending.pop()
        rows = []
        for name, node in directory.children.items():
            link = links.setdefault(id(node), len(links) + 1) if node.linked else 0
            rows.append(_row(name, node, link))
        yield json.dumps(rows, separators=(",", ":"))
        pending.extend(node for node in directory.children.values() if node.kind == DIRECTORY)


def decode_tree(lines: Iterable[str], *, overlay: bool) -> RootFs:
    """Decode a tree; no layer can be added to it. Raises ValueError for other data."""
    tree = RootFs(overlay=overlay)
    links: dict[int, Inode] = {}
    pending = [tree.root]
    for line in lines:
        if not pending:
            raise ValueError("a cached tree has too many lines")
        directory = pending.pop()
        for row in json.loads(line):
            try:
                name, node = _node(row, links)
            except (TypeError, IndexError, AttributeError) as error:
                raise ValueError("a cached tree has an entry that is not a file") from error
            directory.children[name] = node
            if node.kind == DIRECTORY:
                pending.append(node)
    if pending:
        raise ValueError("a cached tree has too few lines")
    return tree


def _row(name: bytes, node: Inode, link: int) -> list[Any]:
    value: Any = 0
    if node.kind == FILE:
        value = node.size
    elif node.kind == SYMLINK:
        value = _text(node.target)
    elif node.kind in (CHARACTER, BLOCK_DEVICE):
        value = node.device
    row = [_text(name), node.kind, node.mode, node.uid, node.gid, layer_of(node.origin), value]
    if node.xattrs or link:
        judged = {key: value for key, value in (node.xattrs or {}).items() if is_judged(node.kind, key)}
        row += [{_text(key): _text(value) for key, value in judged.items()}, link]
    return row


def _node(row: Any, links: dict[int, Inode]) -> tuple[bytes, Inode]:
    name = row[0].encode("latin-1")
    link = row[_LINK] if len(row) > _LINK else 0
    if link in links:
        return name, links[link]
    kind, mode, uid, gid, layer, value = row[1:7]
    if kind not in (FILE, DIRECTORY, SYMLINK, CHARACTER, BLOCK_DEVICE, FIFO):
        raise ValueError(f"a cached tree has a file of the kind {kind!r}")
    node = new_node(kind, mode, uid, gid)
    node.origin = origin_of(layer, 0)
    if not isinstance(node, SpecialInode):
        node.size = value
    elif kind == SYMLINK:
        node.target = value.encode("latin-1")
    elif kind in (CHARACTER, BLOCK_DEVICE):
        node.device = (value[0], value[1])
    if len(row) > _LINK:
        node.xattrs = {key.encode("latin-1"): text.encode("latin-1") for key, text in row[7].items()} or None
    if link:
        node.linked = True
        links[link] = node
    return name, node


def _text(name: bytes) -> str:
    return name.decode("latin-1")
