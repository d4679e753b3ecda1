# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that only the settings name. A run notes them before it takes the settings back, so that the next run can finish it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import STATE_DIRECTORY

# A run writes the places here before it changes anything, and removes the file at its end.
NOTES = f"{STATE_DIRECTORY}/deprovision.json"


@dataclass(frozen=True)
class Places:
    """``registries`` are directories of registry hosts, ``kata`` those of Kata's handlers, ``caches`` those of expected trees.

    ``directories`` are those that the collection created. They are removed if they are empty.
    """

    registries: tuple[str, ...] = ()
    kata: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    scratch_files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    def plus(self, other: Places) -> Places:
        """Return the places of both, sorted."""
        return Places(**{one.name: _sorted((*getattr(self, one.name), *getattr(other, one.name))) for one in fields(self)})

    def to_dict(self) -> dict[str, list[str]]:
        """Return the places as the module returns them, and as a run notes them."""
        return {one.name: list(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_text(cls, text: str | None) -> Places:
        """Parse the notes of an interrupted run; None: there are no notes. Raises ValueError for other text."""
        if text is None:
            return cls()
        noted = json.loads(text)
        if not isinstance(noted, Mapping):
            raise ValueError("it contains no JSON object")
        return cls(**{one.name: _paths(noted.get(one.name, [])) for one in fields(cls)})


def _sorted(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(paths)))


def _paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one.startswith("/") for one in value):
        raise ValueError(f"{value!r} isn't a list of absolute paths")
    return tuple(value)
