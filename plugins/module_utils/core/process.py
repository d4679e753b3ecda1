# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process as /proc describes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """``started`` in seconds since the epoch; ``executable`` None where it has been replaced on disk."""

    pid: int
    started: float
    arguments: tuple[str, ...]
    executable: str | None

    def option(self, *names: str) -> str | None:
        """Return the value of a command line option, given as ``--name VALUE`` or ``--name=VALUE``."""
        for index, argument in enumerate(self.arguments):
            name, equals, value = argument.partition("=")
            if name in names:
                following = self.arguments[index + 1 : index + 2]
                return value if equals else (following[0] if following else None)
        return None
