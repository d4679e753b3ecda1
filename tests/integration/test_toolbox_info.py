# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reported state of toolboxes and other writable snapshots agrees with containerd's garbage collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nodes import daemon
from nodes.fixtures import SUITES, packaged
from nodes.images import busybox, chain_ids, random_layers
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry, serve
from nodes.toolboxes import PREFIX, mounted, removed

LAYERS = random_layers(2, seed=11)
TOP = chain_ids(LAYERS)[-1]
MEGABYTE = 1024 * 1024
CHECKS = ["toolboxes", "unlisted_snapshots", "snapshots_at_risk"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as there:
        yield there


@pytest.fixture(scope="module")
def image(registry: Registry) -> str:
    return registry.push(LAYERS)


@pytest.fixture
def node_with_image(node: Node, image: str) -> Iterator[Node]:
    with with_image(node, image):
        yield node


@contextmanager
def with_image(node: Node, image: str) -> Iterator[None]:
    """Restore the packaged configuration, remove all toolboxes, and pull the image; the toolboxes are removed afterwards."""
    packaged(node)
    removed(node)
    node.exec("ctr", "images", "pull", "--plain-http", image)
    yield
    removed(node)


def leased(node: Node, image: str, target: str) -> None:
    """As Flatcar's toolbox makes it."""
    node.exec("mkdir", "-p", target)
    node.exec("ctr", "images", "mount", "--rw", image, target)


def info(node: Node, **options: Any) -> dict[str, Any]:
    found = run_module(node, "toolbox_snapshot_info", options)
    assert not found.get("failed"), found
    assert not found["changed"] and found["errors"] == []
    return found


def verified(node: Node, **options: Any) -> dict[str, dict[str, Any]]:
    found = run_module(node, "node_verify", {"only": CHECKS, "fail_on": [], **options})
    assert not found.get("failed"), found
    return {one["id"]: one for one in found["checks"]}


def collected(node: Node) -> None:
    node.ssh("ctr leases create --id collector; ctr leases rm --sync collector")


@pytest.fixture(scope="class", params=SUITES)
def node_with_boxes(request: pytest.FixtureRequest, nodes: dict[str, Node], image: str) -> Iterator[Node]:
    node = nodes[request.param]
    with with_image(node, image):
        leased(node, image, f"{PREFIX}/leased/")
        for key in (f"{PREFIX}/my box", "/srv/other"):
            node.exec("ctr", "snapshots", "prepare", key, TOP)
        node.ssh(f"head -c {MEGABYTE} /dev/urandom > {PREFIX}/leased/blob; sync")
        yield node


@pytest.mark.smoke
@pytest.mark.two_versions
class TestListing:
    """A leased toolbox with a file of 1 MB, a pinned one, and a pinned snapshot elsewhere."""

    def test_every_toolbox_is_listed_whoever_made_it(self, node_with_boxes: Node, image: str) -> None:
        toolboxes = info(node_with_boxes)["toolboxes"]
        assert [box["key"] for box in toolboxes] == [f"{PREFIX}/leased/", f"{PREFIX}/my box"]
        box, pinned = toolboxes
        assert (box["path"], box["image"], box["parent"]) == (f"{PREFIX}/leased", image, TOP)
        assert (box["pinned"], box["mounted"], box["lease"]) == (False, True, f"{PREFIX}/leased/")
        assert box["lease_expires"] in node_with_boxes.exec("ctr", "leases", "ls").stdout
        assert MEGABYTE <= box["size_bytes"] < MEGABYTE + 65536
        assert (pinned["pinned"], pinned["mounted"], pinned["lease"]) == (True, False, None)
        assert {(one["listed"], one["image_drift"]) for one in toolboxes} == {(None, None)}

    def test_an_unlisted_toolbox_is_prunable_once_it_is_old_enough(self, node_with_boxes: Node) -> None:
        box, pinned = info(node_with_boxes, listed_paths=[f"{PREFIX}/leased"], prune_after="1h")["toolboxes"]
        assert (box["listed"], box["prunable"], box["unit_enabled"]) == (True, False, False)
        assert (pinned["listed"], pinned["prunable"]) == (False, False)
        unlisted = {one["key"]: one for one in info(node_with_boxes, listed_paths=[], prune_after="0s")["toolboxes"]}
        assert unlisted[f"{PREFIX}/my box"]["prunable"]

    def test_another_directory_can_be_listed(self, node_with_boxes: Node) -> None:
        assert [one["key"] for one in info(node_with_boxes, path_prefix="/srv")["toolboxes"]] == ["/srv/other"]

    def test_a_toolbox_whose_image_has_no_name_any_more_has_none(self, node_with_boxes: Node, image: str) -> None:
        node_with_boxes.exec("ctr", "images", "rm", "--sync", image)
        assert [one["image"] for one in info(node_with_boxes)["toolboxes"]] == [None, None]


def test_what_garbage_collection_will_delete_is_at_risk_until_it_is_lost(node_with_image: Node, image: str) -> None:
    assert info(node_with_image)["at_risk"] == []
    # Anywhere, and in any namespace.
    leased(node_with_image, image, "/mnt/elsewhere")
    node_with_image.exec("ctr", "snapshots", "prepare", f"{PREFIX}/kept", TOP)
    node_with_image.ssh(f"mkdir -p {PREFIX}/kept; $(ctr snapshots mounts {PREFIX}/kept {PREFIX}/kept)")
    (risk,) = info(node_with_image)["at_risk"]
    assert (risk["namespace"], risk["snapshotter"], risk["key"]) == ("default", "overlayfs", "/mnt/elsewhere")
    assert (risk["mount_point"], risk["certain"]) == ("/mnt/elsewhere", True)
    assert risk["expires"] in node_with_image.exec("ctr", "leases", "ls").stdout
    finding = verified(node_with_image)["snapshots_at_risk"]
    assert finding["status"] == "fail" and risk["expires"] in str(finding["found"])

    node_with_image.exec("ctr", "snapshots", "label", f"{PREFIX}/kept", "containerd.io/gc.root=")
    kept = next(one for one in info(node_with_image)["at_risk"] if one["key"] == f"{PREFIX}/kept")
    # The other's lease could be its own, for all that containerd says.
    assert (kept["certain"], kept["expires"]) == (False, None)
    node_with_image.exec("ctr", "leases", "rm", "--sync", "/mnt/elsewhere")
    lost = info(node_with_image)
    assert lost["at_risk"] == []
    assert set(lost["stale_mounts"]) == {"/mnt/elsewhere", f"{PREFIX}/kept"}
    assert all(mounted(node_with_image, path) and node_with_image.exec("ls", path).stdout == "" for path in lost["stale_mounts"])
    finding = verified(node_with_image)["snapshots_at_risk"]
    assert finding["status"] == "fail" and "has been deleted" in str(finding["found"])


@pytest.mark.two_versions
def test_containers_and_pinned_snapshots_are_not_at_risk(node_with_image: Node, registry: Registry) -> None:
    runs = registry.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    node_with_image.exec("ctr", "images", "pull", "--plain-http", runs)
    node_with_image.ssh(f"ctr run --detach --cpu-shares 0 {runs} boxed")
    try:
        collected(node_with_image)
        found = info(node_with_image, path_prefix="/")
        assert found["at_risk"] == [] and found["toolboxes"] == []
        assert verified(node_with_image, toolboxes=[])["unlisted_snapshots"]["status"] == "ok"
    finally:
        node_with_image.ssh("ctr tasks rm --force boxed; ctr containers rm boxed", check=False)


@pytest.fixture(scope="class", params=SUITES)
def node_without_box(request: pytest.FixtureRequest, nodes: dict[str, Node], image: str) -> Iterator[Node]:
    node = nodes[request.param]
    with with_image(node, image):
        yield node


@pytest.mark.smoke
@pytest.mark.two_versions
class TestVerify:
    """A node with the image, and for each test with the toolbox that it names."""

    PATH = f"{PREFIX}/debug"

    @pytest.fixture
    def leased_box(self, node_without_box: Node, image: str) -> Iterator[Node]:
        leased(node_without_box, image, self.PATH)
        yield node_without_box
        node_without_box.ssh(f"umount {self.PATH}; ctr leases rm --sync {self.PATH}")

    @pytest.fixture
    def pinned_box(self, node_without_box: Node) -> Iterator[Node]:
        node_without_box.exec("ctr", "snapshots", "prepare", self.PATH, TOP)
        yield node_without_box
        node_without_box.exec("ctr", "snapshots", "rm", self.PATH)

    @pytest.fixture
    def forgotten(self, pinned_box: Node) -> Iterator[Node]:
        """Beside the toolbox, a pinned snapshot in another namespace."""
        pinned_box.exec("ctr", "--namespace", "other", "snapshots", "prepare", "forgotten")
        yield pinned_box
        pinned_box.exec("ctr", "--namespace", "other", "snapshots", "rm", "forgotten")

    def test_a_listed_toolbox_without_a_snapshot_is_reported(self, node_without_box: Node) -> None:
        missing = verified(node_without_box, toolboxes=[{"path": self.PATH}])["toolboxes"]
        assert missing["found"] == {self.PATH: "there is no such snapshot"}

    def test_a_leased_toolbox_is_neither_pinned_nor_enabled(self, leased_box: Node) -> None:
        found = verified(leased_box, toolboxes=[{"path": self.PATH}])["toolboxes"]
        assert found["status"] == "fail"
        for reason in ("it isn't pinned", f"it has the lease {self.PATH}", "no enabled unit"):
            assert reason in found["found"][self.PATH]

    def test_a_leased_toolbox_is_at_risk(self, leased_box: Node) -> None:
        found = verified(leased_box, toolboxes=[{"path": self.PATH}])
        assert (found["unlisted_snapshots"]["status"], found["snapshots_at_risk"]["status"]) == ("ok", "fail")

    def test_a_pinned_toolbox_is_present(self, pinned_box: Node) -> None:
        assert verified(pinned_box, toolboxes=[{"path": self.PATH, "state": "present"}])["toolboxes"]["status"] == "ok"

    def test_a_toolbox_that_is_not_mounted_is_reported(self, pinned_box: Node) -> None:
        found = verified(pinned_box, toolboxes=[{"path": self.PATH}])["toolboxes"]["found"]
        assert "it isn't mounted" in found[self.PATH]

    def test_a_toolbox_that_should_be_absent_is_reported(self, pinned_box: Node) -> None:
        found = verified(pinned_box, toolboxes=[{"path": self.PATH, "state": "absent"}])["toolboxes"]["found"]
        assert found == {self.PATH: "it is still there"}

    def test_pinned_snapshots_of_all_namespaces_have_to_be_listed(self, forgotten: Node) -> None:
        unlisted = verified(forgotten, toolboxes=[{"path": self.PATH}])["unlisted_snapshots"]
        assert unlisted["status"] == "warn" and list(unlisted["found"]) == ["forgotten in other (overlayfs)"]

    def test_without_a_list_pinned_snapshots_are_counted(self, forgotten: Node) -> None:
        found = verified(forgotten)
        assert found["unlisted_snapshots"]["found"] == "2 pinned"
        assert {one["status"] for one in found.values()} == {"ok"}

    def test_an_images_layers_need_not_be_listed(self, pinned_box: Node) -> None:
        found = verified(pinned_box, toolboxes=[])["unlisted_snapshots"]["found"]
        assert list(found) == [f"{self.PATH} in default (overlayfs)"]


@pytest.mark.smoke
def test_what_cannot_be_asked_is_said_in_one_sentence(trixie: Node) -> None:
    for options, sentence in (
        ({"snapshotter": "nosuch"}, "the daemon has no snapshotter nosuch: use one of "),
        ({"namespace": "-x"}, "namespace has to be a name"),
        ({"path_prefix": "box"}, "path_prefix has to be an absolute path"),
        ({"listed_paths": ["../x"]}, "listed_paths has to be an absolute path"),
        ({"listed_paths": [], "prune_after": "soon"}, "prune_after has to be a number with one of the units"),
        ({"prune_after": "1d"}, "missing parameter(s) required by 'prune_after': listed_paths"),
        ({"binary": "/usr/bin/nothing"}, "name the program with binary"),
    ):
        failed = run_module(trixie, "toolbox_snapshot_info", options)
        assert failed.get("failed") and sentence in failed["msg"], failed
    trixie.exec("systemctl", "stop", "containerd")
    assert run_module(trixie, "toolbox_snapshot_info", {})["failed"]
    assert {one["status"] for one in verified(trixie, toolboxes=[]).values()} == {"unknown"}
    daemon.restart(trixie)
