# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin of bench/fleet: it records the answers of a node, or gives them to any host name."""

from __future__ import annotations

DOCUMENTATION = """
name: replay
short_description: Record the answers of a node, or replay them
description:
  - With C(REPLAY_SSH), a JSON list of words, commands run on the node that this program reaches. Their answers are recorded.
  - Otherwise a host gets the recorded answers in their order.
author: the slipway.node authors (@slipway)
options:
  host:
    description: The name of the host.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
"""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

ANSWERS = Path(os.environ["REPLAY_ANSWERS"])
SSH = json.loads(os.environ.get("REPLAY_SSH", "null"))


class Connection(ConnectionBase):
    """Each host has a file with a byte for each answer that it got: workers are processes of one task."""

    transport = "replay"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        answer = ANSWERS / f"{self._number()}.json"
        if SSH is not None:
            done = subprocess.run([*SSH, cmd], input=in_data or b"", capture_output=True, check=False)
            answer.write_text(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode()]))
        try:
            code, stdout, stderr = json.loads(answer.read_text())
        except FileNotFoundError as error:
            raise AnsibleConnectionFailure(f"the recorded run had no command number {answer.stem}: {cmd}") from error
        return code, stdout.encode(), stderr.encode()

    def _number(self) -> int:
        """Return the number of the host's next command, from 0."""
        counter = ANSWERS / "hosts" / self.get_option("host")
        with counter.open("ab") as stream:
            stream.write(b".")
        return counter.stat().st_size - 1

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        self.exec_command(f"cat > {shlex.quote(out_path)}", Path(in_path).read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        raise AnsibleConnectionFailure("files of the node are not recorded")

    def close(self) -> None:
        self._connected = False

    def reset(self) -> Any:
        """Nothing is kept from one command to the next."""
