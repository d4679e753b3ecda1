# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module containerd_image on a node, and read the images of containerd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from nodes import daemon
from nodes.fixtures import packaged
from nodes.images import Layer
from nodes.node import Node
from nodes.payload import run_module

NAMESPACE = "images"
LOGIN = ("deploy", "p4ss w$rd:'\"\\x")


@pytest.fixture
def empty_node(node: Node) -> Iterator[Node]:
    """A node as packaged, without images in the namespace; nothing unfinished is left behind either."""
    packaged(node)
    emptied(node)
    yield node
    emptied(node)


def emptied(node: Node) -> None:
    # What a killed pull has left belongs to its lease for a day.
    for kind in ("leases", "images"):
        node.ssh(f"ctr -n {NAMESPACE} {kind} rm --sync $(ctr -n {NAMESPACE} {kind} ls -q)", check=False)
    node.ssh("rm -f /var/lib/containerd/slipway-pulls.json /root/image.tar")


def image(node: Node, *names: str, check: bool = False, **options: Any) -> dict[str, Any]:
    given = {"name": list(names)} if names else {}
    always = {"namespace": NAMESPACE, "plain_http": True, "remote_src": True}
    return run_module(node, "containerd_image", {**always, **given, **options}, check=check)


def ctr(node: Node, *arguments: str) -> str:
    return node.exec("ctr", "-n", NAMESPACE, *arguments).stdout


def names(node: Node) -> set[str]:
    return set(ctr(node, "images", "ls", "-q").split())


def state(node: Node) -> dict[str, Any]:
    """Everything that containerd and the module keep of the namespace's images."""
    return {
        "images": names(node),
        "content": set(ctr(node, "content", "ls", "-q").split()),
        "snapshots": {line.split()[0] for line in ctr(node, "snapshots", "ls").splitlines()[1:]},
        "record": daemon.read(node, "/var/lib/containerd/slipway-pulls.json"),
    }


def files(node: Node, reference: str) -> dict[str, str]:
    """SHA-256 by path of what a container of the image would see."""
    # From 2.2 on, the target of a mount is free again only after the next garbage collection.
    script = f"""
        seen=$(mktemp -d); ctr -n {NAMESPACE} images mount {reference} $seen >/dev/null
        cd $seen && find . -type f -print0 | xargs -0 -r sha256sum; cd /
        ctr -n {NAMESPACE} images unmount --rm $seen >/dev/null; rmdir $seen
    """
    rows = [line.split(None, 1) for line in node.ssh(script).stdout.splitlines()]
    return {path.removeprefix("./"): digest for digest, path in rows}


def expected(layers: Sequence[Layer]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for layer in layers for name, content in layer.items()}


def actions(done: dict[str, Any]) -> list[str]:
    assert not done.get("failed"), done
    return [one["action"] for one in done["images"]]


@contextmanager
def in_background(node: Node, reference: str, **options: Any) -> Iterator[Any]:
    """Start the module; yields a function that waits for its result."""
    arguments = {"namespace": NAMESPACE, "plain_http": True, "name": [reference], **options}
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_module, node, "containerd_image", arguments).result


def when_pulling(node: Node, command: str) -> None:
    """Run a command as soon as the record says that a pull is under way."""
    pulling = "test -e /var/lib/containerd/slipway-pulls.json"
    node.ssh(f"timeout 300 sh -c 'until {pulling}; do sleep 0.02; done' && {{ {command}; }}")
