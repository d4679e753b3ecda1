# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edit TOML text line by line: tables may stand in any order, which tomlkit doesn't edit.

Every key that is set or removed has to be on lines of its own, below the header of its table. Where that isn't so, the
result says something else than what was asked for; the caller compares.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.toml import parse, value_text
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, dotted, flatten


@dataclass
class _Part:
    """Lines that belong together: a key with its value, or comments and blank lines (``key`` None)."""

    lines: list[str]
    key: Path | None = None


@dataclass
class _Section:
    """A table: its header, "" for the keys before the first one. ``path`` None: an entry of an array of tables."""

    header: str
    path: Path | None
    parts: list[_Part] = field(default_factory=list)

    def find(self, key: Path) -> _Part | None:
        return next((part for part in self.parts if part.key == key), None)

    def add(self, key: Path, value: Any) -> None:
        """Set a key below the last one."""
        last = next((index for index in reversed(range(len(self.parts))) if self.parts[index].key is not None), -1)
        model = self.parts[last].lines[0] if last >= 0 else self.header
        indent = model[: len(model) - len(model.lstrip())]
        self.parts.insert(last + 1, _Part([f"{indent}{dotted(key)} = {value_text(value)}"], key))

    @property
    def empty(self) -> bool:
        """Whether there is neither a key nor a comment."""
        return "#" not in self.header and not any(line.strip() for part in self.parts for line in part.lines)


def edit_lines(text: str, *, put: Mapping[Path, Any], drop: Iterable[Path], drop_if_empty: Collection[Path]) -> str:
    """Set some keys of a document and remove others; all other lines stay. Raises ValueError for what it can't read."""
    sections = _sections(text)
    for path in drop:
        sections = [one for one in sections if one.path is None or one.path[: len(path)] != path]
        for section in _around(sections, path):
            section.parts = [part for part in section.parts if part.key != path[len(section.path or ()) :]]
    for path, value in put.items():
        _put(sections, path, value)
    kept = [section for section in sections if not (section.path in drop_if_empty and section.empty)]
    lines = [line for section in kept for line in (*filter(None, [section.header]), *_lines(section))]
    return "\n".join(lines).rstrip() + "\n" if lines else ""


def _lines(section: _Section) -> list[str]:
    return [line for part in section.parts for line in part.lines]


def _around(sections: Iterable[_Section], path: Path) -> list[_Section]:
    """Return the sections in which a key could be, the nearest table first."""
    found = [one for one in sections if one.path is not None and path[: len(one.path)] == one.path and len(one.path) < len(path)]
    return sorted(found, key=lambda one: -len(one.path or ()))


def _put(sections: list[_Section], path: Path, value: Any) -> None:
    for section in _around(sections, path):
        part = section.find(path[len(section.path or ()) :])
        if part is not None:
            part.lines = [_replaced("\n".join(part.lines), value)]
            return
    table = path if isinstance(value, Mapping) else path[:-1]
    own = next((one for one in sections if one.path == table), None)
    if own is None:
        own = _Section(f"[{dotted(table)}]", table)
        sections += [_Section("", None, [_Part([""])]), own]
    if not isinstance(value, Mapping):
        own.add(path[-1:], value)
    for key, one in flatten(value).items() if isinstance(value, Mapping) else ():
        own.add(key, one)


def _replaced(statement: str, value: Any) -> str:
    """Return the line with another value; a comment behind the value stays."""
    known = _parsed(statement)
    ends = [match.start() for match in re.finditer("#", statement) if _parsed(statement[: match.start()]) == known]
    comment = f"  {statement[ends[0] :]}" if ends and "\n" not in statement[ends[0] :] else ""
    equals = [match.start() for match in re.finditer("=", statement) if _parsed(f"{statement[: match.start()]}= 0") is not None]
    return f"{statement[: equals[0]].rstrip()} = {value_text(value)}{comment}"


def _parsed(text: str) -> Any:
    try:
        return parse(f"{text}\n")
    except ValueError:
        return None


def _sections(text: str) -> list[_Section]:
    sections = [_Section("", ())]
    waiting: list[str] = []
    for line in text.rstrip().split("\n") if text.strip() else ():
        header = _parsed(line) if not waiting and line.lstrip().startswith("[") else None
        if header is not None:
            sections.append(_Section(line, None if line.lstrip().startswith("[[") else _key(header)))
            continue
        waiting.append(line)
        # A value may go on for lines.
        tree = _parsed("\n".join(waiting))
        if tree is not None:
            sections[-1].parts.append(_Part(waiting, _key(tree) if tree else None))
            waiting = []
    if waiting:
        raise ValueError(f"it can't be read line by line ({waiting[0].strip()})")
    return sections


def _key(tree: Mapping[str, Any]) -> Path:
    """Return the path of the only key, or of the only table, in a statement; an inline table's keys are part of it."""
    path: Path = ()
    while isinstance(tree, Mapping) and len(tree) == 1:
        [(name, tree)] = tree.items()
        path = (*path, name)
    return path
