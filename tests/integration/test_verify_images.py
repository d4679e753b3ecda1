# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of node_verify on images, the layer limit, and the file systems of images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, to_text
from nodes import daemon
from nodes.fixtures import packaged
from nodes.images import random_layers
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry, serve

NAMESPACE = "verified"
OWN = ("images_present", "layer_headroom", "interrupted_pulls", "storage_filesystem")
RECORD = "/var/lib/containerd/slipway-pulls.json"
WEAK = "/var/lib/weak"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as there:
        yield there


@pytest.fixture
def empty_node(node: Node) -> Iterator[Node]:
    """A node as packaged, without images in the tests' namespace."""
    packaged(node)
    yield node
    node.ssh(f"rm -f {RECORD}; ctr -n {NAMESPACE} images rm --sync $(ctr -n {NAMESPACE} images ls -q)", check=False)


def verified(node: Node, *names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """The findings of these checks, by id."""
    images = [{"name": list(names), "namespace": NAMESPACE}] if names else []
    found = run_module(node, "node_verify", {"images": images, "only": list(OWN), "fail_on": [], **options})
    assert not found.get("failed"), found
    assert not found["changed"]
    return {one["id"]: one for one in found["checks"]}


def status(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: finding["status"] for name, finding in findings.items()}


def ctr(node: Node, *arguments: str) -> str:
    return node.exec("ctr", "-n", NAMESPACE, *arguments).stdout


def pulled(node: Node, registry: Registry, count: int = 2) -> str:
    name = registry.push(random_layers(count))
    done = run_module(node, "containerd_image", {"name": name, "namespace": NAMESPACE, "plain_http": True})
    assert not done.get("failed"), done.get("msg")
    return name


@pytest.mark.smoke
def test_images_that_are_there_are_found_and_those_that_are_not_are_missed(empty_node: Node, registry: Registry) -> None:
    first, second = pulled(empty_node, registry), pulled(empty_node, registry)
    assert status(verified(empty_node, first, second)) == dict.fromkeys(OWN, "ok")
    assert "images_present" not in verified(empty_node)

    ctr(empty_node, "images", "rm", "--sync", first)
    missed = verified(empty_node, first, second)["images_present"]
    assert (missed["status"], missed["found"]) == ("fail", {f"{first} in {NAMESPACE}": "not there"})
    assert "slipway.node.provision" in missed["remedy"]
    failed = run_module(empty_node, "node_verify", {"images": [{"name": first, "namespace": NAMESPACE}], "only": list(OWN)})
    assert failed["failed"] and f"{first} in {NAMESPACE}" in failed["msg"]


@pytest.mark.two_versions
def test_an_image_that_cannot_be_used_is_not_called_present(empty_node: Node, registry: Registry) -> None:
    name = pulled(empty_node, registry)
    (image,) = run_module(empty_node, "containerd_image_info", {"name": name, "namespace": NAMESPACE})["images"]
    ctr(empty_node, "snapshots", "rm", image["chain_id"])
    unpacked = verified(empty_node, name)["images_present"]
    assert (unpacked["status"], unpacked["found"]) == ("fail", {f"{name} in {NAMESPACE}": "not unpacked for overlayfs"})

    ctr(empty_node, "content", "rm", image["digest"])
    broken = verified(empty_node, name)["images_present"]
    assert broken["status"] == "fail" and image["digest"] in str(broken["found"])


@pytest.mark.two_versions
def test_an_image_that_somebody_else_pulled_may_not_be_on_disk(empty_node: Node, registry: Registry) -> None:
    name = registry.push(random_layers(1))
    ctr(empty_node, "images", "pull", "--plain-http", name)
    assert verified(empty_node, name)["images_present"]["status"] == "warn"
    done = run_module(empty_node, "containerd_image", {"name": name, "namespace": NAMESPACE})
    assert done["changed"] and not done.get("failed"), done.get("msg")
    assert verified(empty_node, name)["images_present"]["status"] == "ok"


@pytest.mark.smoke
@pytest.mark.two_versions
def test_what_cannot_be_told_is_unknown(empty_node: Node, registry: Registry) -> None:
    name = pulled(empty_node, registry)
    images = [{"name": name, "namespace": NAMESPACE, "snapshotter": "nosuch"}]
    unloaded = verified(empty_node, images=images)
    assert unloaded["images_present"]["status"] == "unknown" and "nosuch" in str(unloaded["images_present"]["found"])
    other = [{"name": name, "namespace": NAMESPACE, "platform": "linux/s390x"}]
    assert verified(empty_node, images=other)["images_present"]["status"] == "fail"
    empty_node.exec("systemctl", "stop", "containerd")
    stopped = verified(empty_node, name)
    assert status(stopped) == {"undetermined": "unknown"} and all(one in str(stopped["undetermined"]["found"]) for one in OWN)


@pytest.mark.two_versions
def test_pulls_that_were_cut_short_are_seen(empty_node: Node) -> None:
    boot = empty_node.exec("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()
    pull = Pull(boot, NAMESPACE, "overlayfs", ("registry.example/half:1",), ())
    daemon.write(empty_node, RECORD, to_text([pull]))
    now = verified(empty_node)["interrupted_pulls"]
    assert now["status"] == "warn" and "registry.example/half:1" in now["found"]
    daemon.write(empty_node, RECORD, to_text([pull, Pull("earlier", NAMESPACE, "overlayfs", ("registry.example/lost:1",), ())]))
    lost = verified(empty_node)["interrupted_pulls"]
    assert lost["status"] == "fail" and lost["found"].endswith(": registry.example/lost:1")
    assert NAMESPACE in lost["remedy"]
    finished = run_module(empty_node, "containerd_image", {"name": [], "namespace": NAMESPACE})
    assert finished["changed"] and not finished.get("failed"), finished.get("msg")
    assert verified(empty_node)["interrupted_pulls"]["status"] == "ok"
    daemon.write(empty_node, RECORD, "nonsense")
    assert verified(empty_node)["interrupted_pulls"]["status"] == "unknown"


@pytest.mark.two_versions
def test_room_for_layers_is_held_against_what_is_asked_for(empty_node: Node) -> None:
    room = run_module(empty_node, "containerd_image_info", {"name": []})["headroom"]
    least, most = room["layers_guaranteed"], room["layers_max"]
    expected = {least: "ok", least + 1: "warn" if most > least else "fail"}
    if most < 500:
        expected[most + 1] = "fail"
    found = {layers: verified(empty_node, min_layers=layers)["layer_headroom"]["status"] for layers in expected}
    assert found == expected
    refused = run_module(empty_node, "node_verify", {"min_layers": 501})
    assert refused["failed"] and refused["msg"].startswith("min_layers has to be between 0 and 500")


@contextmanager
def mounted(node: Node, command: str) -> Iterator[None]:
    """containerd's root on a file system of its own, which the command mounts at WEAK."""
    node.ssh(f"systemctl stop containerd; mkdir -p {WEAK} && truncate -s 64M /var/lib/containerd/weak.img && {command}")
    try:
        done = run_module(node, "containerd_config", {"settings": {"root": WEAK}})
        assert not done.get("failed"), done.get("msg")
        yield
    finally:
        node.ssh("systemctl stop containerd")
        daemon.reset(node)
        node.ssh(f"umount {WEAK}; rm -r {WEAK} /var/lib/containerd/weak.img", check=False)


LOOP = f"mkfs.ext4 -q /var/lib/containerd/weak.img && mount -o loop,%s /var/lib/containerd/weak.img {WEAK}"
FILE_SYSTEMS = {
    "defaults": (LOOP % "defaults", "ok", f"ext4 at {WEAK}"),
    "nobarrier": (LOOP % "nobarrier", "fail", "nobarrier"),
    "writeback": (LOOP % "data=writeback", "warn", "data=writeback"),
    "tmpfs": (f"mount -t tmpfs none {WEAK}", "warn", "in memory"),
}


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_the_file_system_that_images_lie_on_is_judged(trixie: Node, kind: str) -> None:
    command, expected, reason = FILE_SYSTEMS[kind]
    with mounted(trixie, command):
        found = verified(trixie)["storage_filesystem"]
    assert found["status"] == expected, found
    assert reason in json.dumps(found["found"]) and WEAK in json.dumps(found["found"])
