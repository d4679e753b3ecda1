# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings with which CRI of 2.1 and newer ignores mirrors or image verifiers are found, with real pulls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomlkit

from nodes import cri, daemon
from nodes.fixtures import SUITES
from nodes.images import random_layers
from nodes.node import Node
from nodes.registry import Registry

CERTS, OTHER, DOCKER = "/etc/containerd/certs.d", "/etc/other/certs.d", "/etc/docker/certs.d"
VERIFIERS = "/opt/containerd/image-verifier/bin"
# Nothing listens there: its images come from a mirror, or not at all.
MIRRORED = "127.0.0.1:1"


@pytest.fixture(params=SUITES[2:])
def transfer_node(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Iterator[Node]:
    """Each node on which CRI pulls through the transfer service, in turn."""
    node = nodes[request.param]
    daemon.install(node)
    daemon.reset(node)
    yield node
    node.exec("rm", "-rf", OTHER, DOCKER, VERIFIERS)
    daemon.reset(node)


def mirrored(node: Node, source: Registry, directory: str) -> None:
    """Make the registry the mirror of MIRRORED, by a file of this directory alone."""
    node.exec("rm", "-rf", OTHER, DOCKER)
    text = f'server = "http://{MIRRORED}"\n[host."http://{source.name}"]\ncapabilities = ["pull", "resolve"]\n'
    daemon.write(node, f"{directory}/{MIRRORED.replace(':', '_')}_/hosts.toml", text)


def with_images(node: Node, **images: Any) -> None:
    """The daemon with these keys of CRI's images plugin, as an administrator writes them."""
    daemon.write(node, daemon.ROOT, tomlkit.dumps({"version": 3, "plugins": {daemon.IMAGES: images}}))
    daemon.restart(node)


def pull_error(node: Node, reference: str) -> str:
    """Why CRI can't pull; empty if it can. An image that was pulled is removed."""
    done = cri.crictl(node, "pull", reference, check=False)
    if done.returncode != 0:
        return done.stderr
    cri.remove(node, reference)
    return ""


def finding(node: Node, check: str, **settings: Any) -> dict[str, Any]:
    done = node.module("node_verify", {"only": [check], "fail_on": [], "settings": settings})
    (found,) = done["checks"]
    assert isinstance(found, dict)
    return found


def test_several_directories_of_registries_are_for_the_local_puller(transfer_node: Node, source: Registry) -> None:
    node = transfer_node
    reference = source.push(random_layers(2)).replace(source.name, MIRRORED)
    mirrored(node, source, OTHER)
    both = f"{CERTS}:{OTHER}"
    with_images(node, registry={"config_path": both})
    assert MIRRORED in pull_error(node, reference)
    found = finding(node, "registry_directories")
    assert (found["status"], OTHER in found["found"]) == ("fail", True), found

    refused = node.module("containerd_config", {"settings": {"registry_config_path": both}})
    assert refused["failed"]
    assert "name one directory, or set image_pull_sync_fs to true" in refused["msg"]
    done = node.module("containerd_config", {"settings": {"registry_config_path": both, "image_pull_sync_fs": True}})
    assert not done.get("failed"), done
    assert pull_error(node, reference) == ""
    assert finding(node, "registry_directories")["status"] == "ok"
    done = node.module("containerd_image", {"name": [reference]})
    assert not done.get("failed"), done["msg"]
    node.exec("ctr", "images", "rm", "--sync", reference)


def test_directories_that_are_not_named_are_those_of_the_version(transfer_node: Node, source: Registry) -> None:
    node = transfer_node
    reference = source.push(random_layers(2)).replace(source.name, MIRRORED)
    mirrored(node, source, DOCKER)
    with_images(node)
    assert MIRRORED in pull_error(node, reference)
    found = finding(node, "registry_directories")
    # 2.1 has no default; from 2.2 on there is one, for the local puller.
    assert (found["status"], DOCKER in found["found"]) == (("ok", False) if node.line == (2, 1) else ("fail", True)), found

    with_images(node, use_local_image_pull=True)
    error = pull_error(node, reference)
    assert finding(node, "registry_directories")["status"] == "ok"
    done = node.module("containerd_image", {"name": [reference]})
    assert bool(done.get("failed")) is bool(error) is (node.line == (2, 1)), (error, done.get("msg"))
    node.exec("ctr", "images", "rm", "--sync", reference)


def test_image_verifiers_are_not_gone_around_without_a_word(transfer_node: Node, source: Registry) -> None:
    node = transfer_node
    reference = source.push(random_layers(2))
    done = node.module("containerd_registry", {"registries": [source.entry], "config_path": CERTS})
    assert not done.get("failed"), done
    settings: dict[str, Any] = {"registry_config_path": CERTS, "image_pull_sync_fs": False}
    done = node.module("containerd_config", {"settings": settings})
    assert not done.get("failed"), done
    assert pull_error(node, reference) == ""
    daemon.write(node, f"{VERIFIERS}/deny", "#!/bin/sh\necho no\nexit 1")
    node.exec("chmod", "+x", f"{VERIFIERS}/deny")
    assert "blocked pull" in pull_error(node, reference)
    assert finding(node, "image_verifiers")["status"] == "ok"

    # What the collection pulls is verified as well, or refused.
    pulled = node.module("containerd_image", {"name": [reference]})
    assert "an image verifier of the node refuses it" in pulled["msg"]
    refused = node.module("containerd_image", {"name": [reference], "snapshotter": "native"}, check=True)
    assert "doesn't unpack for native" in refused["msg"]

    synced = {**settings, "image_pull_sync_fs": True}
    refused = node.module("containerd_config", {"settings": synced})
    assert refused["failed"]
    assert f"{VERIFIERS}/deny" in refused["msg"]
    assert "set allow_unverified_pulls to true" in refused["msg"]
    done = node.module("containerd_config", {"settings": {**synced, "allow_unverified_pulls": True}})
    assert not done.get("failed"), done
    assert pull_error(node, reference) == ""
    assert finding(node, "image_verifiers", allow_unverified_pulls=True)["status"] == "warn"

    # An administrator's own settings are only said.
    with_images(node, max_concurrent_downloads=7)
    done = node.module("containerd_config", {"settings": settings})
    assert not done.get("failed"), done["msg"]
    assert "max_concurrent_downloads pulls without the transfer service" in str(done.get("warnings")), done
