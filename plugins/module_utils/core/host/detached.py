# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run work that ends even if the process that waits for it is killed."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import open_null

_READ_BYTES = 1 << 16


def finish(work: Callable[[], bytes], *, timeout: float, doing: str) -> bytes:
    """Run ``work`` in another process and return its result.

    That process is in a session of its own, and nothing that this one was started with waits for it. It inherits open
    descriptors, so a lock that is held here is held there until the work ends. ``work`` has to have a limit of its own: after
    ``timeout`` seconds it isn't waited for any longer. Raises HostError ("cannot DOING …") then, and if it raises.
    """
    output, target = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(output)
        _child(work, target)
    os.close(target)
    try:
        received = _read(output, time.monotonic() + timeout)
    finally:
        os.close(output)
    if received is None:
        raise HostError(f"cannot {doing}: it took more than {timeout:g} seconds")
    status = os.waitpid(pid, 0)[1]
    if status == 0:
        return received
    raise HostError(f"cannot {doing}: {received.decode(errors='replace') or f'its process ended with status {status}'}")


def detach() -> None:
    """Put a process that was forked off into a session of its own, which holds nothing that its parent was started with."""
    os.setsid()
    # The other end of a pipe to the parent may be gone when it is written to.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    null = open_null()
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _read(output: int, deadline: float) -> bytes | None:
    """Return all that arrives; None if the deadline comes first."""
    received = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([output], [], [], left)[0]:
            return None
        part = os.read(output, _READ_BYTES)
        if not part:
            return received
        received += part


def _child(work: Callable[[], bytes], target: int) -> None:
    status = 1
    try:
        detach()
        try:
            result, done = work(), 0
        except HostError as error:
            result, done = str(error).encode(), 1
        while result:
            result = result[os.write(target, result) :]
        status = done
    finally:
        # Nothing of what the parent would do at its end.
        os._exit(status)
