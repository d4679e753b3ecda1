# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the containers before and after an upgrade, and judge the probe after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.probe.plan import FAILED, NOT_TRIED, Outcome, Report

# States of a task without a process.
_ENDED = ("STOPPED", "UNKNOWN", "CREATED")


def parse_tasks(stdout: str, namespace: str) -> dict[str, int]:
    """Return the process ids of the tasks that run, by NAMESPACE/ID, from the table that ``ctr tasks ls`` prints."""
    rows = (line.split() for line in stdout.splitlines()[1:])
    return {f"{namespace}/{row[0]}": int(row[1]) for row in rows if len(row) == 3 and row[2] not in _ENDED and row[1].isdigit()}


@dataclass(frozen=True)
class Fate:
    """Containers by NAMESPACE/ID: ``kept`` with the same process, ``ended``, and ``lost``: running, but unknown to the daemon."""

    kept: tuple[str, ...]
    ended: tuple[str, ...]
    lost: tuple[str, ...]


def fate(before: Mapping[str, int], after: Mapping[str, int], alive: Collection[int]) -> Fate:
    """Compare the containers of two daemons by the ids of their processes. ``alive`` are the processes that exist."""
    kept = tuple(name for name, pid in before.items() if after.get(name) == pid)
    others = [name for name in before if name not in kept]
    lost = tuple(name for name in others if before[name] in alive)
    return Fate(kept, tuple(name for name in others if name not in lost), lost)


def broken_handlers(before: Report | None, after: Report) -> dict[str, str]:
    """Return the handlers with which no container starts any more, with the reason.

    A handler that failed before isn't one of them. ``before`` is None if no container could be started.
    """
    failed = {one.handler for one in before.outcomes if one.state == FAILED} if before is not None else set()
    return {one.handler: one.reason for one in after.outcomes if one.state == FAILED and one.handler not in failed}


def unproven_handlers(before: Report | None, after: Report) -> dict[str, str]:
    """Return the handlers that weren't tried, or that also failed before, with the reason."""

    def unproven(one: Outcome) -> bool:
        return one.state == NOT_TRIED or (one.state == FAILED and one.handler not in broken_handlers(before, after))

    return {one.handler: one.shown() for one in after.outcomes if unproven(one)}
