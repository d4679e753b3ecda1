# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's way to a node's containerd: CRI, through crictl on the node."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
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
# In place of the cgroups, which CRI mounts otherwise: a node's own cgroup may be gone after a daemon-reload.
NO_CGROUPS = {"container_path": "/sys/fs/cgroup", "host_path": "/run/no-cgroups", "readonly": True}


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


def printed_by(node: Node, reference: str, command: Sequence[str], *, name: str = "app") -> str:
    """What a command prints in a container of an image, which runc runs in a pod on the node's network."""
    pod = {"metadata": {"name": name, "namespace": "default", "uid": name}, "log_directory": "/run", "linux": NODE_NETWORK}
    what = {"metadata": {"name": name}, "image": {"image": reference}, "command": list(command), "log_path": f"{name}.log"}
    container = {**what, "mounts": [NO_CGROUPS], "linux": NODE_NETWORK}
    daemon.write(node, POD, json.dumps(pod))
    daemon.write(node, CONTAINER, json.dumps(container))
    sandbox = crictl(node, "runp", POD).stdout.strip()
    try:
        created = crictl(node, "create", sandbox, CONTAINER, POD).stdout.strip()
        crictl(node, "start", created)
        deadline = time.monotonic() + 300
        while (status := _asked(node, "inspect", created)["status"])["state"] != "CONTAINER_EXITED":
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
        assert status["exitCode"] == 0, status
        return crictl(node, "logs", created).stdout
    finally:
        crictl(node, "rmp", "--force", sandbox)
