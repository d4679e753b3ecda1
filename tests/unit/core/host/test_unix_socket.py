# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import listener


def test_the_process_at_a_socket_is_known(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert listener(path) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        assert listener(path) == os.getpid() == listener(f"unix://{path}")
    assert listener(path) is None
