# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The input and the entries of the report on an upgrade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import BrokenImport
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path
from ansible_collections.slipway.node.plugins.module_utils.upgrade.deprecations import Deprecation

# A loss or a failure; a change by a new default; unknown; no action is needed.
FAIL, WARN, UNKNOWN, INFO = "fail", "warn", "unknown", "info"
STATUSES = (FAIL, WARN, UNKNOWN, INFO)


@dataclass(frozen=True)
class Entry:
    """A difference between the installed containerd and the new one.

    ``what`` names the setting or the object, ``now`` and ``then`` are its values. ``source`` is the file of others that contains
    it, or empty. ``remedy`` is empty if no action is needed.
    """

    kind: str
    status: str
    what: str
    now: Any
    then: Any
    remedy: str = ""
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as the module returns it."""
        return {
            "kind": self.kind,
            "status": self.status,
            "what": self.what,
            "now": self.now,
            "then": self.then,
            "source": self.source,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Room:
    """A file system that needs room for an upgrade: the directories on it that get files, and sizes in bytes."""

    directories: tuple[str, ...]
    needed: int
    free: int


@dataclass(frozen=True)
class UpgradeState:
    """The state of the node. A part that couldn't be read is None, and ``trouble`` has the reason by the part's name.

    ``now`` and ``then`` are the installed and the new version. ``before`` is the configuration that the installed version reads
    from the files on disk. ``after`` is the one that the new version reads from the files that the collection would write, with
    the files of others. ``default_before`` and ``default_after`` are their configurations without any file. ``refused_now`` and
    ``refused`` are the messages with which they refuse their files.

    ``others`` are the files of others, ``own`` the places of the collection's settings, ``wanted`` those settings as leaves,
    both in the schema of ``after``. ``unread`` are files of conf.d that no file imports.
    ``directories`` are the names in the directories of registries, of CDI and of NRI, ``verifiers`` the paths of the image
    verifiers.
    ``network_problems`` are faults of the pods' network that come with the new version. ``moved_snapshots`` is the reason for
    which the new version would not find snapshots. ``held`` are the snapshotters with snapshots that the new version lacks,
    with the number of snapshots in each namespace. ``sandbox_present``: the node has the sandbox image of ``after``.
    ``missing_programs`` are programs that have to be beside the new one.
    """

    config_file: str
    now: Version
    then: Version
    before: EffectiveConfig | None = None
    after: EffectiveConfig | None = None
    default_before: EffectiveConfig | None = None
    default_after: EffectiveConfig | None = None
    refused_now: str = ""
    refused: str = ""
    others: tuple[Source, ...] = ()
    own: frozenset[Path] = frozenset()
    wanted: Mapping[Path, Any] = field(default_factory=dict)
    broken_imports: tuple[BrokenImport, ...] = ()
    unread: tuple[str, ...] = ()
    directories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    verifiers: tuple[str, ...] = ()
    network_problems: tuple[str, ...] = ()
    moved_snapshots: str = ""
    held: Mapping[str, tuple[str, ...]] | None = field(default_factory=dict)
    deprecations: tuple[Deprecation, ...] | None = ()
    sandbox_present: bool = False
    cgroup_v1: bool = False
    missing_programs: tuple[str, ...] = ()
    room: tuple[Room, ...] = ()
    trouble: Mapping[str, str] = field(default_factory=dict)

    def names_in(self, directories: Iterable[str]) -> tuple[str, ...]:
        """Return the paths of the entries of directories."""
        return tuple(f"{directory}/{name}" for directory in directories for name in self.directories.get(directory, ()))


def summarize(entries: Iterable[Entry]) -> dict[str, int]:
    """Return the number of entries of each status."""
    counts = dict.fromkeys(STATUSES, 0)
    for entry in entries:
        counts[entry.status] += 1
    return counts
