# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""TOML as text: parsed and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, Tree, dotted, quote

BYTE_ORDER_MARK = "\ufeff"
_loads: Callable[[str], Tree] | None
tomlkit: Any = None
try:
    from tomllib import loads as _loads
except ImportError:  # Python < 3.11
    _loads = None
    # Only then: to import it takes as long as to read a configuration.
    try:
        import tomlkit
    except ImportError:
        tomlkit = None


def parse(text: str) -> Tree:
    """Return the document as plain Python values. Raises ValueError that names line and column.

    A byte order mark is passed over, as containerd 1.x does.
    """
    text = text[text.startswith(BYTE_ORDER_MARK) :]
    if _loads is not None:
        return _loads(text)
    if tomlkit is None:
        raise MissingLibrary("tomlkit")
    document: Tree = plain_value(tomlkit.parse(text))
    return document


def plain_value(item: Any) -> Any:
    """Convert tomlkit's items to Python's own types; ``unwrap`` is not there before tomlkit 0.11."""
    if isinstance(item, Mapping):
        return {str(key): plain_value(item[key]) for key in item}
    if isinstance(item, list):
        return [plain_value(one) for one in item]
    for kind in (str, int, float):
        if isinstance(item, kind) and not isinstance(item, bool):
            return kind(item)
    # That of tomlkit can't be a subclass of bool.
    value = getattr(item, "value", item)
    return value if isinstance(value, bool) else item


def value_text(value: Any) -> str:
    """Return the text of a value, with tables and lists inline. Raises ValueError for what TOML can't express."""
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
    """Return the tree as a TOML document, below a comment; the same tree always gives the same text."""
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
