# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unix sockets of services on the node."""

from __future__ import annotations

import socket


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
