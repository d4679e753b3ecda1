# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mounts of a snapshot, as ``ctr`` prints them."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError


@dataclass(frozen=True)
class SnapshotMount:
    """One mount of a snapshot: file system type, source, options as mount(8) takes them."""

    kind: str
    source: str
    options: tuple[str, ...]


def parse_ctr_mounts(stdout: str, directory: str) -> tuple[SnapshotMount, ...]:
    """Parse the output of ``ctr snapshots mounts DIRECTORY KEY``. Raises HostError for a mount that can't be made here."""
    found = []
    for line in stdout.splitlines():
        head, target, options = line.partition(f" {directory} -o ")
        words = head.split(" ", 4)
        if words[:2] != ["mount", "-t"] or len(words) < 4 or not target or "{{" in line or "/" in words[2]:
            raise HostError(f"cannot mount a snapshot: {line!r} is not a mount that is understood")
        found.append(SnapshotMount(words[2], " ".join(words[3:]), tuple(option for option in options.split(",") if option)))
    if not found:
        raise HostError("cannot mount a snapshot: the snapshotter has no mounts for it")
    return tuple(found)
