# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's way to a node's containerd: CRI, through crictl on the node."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nodes import daemon
from nodes.node import PODMAN, Done, Node, run
from nodes.upstream import unpacked

VERSION = "1.37.0"
PROGRAM = "/opt/crictl"
SOCKET = "unix:///run/containerd/containerd.sock"
POD, CONTAINER = "/run/pod.json", "/run/container.json"
# CRI's NamespaceMode NODE: a pod in the node's network needs no CNI.
NODE_NETWORK = {"security_context": {"namespace_options": {"network": 2}}}


@functools.cache
def install(node: Node) -> None:
    """Bring crictl, once."""
    run([*PODMAN, "cp", str(unpacked("crictl", VERSION) / "crictl"), f"{node.container}:{PROGRAM}"])


def crictl(node: Node, *arguments: str, check: bool = True) -> Done:
    install(node)
    endpoints = ("--runtime-endpoint", SOCKET, "--image-endpoint", SOCKET)
    return node.exec(PROGRAM, *endpoints, "--timeout", "120s", *arguments, check=check)


def _asked(node: Node, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(crictl(node, *arguments).stdout)
    return found


def pull(node: Node, reference: str) -> None:
    crictl(node, "pull", reference)


def image_status(node: Node, reference: str) -> dict[str, Any]:
    found: dict[str, Any] = _asked(node, "inspecti", reference)["status"]
    return found


def remove(node: Node, reference: str) -> None:
    crictl(node, "rmi", reference)


def runtime_handlers(node: Node) -> dict[str, Any]:
    """The runtime handlers that CRI's runtime service has, by name, with the keys of its configuration."""
    found: dict[str, Any] = _asked(node, "info")["config"]["containerd"]["runtimes"]
    return found


def container_status(node: Node, container: str) -> dict[str, Any]:
    found: dict[str, Any] = _asked(node, "inspect", container)["status"]
    return found


@contextmanager
def running(node: Node, reference: str, command: Sequence[str], *, name: str = "app") -> Iterator[str]:
    """A pod in the node's network with one container of an image, run by runc; yields the container's id."""
    pod = {"metadata": {"name": name, "namespace": "default", "uid": name}, "log_directory": "/run", "linux": NODE_NETWORK}
    container = {"metadata": {"name": name}, "image": {"image": reference}, "command": list(command), "linux": NODE_NETWORK}
    daemon.write(node, POD, json.dumps(pod))
    daemon.write(node, CONTAINER, json.dumps({**container, "log_path": f"{name}.log"}))
    sandbox = crictl(node, "runp", POD).stdout.strip()
    try:
        created = crictl(node, "create", sandbox, CONTAINER, POD).stdout.strip()
        crictl(node, "start", created)
        yield created
    finally:
        crictl(node, "rmp", "--force", sandbox)
