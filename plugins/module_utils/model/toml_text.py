# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TOML as text: parsed, written, and edited in place without touching what others wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model.tree import Path, Tree, dotted, lookup, quote

try:
    import tomllib
except ImportError:  # Python < 3.11
    tomllib = None  # type: ignore[assignment]
try:
    import tomlkit
    import tomlkit.exceptions
except ImportError:
    tomlkit = None  # type: ignore[assignment]


class MissingLibrary(RuntimeError):
    """A TOML library that the node has to have is not there; the text is its name."""


def parse(text: str) -> Tree:
    """The document as plain Python values. Raises ValueError that names line and column."""
    if tomllib is not None:
        return tomllib.loads(text)
    if tomlkit is None:
        raise MissingLibrary("tomlkit")
    document: Tree = tomlkit.parse(text).unwrap()
    return document


def value_text(value: Any) -> str:
    """One value, tables and lists inline. Raises ValueError for what TOML can't express."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(value_text(one) for one in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{dotted([key])} = {value_text(one)}" for key, one in value.items())
        return "{ " + pairs + " }" if pairs else "{}"
    raise ValueError(f"TOML has no way to write {value!r}")


def render(tree: Mapping[str, Any], comment: str = "") -> str:
    """The tree as a TOML document, below a comment; the same tree always gives the same text."""
    lines = [f"# {line}" for line in comment.splitlines()]

    def table(path: Path, content: Mapping[str, Any]) -> None:
        leaves = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
        if path and (leaves or not content):
            lines.extend(["", f"[{dotted(path)}]"])
        lines.extend(f"{dotted([key])} = {value_text(value)}" for key, value in sorted(leaves.items()))
        for key in sorted(set(content) - set(leaves)):
            table((*path, key), content[key])

    table((), tree)
    return "\n".join(lines) + "\n"


def _enter(table: Any, part: str) -> Any:
    if part not in table:
        table[part] = tomlkit.table(is_super_table=True)
    return table[part]


def _remove(document: Any, path: Path) -> None:
    table = document
    for part in path[:-1]:
        if part not in table:
            return
        table = table[part]
    if path[-1] in table:
        del table[path[-1]]


def edit(text: str, *, put: Mapping[Path, Any], drop: Iterable[Path] = (), drop_if_empty: Iterable[Path] = ()) -> str:
    """The document with some keys set and some removed; comments, order and layout stay.

    ``drop_if_empty`` names tables that go when nothing is left in them. The result is parsed
    again and compared with what it has to say, so that no text is ever returned that says
    something else. Raises ValueError if the document can't be edited that way.
    """
    if tomlkit is None:
        raise MissingLibrary("tomlkit")
    try:
        document: Any = tomlkit.parse(text)
        for path in drop:
            _remove(document, path)
        for path, value in put.items():
            table = document
            for part in path[:-1]:
                table = _enter(table, part)
            table[path[-1]] = value
        for path in sorted(drop_if_empty, key=len, reverse=True):
            if lookup(document.unwrap(), path) == {}:
                _remove(document, path)
        edited: str = tomlkit.dumps(document)
    except (tomlkit.exceptions.TOMLKitError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"it can't be edited in place ({error})") from error
    expected = _expected(parse(text), put, drop, drop_if_empty)
    if parse(edited) != expected:
        raise ValueError("it can't be edited in place without changing other keys")
    return edited


def _expected(tree: Tree, put: Mapping[Path, Any], drop: Iterable[Path], drop_if_empty: Iterable[Path]) -> Tree:
    for path in drop:
        parent = lookup(tree, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    for path, value in put.items():
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
    for path in sorted(drop_if_empty, key=len, reverse=True):
        if lookup(tree, path) == {}:
            lookup(tree, path[:-1]).pop(path[-1])
    return tree
