# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a directory of Kata configurations."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    TEMPORARY_SUFFIX,
    fill_file,
    make_directories,
    naming,
    remove_empty_dir,
    remove_file,
    sync_directory,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import (
    DROP_IN,
    DROP_IN_DIRECTORY,
    MAIN,
    MARK,
    MODE,
    TEMPORARY_PREFIX,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.plan import DirectoryChange, Plan

# Held while a run reads and changes handlers; gone with the process that holds it.
LOCK = "/run/slipway-kata.lock"
_DIRECTORY_MODE = 0o755


def apply_plan(plan: Plan) -> None:
    """Make the changes in their order, each durably. Raises HostError naming the path that failed."""
    for name in plan.leftovers:
        _clear(os.path.join(plan.config_dir, name))
    for directory in plan.directories:
        if directory.create:
            _create(plan.config_dir, directory)
        else:
            _change(directory)
    if any(directory.remove for directory in plan.directories):
        remove_empty_dir(plan.config_dir)


def _create(config_dir: str, directory: DirectoryChange) -> None:
    """Make the directory elsewhere and move it to its place, so that no part of it is ever seen alone."""
    make_directories(config_dir)
    with naming("create the directory", directory.path):
        staging = tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{os.path.basename(directory.path)}.", dir=config_dir)
        os.chmod(staging, _DIRECTORY_MODE)
    try:
        for change in directory.changes:
            _write_new(os.path.join(staging, change.name), change.after or b"")
        with naming("create the directory", directory.path):
            os.rename(staging, directory.path)
            sync_directory(config_dir)
    except BaseException:
        _clear(staging)
        raise


def _write_new(path: str, content: bytes) -> None:
    """Write a file into a directory that isn't read yet, and so without a temporary name."""
    make_directories(os.path.dirname(path))
    with naming("write", path):
        with open(path, "xb") as stream:
            os.fchmod(stream.fileno(), MODE)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        sync_directory(os.path.dirname(path))


def _change(directory: DirectoryChange) -> None:
    for name in directory.leftovers:
        _clear(os.path.join(directory.path, name))
    for change in directory.changes:
        path = os.path.join(directory.path, change.name)
        if change.after is None:
            remove_file(path)
        else:
            _place_file(path, change.after, MODE, directory.path)
    if directory.remove:
        drop_ins = os.path.join(directory.path, DROP_IN_DIRECTORY)
        if not os.path.islink(drop_ins) and os.path.isdir(drop_ins):
            remove_empty_dir(drop_ins)
        remove_empty_dir(directory.path)


def _place_file(path: str, content: bytes, mode: int, staging: str) -> None:
    """Write the file as core.host.files.write_file does, but by way of another directory on the same file system.

    For directories in which every entry counts from the moment that it is there. A symbolic link is replaced, not followed.
    """
    directory = os.path.dirname(path)
    make_directories(directory)
    with naming("write", path):
        prefix = f"{TEMPORARY_PREFIX}{os.path.basename(path)}."
        descriptor, temporary = tempfile.mkstemp(TEMPORARY_SUFFIX, prefix, staging)
        try:
            fill_file(descriptor, content, mode, path)
            os.rename(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_directory(directory)
        sync_directory(staging)


def _clear(path: str) -> None:
    """Remove what a run that was cut short left: a file, or a directory with the names that this module gives."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove_file(path)
        return
    for name in (MAIN, DROP_IN, MARK):
        remove_file(os.path.join(path, name))
    for directory in (os.path.join(path, DROP_IN_DIRECTORY), path):
        remove_empty_dir(directory)
