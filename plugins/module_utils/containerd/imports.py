# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How containerd follows the ``imports`` of its configuration files, and what these declare.

containerd cmd/containerd/server/config/config.go: resolveImports.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source


@dataclass(frozen=True)
class BrokenImport:
    """An import of the file ``source`` with which the daemon doesn't start. ``reason`` says why, such as "is a FIFO"."""

    source: str
    path: str
    reason: str
    by_glob: bool = False

    def sentence(self) -> str:
        """Return the problem without its remedy."""
        return f"{self.source} imports {self.path}, which {self.reason}, so containerd would not start"

    def remedy(self) -> str:
        """Return how to repair it: no run of the collection touches a file of others."""
        if self.by_glob:
            return f"remove or repair {self.path} by hand"
        return f"repair {self.path} by hand, or remove it from imports in {self.source}"


def patterns(tree: Mapping[str, Any], path: str) -> list[str]:
    """Return the imports of the file at a path, made absolute. Raises ValueError if they aren't a list of texts."""
    imports = tree.get("imports", [])
    if not isinstance(imports, list) or not all(isinstance(one, str) for one in imports):
        raise ValueError(f"{path}: imports has to be a list of paths")
    base = posixpath.dirname(path)
    return [one if one.startswith("/") else posixpath.normpath(posixpath.join(base, one)) for one in imports]


def is_glob(pattern: str) -> bool:
    """Return whether containerd expands a pattern: only one with a star."""
    return "*" in pattern


def matches(pattern: str, path: str) -> bool:
    """Return whether an absolute pattern names a path, by Go's rules (no wildcard crosses a slash)."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(_component(part).match(name) for part, name in zip(parts, names))


def _component(pattern: str) -> re.Pattern[str]:
    expression, index = "", 0
    while index < len(pattern):
        char = pattern[index]
        if char == "*":
            expression += ".*"
        elif char == "?":
            expression += "."
        elif char == "[" and "]" in pattern[index + 1 :]:
            end = pattern.index("]", index + 1)
            expression += pattern[index : end + 1]
            index = end
        else:
            expression += re.escape(char)
        index += 1
    return re.compile(f"(?s:{expression})\\Z")


def covered(tree: Mapping[str, Any], path: str, wanted: str) -> bool:
    """Return whether the file at ``path`` with this content imports ``wanted``."""
    return any(matches(pattern, wanted) for pattern in patterns(tree, path))


def candidate_imports(
    pattern_list: Sequence[str], listing: Mapping[str, Sequence[str]], stand_ins: Mapping[str, str | None]
) -> list[str]:
    """Return the imports of a candidate root file, with every glob spelled out.

    ``listing`` has the files that each glob matches now; ``stand_ins`` maps the final path of a
    file to where its candidate lies, or to None if it is to go.
    """
    spelled: list[str] = []
    for pattern in pattern_list:
        paths = set(listing.get(pattern, ())) if is_glob(pattern) else {pattern}
        paths |= {path for path in stand_ins if matches(pattern, path)}
        spelled += [stand_ins.get(path, path) or "" for path in sorted(paths)]
    return [path for path in spelled if path]


def proxy_addresses(sources: Iterable[Source]) -> dict[str, str]:
    """Return the sockets of the proxy snapshotters that the files declare, by name; the last file wins."""
    addresses: dict[str, str] = {}
    for source in sources:
        try:
            tables = toml.parse(source.text).get("proxy_plugins", {})
        except ValueError:
            continue
        for name, table in tables.items() if isinstance(tables, Mapping) else ():
            if isinstance(table, Mapping) and table.get("type") == "snapshot":
                addresses[name] = str(table.get("address", ""))
    return addresses
