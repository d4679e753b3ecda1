# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's way to a node's containerd: CRI, through the node's socket forwarded by ssh."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from nodes.node import WORK, Node

SOCKET = "/run/containerd/containerd.sock"


@contextmanager
def forwarded(node: Node, socket: str = SOCKET) -> Iterator[Path]:
    """A socket on this machine that leads to one on the node."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        here = Path(directory) / "socket"
        argv = ["ssh", "-F", str(WORK / "nodes" / node.name / "ssh_config"), "-N", "-o", "ExitOnForwardFailure=yes"]
        tunnel = subprocess.Popen([*argv, "-L", f"{here}:{socket}", node.name], stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not here.exists():
                assert tunnel.poll() is None and time.monotonic() < deadline, f"ssh forwards no socket of {node.name}"
                time.sleep(0.05)
            yield here
        finally:
            tunnel.terminate()
            tunnel.wait()


class ImageService:
    """CRI's image service of one daemon."""

    def __init__(self, channel: Any) -> None:
        self._messages, services = grpc.protos_and_services("nodes/cri.proto")
        self._stub = services.ImageServiceStub(channel)

    def pull(self, reference: str) -> str:
        """Returns the image's id. Raises grpc.RpcError."""
        request = self._messages.PullImageRequest(image=self._messages.ImageSpec(image=reference))
        return str(self._stub.PullImage(request, timeout=120).image_ref)

    def remove(self, reference: str) -> None:
        """Raises grpc.RpcError; an image that isn't there is none."""
        request = self._messages.RemoveImageRequest(image=self._messages.ImageSpec(image=reference))
        self._stub.RemoveImage(request, timeout=120)


@contextmanager
def image_service(node: Node) -> Iterator[ImageService]:
    """CRI's image service of a node."""
    with forwarded(node) as socket, grpc.insecure_channel(f"unix://{socket}") as channel:
        yield ImageService(channel)


def runtime_handlers(node: Node) -> dict[str, Any]:
    """The runtime handlers that CRI's runtime service has, by name, with the keys of its configuration."""
    messages, services = grpc.protos_and_services("nodes/cri.proto")
    with forwarded(node) as socket, grpc.insecure_channel(f"unix://{socket}") as channel:
        answer = services.RuntimeServiceStub(channel).Status(messages.StatusRequest(verbose=True), timeout=30)
    found: dict[str, Any] = json.loads(answer.info["config"])["containerd"]["runtimes"]
    return found
