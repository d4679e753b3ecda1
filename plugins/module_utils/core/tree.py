# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration trees (nested dicts, as TOML has them) and the paths of their leaves."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

Path = tuple[str, ...]
Tree = dict[str, Any]

_BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+\Z")
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_DURATION_PART = re.compile(r"(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def flatten(tree: Mapping[str, Any], prefix: Path = ()) -> dict[Path, Any]:
    """Return the leaves of a tree by path. Lists are leaves, and so is an empty table."""
    leaves: dict[Path, Any] = {}
    for key, value in tree.items():
        path = (*prefix, key)
        if isinstance(value, Mapping) and value:
            leaves.update(flatten(value, path))
        else:
            leaves[path] = value
    return leaves


def nest(leaves: Mapping[Path, Any]) -> Tree:
    """Return the tree that has these leaves. Raises ValueError where one leaf lies below another."""
    tree: Tree = {}
    for path, value in leaves.items():
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ValueError(f"{dotted(path)} lies below a key that is not a table")
        table[path[-1]] = value
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Merge both trees; if both have a leaf, or a leaf and a table, ``over`` wins."""
    merged: Tree = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(known, value)
        else:
            merged[key] = value
    return merged


def lookup(tree: Mapping[str, Any], path: Iterable[str], default: Any = None) -> Any:
    """Return the value at a path, or the default where the path leads nowhere."""
    value: Any = tree
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def edited_tree(
    tree: Mapping[str, Any], *, put: Mapping[Path, Any], drop: Iterable[Path] = (), drop_if_empty: Collection[Path] = ()
) -> Tree:
    """Return what ``toml_edit.edit`` makes of a document, as plain values; the given tree is left unchanged."""
    edited: Tree = copy.deepcopy(dict(tree))
    for path in drop:
        parent = lookup(edited, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    _drop_empty(edited, drop_if_empty)
    for path, value in put.items():
        table = edited
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = copy.deepcopy(value)
    _drop_empty(edited, drop_if_empty)
    return edited


def _drop_empty(tree: Tree, tables: Iterable[Path]) -> None:
    for path in sorted(tables, key=len, reverse=True):
        if lookup(tree, path) == {}:
            lookup(tree, path[:-1]).pop(path[-1])


def quote(text: str) -> str:
    """Return a TOML basic string."""
    escaped = "".join(
        _ESCAPES.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char) for char in text
    )
    return f'"{escaped}"'


def dotted(path: Iterable[str]) -> str:
    """Return a path as TOML writes it: ``plugins."io.containerd.grpc.v1.cri".sandbox_image``."""
    return ".".join(part if _BARE_KEY.match(part) else quote(part) for part in path)


def nanoseconds(text: str) -> int | None:
    """Convert a Go duration such as ``1h30m`` to nanoseconds; None for any other text, and for 292 years or more.

    Source: Go's time.ParseDuration.
    """
    if not _DURATION.fullmatch(text):
        return None
    parts = [(int(whole + part), len(part), _NANOSECONDS[unit]) for whole, part, unit in _DURATION_PART.findall(text)]
    length = sum(number * unit // 10**decimals for number, decimals, unit in parts)
    return None if length >= 2**63 else -length if text.startswith("-") else length


def agrees(wanted: Any, found: Any) -> bool:
    """Return whether a value that the daemon prints is the one that was asked for.

    The daemon normalises Go durations (``1500ms`` is printed as ``1.5s``) and completes the tables
    of a list with the keys left out, so durations are compared by length and tables key by key.
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(agrees(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(wanted) == len(found)
            and all(agrees(one, other) for one, other in zip(wanted, found))
        )
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, str) and isinstance(found, str) and wanted != found:
        length = nanoseconds(wanted)
        return length is not None and length == nanoseconds(found)
    return bool(wanted == found)
