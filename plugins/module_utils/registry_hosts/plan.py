# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes of a ``certs.d`` directory, which may contain files of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import (
    HOSTS_FILE,
    MARKER,
    MASK,
    PEM_PREFIX,
    SHOWN_KEY,
    File,
    Registry,
    directories_of,
    files_of,
)

TEMPORARY_PREFIX = ".slipway-"
# In the directory of the registries: the directories that the module created for them, one a line.
MARK = ".slipway"


@dataclass(frozen=True)
class CurrentFile:
    """A file of the node. content is None where it was not read: only ours and hosts.toml are."""

    content: bytes | None
    mode: int


FoundDirectory = Mapping[str, CurrentFile]


@dataclass(frozen=True)
class Change:
    """One file to write, or to remove where wanted is None. Paths are absolute."""

    path: str
    found: CurrentFile | None
    wanted: File | None

    def difference(self) -> str:
        """Return how the node differs, without anything of the content, which may be secret."""
        if self.wanted is None:
            return f"{self.path} is there, and the inventory has no such registry or certificate"
        if self.found is None:
            return f"{self.path} is missing"
        if self.found.content != self.wanted.content:
            return f"{self.path} has another content"
        return f"{self.path} has the mode {self.found.mode:04o}, not {self.wanted.mode:04o}"


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which to make them; then the directories to remove if they are empty.

    ``released`` are the directories that the module created for registries, if none of its registries is left.
    ``creates``: config_path isn't there yet, so it is marked as created.
    """

    config_path: str
    changes: tuple[Change, ...]
    emptied: tuple[str, ...]
    foreign: tuple[str, ...]
    released: tuple[str, ...] = ()
    creates: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.changes or self.released)

    @property
    def mark(self) -> str:
        """The path of the file that names the created directories."""
        return f"{self.config_path}/{MARK}"

    def result(self) -> dict[str, Any]:
        """Return the module's result."""
        return {
            "changed": self.changed,
            "files": [self.mark] * self.creates + [change.path for change in self.changes if change.wanted],
            "removed": [change.path for change in self.changes if not change.wanted] + [self.mark] * bool(self.released),
            "foreign": list(self.foreign),
            "diff": [_diff(change) for change in self.changes],
        }


def is_ours(directory: FoundDirectory) -> bool:
    """Return whether this module made the directory's configuration, or was killed while it did."""
    hosts = directory.get(HOSTS_FILE)
    if hosts is not None:
        return _has_marker(hosts)
    return bool(directory) and all(_is_our_file(name) for name in directory)


def _has_marker(hosts: CurrentFile) -> bool:
    return hosts.content is not None and hosts.content.split(b"\n")[0].rstrip() == MARKER.encode()


def _is_our_file(name: str) -> bool:
    return name.startswith((PEM_PREFIX, TEMPORARY_PREFIX))


def plan_present(
    found: Mapping[str, FoundDirectory],
    wanted: Sequence[Registry],
    *,
    config_path: str,
    purge: bool,
    adopt: bool,
    created: Sequence[str] = (),
    exists: bool = True,
) -> Plan:
    """Plan the directories of the wanted registries, and the removal of our others if purge.

    found maps names of directories in config_path to their files by name, and created are the directories that
    earlier runs created, and exists says whether config_path is there. Raises ValueError if a registry is configured
    by another tool and adopt is false.
    """
    changes: list[Change] = []
    for registry in wanted:
        if not adopt:
            _refuse_foreign(found, registry, config_path)
        changes += _write(found.get(registry.directory, {}), registry, f"{config_path}/{registry.directory}")
    listed = {registry.directory for registry in wanted}
    unlisted = [name for name in sorted(found) if name not in listed]
    gone = [name for name in unlisted if purge and is_ours(found[name])]
    plan = _plan(found, changes, gone, config_path, written=listed, created=created)
    return replace(plan, creates=bool(changes) and not exists)


def plan_absent(
    found: Mapping[str, FoundDirectory], names: Sequence[str], *, config_path: str, created: Sequence[str] = ()
) -> Plan:
    """Plan the removal of what this module made for the named registries; for all if none are named."""
    listed = {directories_of(name)[0] for name in names}
    gone = [name for name in sorted(found) if is_ours(found[name]) and (not listed or name in listed)]
    return _plan(found, [], gone, config_path, written=set(), created=created)


def _plan(
    found: Mapping[str, FoundDirectory],
    changes: list[Change],
    gone: list[str],
    config_path: str,
    *,
    written: set[str],
    created: Sequence[str],
) -> Plan:
    for name in gone:
        changes += _remove(found[name], f"{config_path}/{name}")
    left = written or [name for name, files in found.items() if is_ours(files) and name not in gone]
    return Plan(
        config_path=config_path,
        changes=tuple(changes),
        emptied=tuple(f"{config_path}/{name}" for name in gone),
        foreign=tuple(name for name, files in sorted(found.items()) if files and name not in written and not is_ours(files)),
        released=() if left else tuple(created),
    )


def _refuse_foreign(found: Mapping[str, FoundDirectory], registry: Registry, config_path: str) -> None:
    if is_ours(found.get(registry.directory, {})):
        return
    for name in directories_of(registry.name):
        directory = found.get(name, {})
        if directory and not is_ours(directory):
            raise ValueError(
                f"{config_path}/{name} configures {registry.name} and was not created by this module: "
                "move it away, or set adopt to replace it"
            )


def _write(found: FoundDirectory, registry: Registry, path: str) -> list[Change]:
    files = files_of(registry)
    changes = []
    for name, file in files.items():
        present = found.get(name)
        if present is None or (present.content, present.mode) != (file.content, file.mode):
            changes.append(Change(f"{path}/{name}", present, file))
    stale = [name for name in sorted(found) if _is_our_file(name) and name not in files]
    return changes + [Change(f"{path}/{name}", found[name], None) for name in stale]


def _remove(found: FoundDirectory, path: str) -> list[Change]:
    """Plan the removal of a directory, hosts.toml first: no file may refer to a certificate that doesn't exist."""
    ours = [name for name in sorted(found) if _is_our_file(name)]
    names = [HOSTS_FILE, *ours] if HOSTS_FILE in found else ours
    return [Change(f"{path}/{name}", found[name], None) for name in names]


def _diff(change: Change) -> dict[str, str]:
    before = _shown(change.path, change.found) if change.found else ""
    after = change.wanted.shown if change.wanted else ""
    if change.found and change.wanted and before == after:
        if change.found.content != change.wanted.content:
            after += "# a secret that is not shown changes\n"
        else:
            before += f"# mode {change.found.mode:04o}\n"
            after += f"# mode {change.wanted.mode:04o}\n"
    return {"before_header": change.path, "after_header": change.path, "before": before, "after": after}


def _shown(path: str, found: CurrentFile) -> str:
    """Return the text of a file of the node that a diff may show."""
    name = path.rpartition("/")[2]
    if name.startswith(f"{PEM_PREFIX}key-"):
        return SHOWN_KEY
    if found.content is None or name.startswith(TEMPORARY_PREFIX):
        return "(not shown)\n"
    if name == HOSTS_FILE and not _has_marker(found):
        return "(not created by this module, not shown)\n"
    return _mask_headers(found.content.decode(errors="replace"))


def _mask_headers(text: str) -> str:
    lines = []
    in_headers = False
    for line in text.splitlines():
        if line.startswith("["):
            in_headers = bool(re.search(r"(?:^\[|\.)header\]$", line))
        elif in_headers and " = " in line:
            line = f'{line.split(" = ")[0]} = "{MASK}"'
        lines.append(line)
    return "\n".join(lines) + "\n"
