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

# Something is lost or breaks; something changes by a new default; it can't be determined; nothing has to be done.
FAIL, WARN, UNKNOWN, INFO = "fail", "warn", "unknown", "info"
STATUSES = (FAIL, WARN, UNKNOWN, INFO)


@dataclass(frozen=True)
class Entry:
    """A difference between the installed containerd and the new one.

    ``what`` names the setting or the object, ``now`` and ``then`` its values, ``source`` the file of others that it comes from,
    empty if it comes from none. ``remedy`` is empty if nothing has to be done.
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
    """A file system that needs room for an upgrade: sizes in bytes."""

    directory: str
    needed: int
    free: int


@dataclass(frozen=True)
class UpgradeState:
    """What was read from the node. None stands for what couldn't be; ``trouble`` says why, by name.

    ``now`` and ``then`` are the installed and the new version, ``before`` and ``after`` what each makes of the configuration
    files: the installed one of those on disk, the new one of those that the collection would write, with the files of others.
    The other two are their configurations without any file. ``refused`` and ``refused_now`` are the words with which the new
    and the installed one refuse their files.

    ``others`` are the files of others, ``own`` the places of the collection's settings, ``wanted`` those settings as leaves,
    both in the schema of ``after``. ``unread`` are files of conf.d that no file imports.
    ``directories`` holds the names in the directories of registries, of CDI and of NRI, ``verifiers`` the paths of the image
    verifiers.
    ``network_problems`` are faults of the pods' network that come with the new version, ``moved_snapshots`` says why the new
    version would not find snapshots. ``held`` are the snapshotters that the new version lacks and that hold snapshots, with
    what holds them. ``sandbox_present``: the node has the sandbox image of ``after``.
    ``missing_programs`` are programs that should lie beside the new one.
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
        """Return the paths of what lies in directories."""
        return tuple(f"{directory}/{name}" for directory in directories for name in self.directories.get(directory, ()))


def summarize(entries: Iterable[Entry]) -> dict[str, int]:
    """Return the number of entries of each status."""
    counts = dict.fromkeys(STATUSES, 0)
    for entry in entries:
        counts[entry.status] += 1
    return counts
