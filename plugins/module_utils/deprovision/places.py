# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that only configuration names which is taken back. An interrupted run leaves them to the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import STATE_DIRECTORY

# Where a run notes the places before it changes anything. It removes the notes at its end.
NOTES = f"{STATE_DIRECTORY}/deprovision.json"


@dataclass(frozen=True)
class Places:
    """``registries`` are directories of registry hosts, ``kata`` those of Kata's handlers, ``caches`` those of expected trees.

    ``directories`` are those that the collection created, to be removed if nothing is left in them.
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
        """As the module returns them, and a run notes them."""
        return {one.name: list(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_text(cls, text: str | None) -> Places:
        """Parse the notes of an interrupted run; None stands for none. Raises ValueError for other text."""
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
