# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that the collection has set in a file of several owners, and their previous values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path

FORMAT = 1


@dataclass(frozen=True)
class OwnedKey:
    """A key that the collection set. ``had`` says whether there was a value before, ``before`` which.

    ``earlier`` are values of the collection's own that may still be in the file, as a change from
    them to ``value`` has not been proven yet.
    """

    value: Any
    had: bool = False
    before: Any = None
    earlier: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Record:
    """The memory that lies beside a configuration file.

    ``original`` is the root file as others wrote it (None: there was none), and ``written`` has the digests of what the
    collection made of it: if the file is one of those, the original is what others want. Without ``written``, others have
    changed the file since, and ``keys`` and ``tables`` say what isn't theirs. ``had_imports``: their file had an ``imports``.
    ``directories`` are those that the collection created for its files.

    ``pending`` holds the contents of files (None: no file) from before a change that has not
    been proven yet; a run that finds it knows that an earlier one was cut short. ``unstarted``: no container has been seen
    to start since the daemon was changed.
    """

    keys: Mapping[Path, OwnedKey] = field(default_factory=dict)
    tables: frozenset[Path] = frozenset()
    created: bool = False
    imported: str | None = None
    had_imports: bool = False
    original: str | None = None
    written: tuple[str, ...] = ()
    directories: frozenset[str] = frozenset()
    pending: Mapping[str, str | None] = field(default_factory=dict)
    unstarted: bool = False

    def with_original(self, original: str | None, text: str | None) -> Record:
        """Return the record of a root file with this text, which the collection made of the original."""
        return self if self == Record() else replace(self, original=original, written=(_digest(text),))

    def knows(self, text: str | None) -> bool:
        """Return whether ``original`` is what others want of a root file with this text."""
        return bool(self.written) and (text == self.original or _digest(text) in self.written)

    def begun(self, wanted: Record, pending: Mapping[str, str | None]) -> Record:
        """Return the record to keep while a change from this record to another is under way.

        If a run is killed between two files, the next run still knows the values that this collection set.
        """
        keys = dict(self.keys)
        for path, key in wanted.keys.items():
            known = self.keys.get(path, key)
            keys[path] = replace(key, earlier=tuple(one for one in (*known.earlier, known.value) if one != key.value))
        return Record(
            keys=keys,
            tables=self.tables | wanted.tables,
            created=self.created or wanted.created,
            imported=wanted.imported or self.imported,
            had_imports=self.had_imports or wanted.had_imports,
            original=wanted.original if wanted.written else self.original,
            written=tuple(dict.fromkeys((*self.written, *wanted.written))),
            directories=self.directories | wanted.directories,
            pending=pending,
            unstarted=self.unstarted,
        )

    def to_text(self) -> str | None:
        """Return the record as JSON, or None if it is empty."""
        if self == Record():
            return None
        keys = [
            {
                "path": list(path),
                "value": key.value,
                **({"before": key.before} if key.had else {}),
                **({"earlier": list(key.earlier)} if key.earlier else {}),
            }
            for path, key in sorted(self.keys.items())
        ]
        content = {
            "format": FORMAT,
            "keys": keys,
            "tables": sorted(list(path) for path in self.tables),
            "created": self.created,
            "imported": self.imported,
            "had_imports": self.had_imports,
            "original": self.original,
            "written": list(self.written),
            "directories": sorted(self.directories),
            "pending": dict(self.pending),
            "unstarted": self.unstarted,
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str | None) -> Record:
        """Parse a record. Raises ValueError for other text, and for a record of a newer collection."""
        if text is None:
            return cls()
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"it is of format {content['format']}, and this collection knows {FORMAT}")
            return cls(
                keys={
                    tuple(one["path"]): OwnedKey(one["value"], "before" in one, one.get("before"), tuple(one.get("earlier", ())))
                    for one in content["keys"]
                },
                tables=frozenset(tuple(path) for path in content["tables"]),
                created=content["created"],
                imported=content["imported"],
                had_imports=content["had_imports"],
                original=content["original"],
                written=tuple(content["written"]),
                directories=frozenset(content["directories"]),
                pending=dict(content["pending"].items()),
                unstarted=content["unstarted"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is damaged ({error!r})") from error


def _digest(text: str | None) -> str:
    return hashlib.sha256((text or "").encode()).hexdigest()
