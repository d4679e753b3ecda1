# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scratch file of the blockfile snapshotter on the node."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    make_directories,
    naming,
    open_file,
    remove_leftovers,
    sync_directory,
)
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import (
    HEAD_BYTES,
    PROGRAMS,
    Scratch,
    ScratchSpec,
    classify,
)


def read_scratch(path: str) -> Scratch | None:
    """Read a scratch file; None if it doesn't exist. Raises HostError if it isn't a file, or can't be read."""
    with naming("read", path):
        try:
            with open_file(path) as stream:
                return classify(stream.read(HEAD_BYTES), os.fstat(stream.fileno()).st_size)
        except FileNotFoundError:
            return None


def free_bytes(path: str) -> int:
    """Return the free bytes of the file system that a path is on, or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    with naming("read", path):
        found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def make_scratch(runner: Runner, wanted: ScratchSpec) -> None:
    """Create a scratch file. Under its name, it is always complete and on disk. Raises HostError if it can't be created."""
    directory = os.path.dirname(wanted.path)
    make_directories(directory)
    prefix = f"{TEMPORARY_PREFIX}{os.path.basename(wanted.path)}."
    with naming("write", wanted.path):
        remove_leftovers(directory, prefix)
        descriptor, temporary = tempfile.mkstemp(TEMPORARY_SUFFIX, prefix, directory)
        try:
            os.truncate(descriptor, wanted.size)
            program, *options = PROGRAMS[wanted.fs_type]
            runner.run(runner.find(program) or program, *options, temporary, doing=f"create {wanted.fs_type} in {wanted.path}")
            os.fsync(descriptor)
            os.rename(temporary, wanted.path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        sync_directory(directory)
