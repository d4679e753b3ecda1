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
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming

# Held while a run reads, changes and proves containerd; gone with the process that holds it.
LOCK = "/run/slipway-containerd.lock"
_POLL_SECONDS = 0.2


@contextmanager
def exclusive(timeout: float, lock: str = LOCK) -> Iterator[int]:
    """Keep other runs away from what the lock is for until the block ends; wait for them up to ``timeout`` seconds.

    Yields a descriptor: a program that inherits it keeps them away until it ends too. Raises HostError if another run
    doesn't end.
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
        yield descriptor
    finally:
        os.close(descriptor)
