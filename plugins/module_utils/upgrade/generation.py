# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generations, the states of a node before its upgrades: which ones stay, and to which one the node goes back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

FORMAT = 1
ARCHIVE, PACKAGE = "archive", "package"
# The change before which the generation was kept: to another version, or back to an earlier generation.
UPGRADED, PREVIOUS = "upgraded", "previous"


@dataclass(frozen=True)
class Manifest:
    """What a generation is: containerd ``version`` and ``runc_version``, from which ``origin``, kept for the change ``state``.

    ``created_at`` in seconds since the epoch, ``boot`` is the kernel's id of that boot. ``units`` are units that ran and that
    systemd stops together with containerd. ``directories`` are directories that were missing.
    ``healthy``: the daemon was well, so it has to be well again if the change is taken back. ``unit`` is the daemon's.
    """

    number: int
    version: str
    to_version: str
    state: str
    created_at: float
    boot: str
    runc_version: str = ""
    origin: str = ARCHIVE
    units: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    healthy: bool = True
    unit: str = ""

    def to_text(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Parse a manifest. Raises ValueError for other text, and for one of a newer collection."""
        try:
            content = json.loads(text)
            found = content.pop("format")
            if found != FORMAT:
                raise ValueError(f"it is written in format {found}, and this release of the collection reads {FORMAT}")
            content |= {name: tuple(content[name]) for name in ("units", "directories")}
            return cls(**content)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is damaged ({error!r})") from error


def next_number(numbers: Iterable[int]) -> int:
    """Return the number of the next generation."""
    return max(numbers, default=0) + 1


def target_of(kept: Iterable[Manifest], wanted: int | None) -> Manifest:
    """Return the generation to go back to: the one with this number, or the newest that an upgrade kept.

    Generations that were kept before going back don't count: otherwise a second request would undo the first.
    Raises ValueError if there is none.
    """
    found = sorted(kept, key=lambda one: one.number)
    if wanted is not None:
        chosen = next((one for one in found if one.number == wanted), None)
        numbers = ", ".join(str(one.number) for one in found) or "none"
        if chosen is None:
            raise ValueError(f"generation: the node has no generation {wanted}: name one of its generations ({numbers})")
        return chosen
    newest = [one for one in found if one.state == UPGRADED]
    if not newest:
        raise ValueError("state: the node has no generation of an upgrade to go back to: name the wanted version in to_binary")
    return newest[-1]


def to_drop(kept: Iterable[int], keep: int, used: Iterable[int] = ()) -> tuple[int, ...]:
    """Return the generations to remove, the oldest first, so that ``keep`` stay. Those in ``used`` stay too."""
    numbers = sorted(set(kept))
    return tuple(one for one in numbers[: max(len(numbers) - keep, 0)] if one not in set(used))
