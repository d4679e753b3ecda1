# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of toolboxes and of other writable snapshots is what containerd then does with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodes import daemon
from nodes.images import busybox, chain_ids, random_layers
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry, serve
from nodes.toolboxes import PREFIX, mounted, removed

LAYERS = random_layers(2, seed=11)
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
def well(node: Node, image: str) -> Iterator[Node]:
    """A node without toolboxes that has the image."""
    daemon.install(node)
    daemon.reset(node)
    removed(node)
    node.exec("ctr", "images", "pull", "--plain-http", image)
    yield node
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


def test_every_toolbox_is_listed_whoever_made_it(well: Node, image: str) -> None:
    top = chain_ids(LAYERS)[-1]
    leased(well, image, f"{PREFIX}/leased/")
    well.exec("ctr", "snapshots", "prepare", f"{PREFIX}/my box", top)
    well.exec("ctr", "snapshots", "prepare", "/srv/other", top)
    well.ssh(f"head -c {MEGABYTE} /dev/urandom > {PREFIX}/leased/blob; sync")
    found = info(well, listed_paths=[f"{PREFIX}/leased"], prune_after="1h")
    assert [box["key"] for box in found["toolboxes"]] == [f"{PREFIX}/leased/", f"{PREFIX}/my box"]
    box, pinned = found["toolboxes"]
    assert (box["path"], box["image"], box["parent"]) == (f"{PREFIX}/leased", image, top)
    assert (box["pinned"], box["mounted"], box["lease"]) == (False, True, f"{PREFIX}/leased/")
    assert box["lease_expires"] in well.exec("ctr", "leases", "ls").stdout
    assert MEGABYTE <= box["size_bytes"] < MEGABYTE + 65536
    assert (box["listed"], box["prunable"], box["unit_enabled"]) == (True, False, False)
    assert (pinned["pinned"], pinned["mounted"], pinned["lease"]) == (True, False, None)
    assert (pinned["listed"], pinned["prunable"]) == (False, False)

    (old,) = (one for one in info(well, listed_paths=[], prune_after="0s")["toolboxes"] if one["key"] == f"{PREFIX}/my box")
    assert old["prunable"]
    assert {(one["listed"], one["image_drift"]) for one in info(well)["toolboxes"]} == {(None, None)}
    assert [one["key"] for one in info(well, path_prefix="/srv")["toolboxes"]] == ["/srv/other"]
    # Without the image's name, nobody can tell what it was made of.
    well.exec("ctr", "images", "rm", "--sync", image)
    assert [one["image"] for one in info(well)["toolboxes"]] == [None, None]


def test_what_garbage_collection_will_delete_is_at_risk_until_it_is_lost(well: Node, image: str) -> None:
    top = chain_ids(LAYERS)[-1]
    assert info(well)["at_risk"] == []
    # Anywhere, and in any namespace.
    leased(well, image, "/mnt/elsewhere")
    well.exec("ctr", "snapshots", "prepare", f"{PREFIX}/kept", top)
    well.ssh(f"mkdir -p {PREFIX}/kept; $(ctr snapshots mounts {PREFIX}/kept {PREFIX}/kept)")
    (risk,) = info(well)["at_risk"]
    assert (risk["namespace"], risk["snapshotter"], risk["key"]) == ("default", "overlayfs", "/mnt/elsewhere")
    assert (risk["mount_point"], risk["certain"]) == ("/mnt/elsewhere", True)
    assert risk["expires"] in well.exec("ctr", "leases", "ls").stdout
    finding = verified(well)["snapshots_at_risk"]
    assert finding["status"] == "fail" and risk["expires"] in str(finding["found"])

    well.exec("ctr", "snapshots", "label", f"{PREFIX}/kept", "containerd.io/gc.root=")
    kept = next(one for one in info(well)["at_risk"] if one["key"] == f"{PREFIX}/kept")
    # The other's lease could be its own, for all that containerd says.
    assert (kept["certain"], kept["expires"]) == (False, None)
    well.exec("ctr", "leases", "rm", "--sync", "/mnt/elsewhere")
    lost = info(well)
    assert lost["at_risk"] == []
    assert set(lost["stale_mounts"]) == {"/mnt/elsewhere", f"{PREFIX}/kept"}
    assert all(mounted(well, path) and well.exec("ls", path).stdout == "" for path in lost["stale_mounts"])
    finding = verified(well)["snapshots_at_risk"]
    assert finding["status"] == "fail" and "gone already" in str(finding["found"])


def test_containers_and_pinned_snapshots_are_not_at_risk(well: Node, registry: Registry) -> None:
    runs = registry.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    well.exec("ctr", "images", "pull", "--plain-http", runs)
    well.ssh(f"ctr run --detach --cpu-shares 0 {runs} boxed")
    try:
        collected(well)
        found = info(well, path_prefix="/")
        assert found["at_risk"] == [] and found["toolboxes"] == []
        assert verified(well, toolboxes=[])["unlisted_snapshots"]["status"] == "ok"
    finally:
        well.ssh("ctr tasks kill --signal SIGKILL boxed; sleep 1; ctr tasks rm -f boxed; ctr containers rm boxed", check=False)


def test_verify_judges_what_is_expected_and_finds_what_is_not(well: Node, image: str) -> None:
    top = chain_ids(LAYERS)[-1]
    path = f"{PREFIX}/debug"
    missing = verified(well, toolboxes=[{"path": path}])
    assert missing["toolboxes"]["found"] == {path: "there is no such snapshot"}
    leased(well, image, path)
    found = verified(well, toolboxes=[{"path": path}])
    assert found["toolboxes"]["status"] == "fail"
    for reason in ("it isn't pinned", f"it has the lease {path}", "no enabled unit"):
        assert reason in found["toolboxes"]["found"][path]
    assert (found["unlisted_snapshots"]["status"], found["snapshots_at_risk"]["status"]) == ("ok", "fail")
    well.ssh(f"ctr snapshots label {path} containerd.io/gc.root=yes; ctr leases rm {path}; umount {path}")
    assert verified(well, toolboxes=[{"path": path, "state": "present"}])["toolboxes"]["status"] == "ok"
    assert "it isn't mounted" in verified(well, toolboxes=[{"path": path}])["toolboxes"]["found"][path]
    assert verified(well, toolboxes=[{"path": path, "state": "absent"}])["toolboxes"]["found"] == {path: "it is still there"}

    well.exec("ctr", "--namespace", "other", "snapshots", "prepare", "forgotten")
    unlisted = verified(well, toolboxes=[{"path": path}])["unlisted_snapshots"]
    assert unlisted["status"] == "warn" and "forgotten in other (overlayfs)" in unlisted["found"]
    assert {one["id"]: one["found"] for one in verified(well).values()}["unlisted_snapshots"] == "2 pinned"
    assert {one["status"] for one in verified(well).values()} == {"ok"}
    well.exec("ctr", "--namespace", "other", "snapshots", "rm", "forgotten")
    assert top  # the image's own layers are nobody's pins
    assert list(verified(well, toolboxes=[])["unlisted_snapshots"]["found"]) == [f"{path} in default (overlayfs)"]


def test_what_cannot_be_asked_is_said_in_one_sentence(trixie: Node) -> None:
    for options, sentence in (
        ({"snapshotter": "nosuch"}, "the daemon has no snapshotter nosuch: take one of "),
        ({"namespace": "-x"}, "namespace has to be a name"),
        ({"path_prefix": "box"}, "path_prefix has to be an absolute path"),
        ({"listed_paths": ["../x"]}, "listed_paths has to be an absolute path"),
        ({"listed_paths": [], "prune_after": "soon"}, "prune_after has to be a number with one of the units"),
        ({"prune_after": "1d"}, "missing parameter(s) required by 'prune_after': expected"),
        ({"binary": "/usr/bin/nothing"}, "name the program with binary"),
    ):
        failed = run_module(trixie, "toolbox_snapshot_info", options)
        assert failed.get("failed") and sentence in failed["msg"], failed
    trixie.exec("systemctl", "stop", "containerd")
    assert run_module(trixie, "toolbox_snapshot_info", {})["failed"]
    assert {one["status"] for one in verified(trixie, toolboxes=[]).values()} == {"unknown"}
    daemon.restart(trixie)
