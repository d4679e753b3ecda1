# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshots of a snapshotter: their parents, and the order of removal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

COMMITTED = "Committed"
_UNPACKING = re.compile(r"extract-\d+-\S+ \w+:[a-f0-9]+\Z")


@dataclass(frozen=True)
class Snapshot:
    """``kind``: Committed, Active or View; ``parent`` is empty for the lowest of a chain."""

    parent: str
    kind: str

    @property
    def is_layer(self) -> bool:
        return self.kind == COMMITTED


@dataclass(frozen=True)
class Removal:
    """``keys`` to remove, children first; ``users`` are the snapshots because of which others have to stay."""

    keys: tuple[str, ...]
    users: tuple[str, ...]


def parse_snapshots(stdout: str) -> dict[str, Snapshot]:
    """Parse ``ctr snapshots ls`` by the width of its columns, because a key may contain spaces."""
    lines = stdout.splitlines()
    if not lines:
        return {}
    parent, kind = lines[0].find("PARENT"), lines[0].find("KIND")
    if parent < 0 or kind < 0:
        raise ValueError(f"this is no list of snapshots: {lines[0]!r}")
    return {
        line[:parent].rstrip(): Snapshot(line[parent:kind].strip(), line[kind:].strip()) for line in lines[1:] if line.strip()
    }


def is_unpacking(key: str) -> bool:
    """Return whether it is the snapshot that containerd unpacks a layer in: pkg/rootfs/apply.go and core/unpack/unpacker.go."""
    return bool(_UNPACKING.match(key))


def plan_removal(snapshots: Mapping[str, Snapshot], unwanted: Iterable[str], *, unpacking: bool = False) -> Removal:
    """Plan to remove layers, and the layers on them, but no parent of a writable snapshot or view.

    Where an unwanted layer has to stay, so does what stands on it, unless that is unwanted for its own sake.
    ``unpacking``: partly unpacked layers on them are removed as well; a running pull has to start again.
    """
    roots = dict.fromkeys(unwanted)
    order, disposable, users = _judged_upwards(snapshots, tuple(roots), unpacking)
    going: set[str] = set()
    # From the lowest on: what is taken away takes with it what stands on it.
    for key in reversed(order):
        if disposable[key] and (key in roots or snapshots[key].parent in going):
            going.add(key)
    return Removal(tuple(key for key in order if key in going), tuple(users))


def _judged_upwards(
    snapshots: Mapping[str, Snapshot], roots: Sequence[str], unpacking: bool
) -> tuple[list[str], dict[str, bool], list[str]]:
    """Return the roots and all snapshots on them, children first; whether they may be removed; and those in use."""
    children: dict[str, list[str]] = {}
    for key, snapshot in snapshots.items():
        children.setdefault(snapshot.parent, []).append(key)
    order: list[str] = []
    users: list[str] = []
    # Without recursion: an image may have 500 layers. A key is judged after everything that stands on it.
    state: dict[str, bool] = {}
    for root in roots:
        pending = [root] if root in snapshots else []
        while pending:
            key = pending[-1]
            above = children.get(key, [])
            waiting = [child for child in above if child not in state]
            if waiting and key not in state:
                pending.extend(waiting)
                continue
            pending.pop()
            if key not in state:
                own = snapshots[key].is_layer or (unpacking and is_unpacking(key))
                state[key] = own and all(state[child] for child in above)
                order.append(key)
                users += [] if own else [key]
    return order, state, users
