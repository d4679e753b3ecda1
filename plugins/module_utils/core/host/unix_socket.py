# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unix sockets of services on the node."""

from __future__ import annotations

import socket
import struct


def answers(address: str, seconds: float = 2.0) -> bool:
    """Return whether a server accepts connections at a Unix socket.

    ``address`` is a path or unix://PATH; the answer for other kinds of address is True. ``seconds`` is the time limit.
    """
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def listener(address: str, seconds: float = 2.0) -> int | None:
    """Return the process that listens at a Unix socket (SO_PEERCRED, unix(7)); None if none does, or if unknown."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect(address.removeprefix("unix://"))
            pid, _user, _group = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
    # 0 is a process of another PID namespace, 1 a socket that systemd made.
    return pid if pid > 1 else None
