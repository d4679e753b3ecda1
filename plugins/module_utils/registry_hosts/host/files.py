# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and change a ``certs.d`` directory."""

from __future__ import annotations

import os
import stat

from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    make_directories,
    naming,
    read_bytes,
    remove_empty_dir,
    remove_file,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import HOSTS_FILE, PEM_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import MARK, CurrentFile, Plan

_MARK_MODE = 0o644


def read_hosts(config_path: str) -> dict[str, dict[str, CurrentFile]]:
    """Return the files of each directory in config_path, which need not exist, by name."""
    found = {}
    for name in _names(config_path):
        directory = os.path.join(config_path, name)
        if os.path.isdir(directory):
            found[name] = {entry: _read(os.path.join(directory, entry)) for entry in _names(directory)}
    return found


def read_created(config_path: str) -> tuple[str, ...]:
    """Return the directories that earlier runs created for registries, topmost first. Raises HostError."""
    content = read_bytes(os.path.join(config_path, MARK))
    return tuple((content or b"").decode(errors="surrogateescape").splitlines())


def _names(directory: str) -> list[str]:
    with naming("list", directory):
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []


def _read(path: str) -> CurrentFile:
    """Read a file if this module could have written it."""
    with naming("read", path):
        mode = os.lstat(path).st_mode
    name = os.path.basename(path)
    readable = os.path.isfile(path) and (name == HOSTS_FILE or name.startswith(PEM_PREFIX))
    return CurrentFile(read_bytes(path) if readable else None, stat.S_IMODE(mode))


def apply_plan(plan: Plan) -> None:
    """Make the changes in their order. Raises HostError."""
    if plan.creates:
        made = make_directories(plan.config_path)
        write_file(plan.mark, "".join(f"{path}\n" for path in made).encode(errors="surrogateescape"), _MARK_MODE)
    for change in plan.changes:
        if change.wanted is None:
            remove_file(change.path)
        else:
            write_file(change.path, change.wanted.content, change.wanted.mode)
    for directory in plan.emptied:
        remove_empty_dir(directory)
    if plan.released:
        remove_file(plan.mark)
    for directory in reversed(plan.released):
        remove_empty_dir(directory)
