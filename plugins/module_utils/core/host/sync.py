# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flush written data to disk with syncfs(2), by file system."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming

# Rare enough to cost nothing, often enough that the disk and the unpacking overlap.
_WRITE_BACK_SECONDS = 0.3


@dataclass(frozen=True)
class Synced:
    """A directory of the file system, and how many seconds it took."""

    path: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "duration": round(self.seconds, 3)}


def sync_file_systems(directories: Iterable[str]) -> tuple[Synced, ...]:
    """Flush each file system that contains one of the directories, once. Raises HostError if one can't be written."""
    done = []
    for path in _one_each(directories):
        started = time.monotonic()
        _sync_file_system(path)
        done.append(Synced(path, time.monotonic() - started))
    return tuple(done)


@contextmanager
def writing_back(directories: Iterable[str]) -> Iterator[None]:
    """Keep the disk busy with what is written during the block, so that little is left for the sync that counts.

    The kernel would leave it alone for half a minute. Raises HostError at the end if something couldn't be written:
    the kernel says so only once.
    """
    paths, ended = _one_each(directories), threading.Event()
    failed: list[HostError] = []

    def work() -> None:
        while not ended.wait(_WRITE_BACK_SECONDS):
            for path in paths:
                try:
                    _sync_file_system(path)
                except HostError as error:
                    failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]


def _sync_file_system(path: str) -> None:
    """Call syncfs(2), which Python lacks. Raises HostError if data could not be written."""
    with naming("flush the file system of", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(descriptor)


def _one_each(directories: Iterable[str]) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for path in directories:
        # A snapshotter may make its directory when it is used first.
        while not os.path.exists(path):
            path = os.path.dirname(path)
        with naming("read", path):
            found.setdefault(os.stat(path).st_dev, path)
    return tuple(found.values())
