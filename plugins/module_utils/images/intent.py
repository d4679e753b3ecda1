# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The intent record: pulls whose layers may not be on disk yet. Written before a pull, cleared after the sync."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_VERSION = 1


@dataclass(frozen=True)
class Pull:
    """One batch. ``names`` are the images that were to come; ``before`` the chain IDs that had snapshots by then, and
    ``blobs`` the digests of the content that was there.

    ``boot`` is the kernel's boot id of that time: in another boot, what the page cache held is lost.
    """

    boot: str
    namespace: str
    snapshotter: str
    names: tuple[str, ...]
    before: tuple[str, ...]
    blobs: tuple[str, ...] = ()

    def is_for(self, namespace: str, snapshotter: str) -> bool:
        return (self.namespace, self.snapshotter) == (namespace, snapshotter)


def parse(text: str | None) -> tuple[Pull, ...]:
    """Parse a record; None and an empty text are no record. Raises ValueError for other texts, and for a newer format."""
    if not text:
        return ()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise ValueError(f"it is not a record of version {_VERSION}")
    return tuple(_pull(entry) for entry in _entries(document.get("pulls")))


def to_text(pulls: Sequence[Pull]) -> str:
    """Return the text that ``parse`` reads."""
    return json.dumps({"version": _VERSION, "pulls": [asdict(pull) for pull in pulls]}, indent=1, sort_keys=True) + "\n"


def lost(pulls: Iterable[Pull], boot: str) -> tuple[Pull, ...]:
    """Return those of an earlier boot: the power may have gone before their layers were on disk."""
    return tuple(pull for pull in pulls if pull.boot != boot)


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("it has no list of pulls")
    return value


def _pull(entry: Any) -> Pull:
    if not isinstance(entry, dict):
        raise ValueError("a pull in it is no object")
    texts = [entry.get(key) for key in ("boot", "namespace", "snapshotter")]
    lists = [entry.get(key) for key in ("names", "before", "blobs")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a pull in it has no boot, namespace or snapshotter")
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("a pull in it has no names")
    return Pull(*texts, *map(tuple, lists))  # type: ignore[arg-type]
