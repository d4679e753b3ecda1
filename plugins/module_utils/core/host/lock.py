# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The locks that serialise runs on a node."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import JOURNAL, interrupted

# Held while a run reads, changes and proves containerd; gone with the process that holds it.
LOCK = "/run/slipway-containerd.lock"
_POLL_SECONDS = 0.2


@contextmanager
def exclusive(timeout: float, lock: str = LOCK, *, upgrades: bool = False) -> Iterator[int]:
    """Keep other runs away from what the lock is for until the block ends; wait for them up to ``timeout`` seconds.

    Yields a descriptor: a program that inherits it keeps them away until it ends too. Raises HostError if another run
    doesn't end, and if containerd was left in the middle of an upgrade. Only a run that ``upgrades`` takes that back.
    """
    deadline = time.monotonic() + timeout
    with naming("lock", lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise HostError(f"another run has held {lock} for {timeout:g} seconds: let it end first") from error
                time.sleep(_POLL_SECONDS)
        if lock == LOCK and not upgrades:
            check_not_interrupted()
        yield descriptor
    finally:
        os.close(descriptor)


def check_not_interrupted() -> None:
    """Raise HostError if containerd was left in the middle of an upgrade."""
    why = interrupted_upgrade()
    if why:
        raise HostError(why)


def interrupted_upgrade() -> str:
    """Return why no run may change containerd in the middle of an upgrade; empty if it isn't in one, and for ordinary users."""
    text = read_bytes(JOURNAL) if os.geteuid() == 0 else None
    return interrupted(None if text is None else text.decode(errors="replace"))
