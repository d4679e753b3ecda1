# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process as /proc describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A process's start is known to a clock tick (10 ms), a file's change to a jiffy; a daemon takes
# longer than this from its start until it reads its files.
CLOCK_GRAIN = 0.02
# systemd notes a start in whole seconds. If that differs more from the process's age, the clock has been set since.
_CLOCK_SET_SECONDS = 2.0
# Go reads them in either case (httpproxy.FromEnvironment); ALL_PROXY isn't one of them.
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Process:
    """``started`` in seconds since the epoch; ``executable`` None where it has been replaced on disk."""

    pid: int
    started: float
    arguments: tuple[str, ...]
    executable: str | None

    def started_then(self, noted: float | None) -> float:
        """Return the start by the clock as it was then, which times of files are compared with. ``noted`` is systemd's."""
        if noted is None or abs(noted - self.started) < _CLOCK_SET_SECONDS:
            return self.started
        return noted + 1

    def option(self, *names: str) -> str | None:
        """Return the value of a command line option, given as ``--name VALUE`` or ``--name=VALUE``."""
        for index, argument in enumerate(self.arguments):
            name, equals, value = argument.partition("=")
            if name in names:
                following = self.arguments[index + 1 : index + 2]
                return value if equals else (following[0] if following else None)
        return None


def changed_since(times: Mapping[str, float], started: float, now: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files that changed after a start, and those of which this is unknown, because the clock was set back since.

    ``times`` are their changes by path, in seconds since the epoch as ``started`` and ``now``.
    """
    later = {path: time for path, time in times.items() if time > started + CLOCK_GRAIN}
    undated = tuple(path for path, time in later.items() if time > now + CLOCK_GRAIN)
    return tuple(path for path in later if path not in undated), undated


def added_proxy(own: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables of another process; none if the own environment has some."""
    if any(name.upper() in _PROXY_VARIABLES for name in own):
        return {}
    return {name: value for name, value in other.items() if name.upper() in _PROXY_VARIABLES}
