# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry on this machine's loopback, which the nodes share; Debian's docker-registry, plain HTTP, empty at first."""

from __future__ import annotations

import ipaddress
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nodes.images import Layer, write_layout
from nodes.node import WORK, run

PROGRAM = WORK / "tools/usr/bin/docker-registry"
# The registry's address in the checkout's network; nodes have numbers from 11.
NUMBER = 2


@dataclass
class Registry:
    """``name`` is its HOST:PORT, as in references; images are made under ``directory``."""

    name: str
    directory: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def entry(self) -> dict[str, str]:
        """Itself as an element of the module containerd_registry's registries."""
        return {"name": self.name, "server": f"http://{self.name}"}

    def push(self, layers: Sequence[Layer], *, repository: str = "image", command: Sequence[str] = ()) -> str:
        """Make an image and push it under a tag of its own; returns the reference."""
        tag = f"v{next(self._numbers)}"
        layout = write_layout(self.directory / tag, layers, tag=tag, command=command)
        reference = f"{self.name}/{repository}:{tag}"
        run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:{tag}", f"docker://{reference}"])
        return reference


@contextmanager
def serve(directory: Path) -> Iterator[Registry]:
    """A registry that keeps everything under a directory, on a free port, until the end of the block."""
    network = ipaddress.ip_network((WORK / "network").read_text().strip())
    host = str(network[NUMBER])
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "store")}},
        "http": {"addr": f"{host}:{port}"},
    }
    (directory / "settings.yml").write_text(json.dumps(settings))
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([str(PROGRAM), "serve", str(directory / "settings.yml")], stdout=log, stderr=log)
    try:
        _wait_for(host, port, server, directory / "log")
        yield Registry(f"{host}:{port}", directory)
    finally:
        server.terminate()
        server.wait()


def _wait_for(host: str, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no registry on {host}:{port}: {log.read_text()}")
