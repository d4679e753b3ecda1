# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a directory of Kata configurations, and the files that Kata was released with."""

from __future__ import annotations

import os
import stat

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import (
    DIRECTORY,
    DROP_IN_DIRECTORY,
    FILE,
    LINK,
    MARK,
    OTHER,
    TEMPORARY_PREFIX,
    DirectoryEntry,
    KataDirectory,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import Vendor, program_path

# Where an archive's files of configuration lie, and its version.
_DEFAULTS = "/share/defaults/kata-containers/"
_KATA_DEPLOY = ("runtimes", "custom-runtimes")


def read_found(config_dir: str) -> KataDirectory:
    """Read the directory, which need not exist. Raises HostError."""
    directories, others, leftovers = {}, [], []
    for name in _names(config_dir):
        path = os.path.join(config_dir, name)
        if name.startswith(TEMPORARY_PREFIX):
            leftovers.append(name)
        elif os.path.islink(path) or not os.path.isdir(path):
            others.append(name)
        else:
            directories[name] = _read_directory(path)
    return KataDirectory(directories, tuple(others), tuple(leftovers))


def _names(directory: str) -> list[str]:
    with naming("list", directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []


def _read_directory(path: str) -> dict[str, DirectoryEntry]:
    entries = {}
    for name in _names(path):
        place = os.path.join(path, name)
        if name == DROP_IN_DIRECTORY and os.path.isdir(place) and not os.path.islink(place):
            entries.update({f"{name}/{one}": _read_entry(os.path.join(place, one)) for one in _names(place)})
        else:
            entries[name] = _read_entry(place, content=name.endswith(".toml") or name == MARK)
    return entries


def read_drop_ins(directory: str) -> dict[str, DirectoryEntry]:
    """Return the entries of config.d in a directory of Kata's, by path; of something else in its place, that itself."""
    place = os.path.join(directory, DROP_IN_DIRECTORY)
    if not os.path.lexists(place):
        return {}
    if not os.path.isdir(place):
        return {place: _read_entry(place, content=False)}
    return {os.path.join(place, name): _read_entry(os.path.join(place, name)) for name in _names(place)}


def _read_entry(path: str, *, content: bool = True) -> DirectoryEntry:
    with naming("read", path):
        mode = os.lstat(path).st_mode
    kinds = ((FILE, stat.S_ISREG), (LINK, stat.S_ISLNK), (DIRECTORY, stat.S_ISDIR))
    kind = next((name for name, is_kind in kinds if is_kind(mode)), OTHER)
    readable = content and os.path.isfile(path)
    # A link's own mode means nothing.
    return DirectoryEntry(kind, read_bytes(path) if readable else None, stat.S_IMODE(mode) if kind != LINK else 0)


def read_vendor(base_config: str) -> Vendor | None:
    """Read the file that a handler's file is a copy of, with the version of its release; None if there is none."""
    text = read_text(base_config)
    if text is None:
        return None
    return Vendor(text, version_beside(base_config), missing_program=absent_program(program_path(text.encode())))


def absent_program(path: str) -> str:
    """Return the path if it is that of a program that isn't there; else nothing."""
    return "" if not path or os.access(path, os.X_OK) else path


def version_beside(path: str) -> Version | None:
    """Return the version of the release around a file, a tree with a VERSION at its root; None if there is none."""
    for start in dict.fromkeys((path, os.path.realpath(path))):
        directory = os.path.dirname(start)
        while directory != os.path.dirname(directory):
            text = read_text(os.path.join(directory, "VERSION")) if os.path.isdir(f"{directory}{_DEFAULTS}") else None
            if text is not None:
                try:
                    return Version.parse(text)
                except ValueError:
                    return None
            directory = os.path.dirname(directory)
    return None


def kata_deploy_directories(base_config: str) -> list[str]:
    """Return the directories in which kata-deploy keeps handlers of the same archive."""
    prefix, found, _rest = base_config.partition(_DEFAULTS)
    if not found:
        return []
    parents = [f"{prefix}{_DEFAULTS}{name}" for name in _KATA_DEPLOY]
    return [f"{parent}/{name}" for parent in parents if os.path.isdir(parent) for name in _names(parent)]
