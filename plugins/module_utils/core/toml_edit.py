# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edit TOML text in place, without touching comments, order and layout of the other keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.toml import BYTE_ORDER_MARK, parse, plain_value, value_text
from ansible_collections.slipway.node.plugins.module_utils.core.toml_lines import edit_lines
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, Tree, dotted, edited_tree, lookup

try:
    import tomlkit
    import tomlkit.exceptions
    import tomlkit.items
except ImportError:
    tomlkit = None  # type: ignore[assignment]


def _table_at(document: Any, path: Path) -> Any:
    table = document
    for depth, part in enumerate(path, 1):
        if part not in table:
            inline = isinstance(table, tomlkit.items.InlineTable)
            table[part] = tomlkit.inline_table() if inline else tomlkit.table(is_super_table=True)
        table = table[part]
        if not isinstance(table, Mapping):
            raise ValueError(f"{dotted(path[:depth])} is not a table there")
    return table


def _item(value: Any, table: Any) -> Any:
    """Return a value for a table: a table of its own where there can be one, and everything else on one line."""
    if isinstance(value, Mapping) and not isinstance(table, tomlkit.items.InlineTable):
        return value
    return tomlkit.value(value_text(value))


def _remove(document: Any, path: Path) -> None:
    table = document
    for part in path[:-1]:
        if part not in table:
            return
        table = table[part]
    if path[-1] in table:
        del table[path[-1]]


def edit(text: str, *, put: Mapping[Path, Any], drop: Iterable[Path] = (), drop_if_empty: Collection[Path] = ()) -> str:
    """Set some keys of a document and remove others; comments, order and layout stay.

    ``drop_if_empty`` names tables that go when nothing is left in them, not even a comment. The result is parsed
    again and compared with what it has to say, so that no text is ever returned that says
    something else. A byte order mark stays. Raises ValueError if the document can't be edited that way.
    """
    if tomlkit is None:
        raise MissingLibrary("tomlkit")
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    text = text[len(mark) :]
    try:
        edited = _edit_items(text, put, drop, drop_if_empty)
    except ValueError as error:
        by_lines = _edit_lines(text, put, drop, drop_if_empty)
        if by_lines is None:
            raise error from error.__cause__
        edited = by_lines
    return mark + edited


def _edit_lines(text: str, put: Mapping[Path, Any], drop: Iterable[Path], drop_if_empty: Collection[Path]) -> str | None:
    """Edit the lines; None if the result doesn't say what it has to."""
    try:
        edited = edit_lines(text, put=put, drop=drop, drop_if_empty=drop_if_empty)
        found = parse(edited)
    except ValueError:
        return None
    gone = [path for path in drop_if_empty if lookup(found, path) is None]
    return edited if found == edited_tree(parse(text), put=put, drop=drop, drop_if_empty=gone) else None


def _edit_items(text: str, put: Mapping[Path, Any], drop: Iterable[Path], drop_if_empty: Collection[Path]) -> str:
    """Edit the document with tomlkit."""
    try:
        document: Any = tomlkit.parse(text)
        for path in drop:
            _remove(document, path)
        document, gone = _without_empty(document, drop_if_empty)
        for path, value in put.items():
            table = _table_at(document, path[:-1])
            known: Any = table.get(path[-1])
            is_table = isinstance(known, Mapping)
            if is_table and not isinstance(value, Mapping) and (known or "#" in known.as_string()):
                raise ValueError(f"{dotted(path)} is a table there")
            table[path[-1]] = _item(value, table)
        document, gone_later = _without_empty(document, drop_if_empty)
        edited = tomlkit.dumps(document).rstrip()
        edited += "\n" if edited else ""
    except (tomlkit.exceptions.TOMLKitError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"it can't be edited in place ({error})") from error
    if not _says(edited, edited_tree(parse(text), put=put, drop=drop, drop_if_empty=gone + gone_later)):
        raise ValueError("it can't be edited in place without changing other keys: write its tables as [tables]")
    return edited


def _without_empty(document: Any, tables: Iterable[Path]) -> tuple[Any, list[Path]]:
    """Return the document without the tables that are empty, and their paths.

    A comment after a table's last line is part of that table, also one that is meant for the next.
    """
    gone = []
    tree = plain_value(document)
    for path in sorted(tables, key=len, reverse=True):
        if lookup(tree, path) == {}:
            text = tomlkit.dumps(document)
            _remove(document, path)
            if _comment_count(tomlkit.dumps(document)) < _comment_count(text):
                document = tomlkit.parse(text)
            else:
                gone.append(path)
            tree = plain_value(document)
    return document, gone


def _comment_count(text: str) -> int:
    return sum(line.lstrip().startswith("#") for line in text.split("\n"))


def _says(text: str, tree: Tree) -> bool:
    try:
        return parse(text) == tree
    except ValueError:
        return False
