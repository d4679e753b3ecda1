# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged images are found and repaired from the layers on the node. Images in use are not changed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.image_module import (
    LOGIN,
    actions,
    ctr,
    emptied,
    empty_node,
    expected,
    files,
    image,
    in_background,
    names,
    state,
    when_pulling,
)

from nodes import daemon, registry
from nodes.images import busybox, chain_ids, random_layers
from nodes.node import Node, ansible_json
from nodes.payload import run_module
from nodes.registry import Registry

__all__ = ["empty_node"]

STORE = "/var/lib/containerd"
BLOBS = f"{STORE}/io.containerd.content.v1.content/blobs/sha256"
SNAPSHOTTERS = ("overlayfs", "native")
METADATA: dict[str, Any] = {"integrity": "metadata"}
REPAIR: dict[str, Any] = {"integrity": "metadata", "repair": True}
UUID = f"{STORE}/io.containerd.grpc.v1.introspection/uuid"
# Programs that the module calls in place of the node's own.
STAND_IN = "/run/stand-in"


def snapshot_path(node: Node, chain: str, path: str, snapshotter: str = "overlayfs") -> str:
    """A file of a layer, where the snapshotter keeps it."""
    group = f"ctr -n images snapshots --snapshotter {snapshotter}"
    mounts = f"until {group} mounts /mnt look 2>/dev/null; do {group} view look {chain} >/dev/null; done"
    shown = node.ssh(f"{mounts}; {group} rm look >/dev/null 2>&1; true").stdout
    line = next(line for line in shown.splitlines() if line.startswith("mount "))
    options = dict(option.partition("=")[::2] for option in line.split(" -o ")[1].split(","))
    return f"{options['lowerdir'].split(':')[0] if 'lowerdir' in options else line.split()[3]}/{path}"


def damage(node: Node, chain: str, path: str, snapshotter: str = "overlayfs") -> str:
    """Make a file empty, as a power cut does."""
    file = snapshot_path(node, chain, path, snapshotter)
    node.ssh(f"test -s {file} && : > {file}")
    return file


def blob_paths(node: Node, reference: str) -> list[str]:
    """Of the image's layers, lowest first."""
    digest = ctr(node, "images", "ls", f"name=={reference}").splitlines()[-1].split()[2]
    manifest = json.loads(ctr(node, "content", "get", digest))
    return [f"{BLOBS}/{layer['digest'][7:]}" for layer in manifest["layers"]]


@pytest.mark.smoke
@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
def test_a_damaged_layer_is_mended_offline_with_all_that_share_it(empty_node: Node, tmp_path: Path, snapshotter: str) -> None:
    common, upper = random_layers(2, seed=200), random_layers(5, seed=201)[2:]
    first, second, third = [*common, upper[0]], [*common, upper[1]], [upper[2]]
    with registry.serve(tmp_path) as server:
        references = [server.push(layers) for layers in (first, second, third)]
        image(empty_node, *references, snapshotter=snapshotter)
    options: dict[str, Any] = {"snapshotter": snapshotter}
    intact = image(empty_node, *references, **METADATA, **options)
    assert [one["integrity"] for one in intact["images"]] == ["intact"] * 3 and not intact["changed"]
    # On native, a layer's snapshot has a copy of everything below.
    for chain in [chain_ids(common)[0]] if snapshotter == "overlayfs" else [chain_ids(first)[-1], chain_ids(second)[-1]]:
        damage(empty_node, chain, "layer0/file1", snapshotter)
    for check in (True, False):
        found = image(empty_node, *references, **METADATA, **options, check=check)
        assert found["failed"] and "layer0/file1" in found["msg"] and "set repair" in found["msg"], found
        assert [one["integrity"] for one in found["images"]] == ["damaged", "damaged", "intact"]
        assert found["images"][0]["differences"] == {"/layer0/file1": "is empty, should have 16384 bytes"}
    info = run_module(empty_node, "containerd_image_info", {"namespace": "images", "integrity": "metadata", **options})
    by_name = {one["name"]: one["integrity"] for one in info["images"]}
    assert by_name == dict(zip(references, ("damaged", "damaged", "intact"), strict=True))
    predicted = image(empty_node, references[0], **REPAIR, **options, check=True)
    assert actions(predicted) == ["repair"] and predicted["changed"]
    damaged = r"1 of its \d+ files are not as in its layers, such as /layer0/file1: .*"
    assert re.fullmatch(f"{re.escape(references[0])}: repair, {damaged}", predicted["summary"][0])

    # Only one is named; the registry is gone.
    done = image(empty_node, references[0], **REPAIR, **options)
    assert actions(done) == ["repair"] and done["diff"] == predicted["diff"]
    assert done["images"][0]["integrity"] == "repaired"
    assert done["summary"][0] == predicted["summary"][0] and done["summary"][1].startswith(f"{references[1]}: unpacked, ")
    assert {one["name"]: one["outcome"] for one in done["recovered"]} == dict.fromkeys(references[:2], "unpacked")
    again = image(empty_node, *references, **REPAIR, **options)
    assert not again.get("failed"), again
    if snapshotter == "overlayfs":
        assert [files(empty_node, one) for one in references] == list(map(expected, (first, second, third)))
    assert not again["changed"] and [one["integrity"] for one in again["images"]] == ["intact"] * 3
    assert state(empty_node)["record"] is None


@pytest.mark.two_versions
def test_metadata_does_not_claim_what_only_content_finds(empty_node: Node, source: Registry) -> None:
    layers = random_layers(2, seed=210)
    reference = source.push(layers)
    image(empty_node, reference)
    path = snapshot_path(empty_node, chain_ids(layers)[-1], "layer1/file0")
    empty_node.ssh(
        f"touch -r {path} /run/times; printf '\\377\\0' | dd of={path} bs=1 seek=7 conv=notrunc; touch -r /run/times {path}"
    )
    assert image(empty_node, reference, **METADATA)["images"][0]["integrity"] == "intact"
    found = image(empty_node, reference, integrity="content")
    assert found["failed"] and found["images"][0]["differences"].keys() == {"/layer1/file0"}
    done = image(empty_node, reference, integrity="content", repair=True)
    assert done["images"][0]["integrity"] == "repaired" and files(empty_node, reference) == expected(layers)
    assert not image(empty_node, reference, integrity="content")["changed"]


@pytest.mark.two_versions
def test_damaged_blobs_are_fetched_again_and_kept_if_they_can_not_be(empty_node: Node, tmp_path: Path) -> None:
    layers = random_layers(3, seed=220)
    with registry.serve(tmp_path) as server:
        reference = server.push(layers)
        image(empty_node, reference)
        paths = blob_paths(empty_node, reference)
        empty_node.ssh(f"truncate -s 0 {paths[0]}; printf x | dd of={paths[2]} bs=1 seek=40 conv=notrunc status=none")
        damage(empty_node, chain_ids(layers)[0], "layer0/file2")
        found = image(empty_node, reference, integrity="content")
        assert found["failed"] and len(found["images"][0]["damaged_blobs"]) == 2
        before = state(empty_node)
        with server.away():
            refused = image(empty_node, reference, integrity="content", repair=True)
        assert refused["failed"] and "it can't be fetched again" in refused["msg"], refused
        assert state(empty_node) == before
        done = image(empty_node, reference, integrity="content", repair=True)
        assert done["images"][0]["integrity"] == "repaired", done
        assert files(empty_node, reference) == expected(layers)
        assert not image(empty_node, reference, integrity="content", repair=True)["changed"]


def test_discarded_layers_are_no_damage(empty_node: Node, source: Registry) -> None:
    layers = random_layers(2, seed=225)
    reference = source.push(layers)
    image(empty_node, reference)
    digests = " ".join(f"sha256:{path[-64:]}" for path in blob_paths(empty_node, reference))
    # The files go with the next garbage collection.
    collect = "ctr -n images leases create --id discarded && ctr -n images leases rm --sync discarded"
    discard = f"ctr -n images content rm {digests} && {collect}"
    empty_node.ssh(discard)
    looked = image(empty_node, reference, **METADATA)
    assert not looked.get("failed") and not looked["changed"], looked
    assert looked["images"][0]["integrity"] == "unknown" and "discarded" in looked["images"][0]["integrity_reason"]
    options = {"only": ["image_integrity"], "integrity": "metadata", "fail_on": []}
    assert run_module(empty_node, "node_verify", options)["checks"][0]["status"] == "unknown"
    fetched = image(empty_node, reference, **REPAIR)
    assert actions(fetched) == ["repair"] and fetched["images"][0]["integrity"] == "intact"
    empty_node.ssh(discard)
    # By now it is known what has to be there.
    damage(empty_node, chain_ids(layers)[0], "layer0/file0")
    assert image(empty_node, reference, **METADATA)["images"][0]["differences"].keys() == {"/layer0/file0"}
    assert image(empty_node, reference, **REPAIR)["images"][0]["integrity"] == "repaired"
    assert files(empty_node, reference) == expected(layers)


@pytest.mark.two_versions
def test_a_damaged_document_is_fetched_again_when_the_image_is_wanted(empty_node: Node, source: Registry) -> None:
    layers = random_layers(2, seed=230)
    reference = source.push(layers)
    image(empty_node, reference)
    digest = ctr(empty_node, "images", "ls", f"name=={reference}").splitlines()[-1].split()[2]
    empty_node.ssh(f": > {BLOBS}/{digest[7:]}")
    info = run_module(empty_node, "containerd_image_info", {"namespace": "images"})["images"][0]
    assert "damaged in the content store" in info["reason"]
    assert actions(image(empty_node, reference)) == ["pull"]
    assert files(empty_node, reference) == expected(layers) and not image(empty_node, reference, integrity="content")["changed"]


@pytest.mark.two_versions
def test_a_damaged_document_of_an_image_that_nobody_named(empty_node: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path) as server:
        layers = random_layers(2, seed=235)
        reference, other = server.push(layers), server.push(random_layers(1, seed=236))
        image(empty_node, reference, other)
        digest = ctr(empty_node, "images", "ls", f"name=={reference}").splitlines()[-1].split()[2]
        empty_node.ssh(f": > {BLOBS}/{digest[7:]}")
        before = state(empty_node)
        looked = image(empty_node, all=True, **METADATA)
        with server.away():
            refused = image(empty_node, all=True, **REPAIR)
        for done, reason in ((looked, "set repair"), (refused, "it can't be fetched again")):
            assert done["failed"] and reason in done["msg"] and other not in done["msg"], done
            assert [(one["name"], one["integrity"]) for one in done["images"]] == [(other, "intact")]
        assert state(empty_node) == before
        assert not image(empty_node, all=True, **REPAIR).get("failed")
        assert not image(empty_node, all=True, **REPAIR)["changed"]
    assert files(empty_node, reference) == expected(layers)


@pytest.mark.two_versions
def test_what_a_container_is_made_of_stays(empty_node: Node, source: Registry) -> None:
    layers = [busybox(), *random_layers(2, seed=240)]
    reference = source.push(layers, command=["/bin/busybox", "sleep", "1000"])
    image(empty_node, reference)
    damage(empty_node, chain_ids(layers)[-1], "layer1/file1")
    shares = ["--cpu-shares", "0"] if empty_node.suite == "sid" else []
    ctr(empty_node, "run", "--detach", *shares, reference, "held", "/bin/busybox", "sleep", "1000")
    try:
        task = ctr(empty_node, "tasks", "ls")
        before = state(empty_node)
        for check in (True, False):
            refused = image(empty_node, reference, **REPAIR, check=check)
            assert refused["failed"] and "in use by container held" in refused["msg"], refused
            assert not refused["changed"]
        assert ctr(empty_node, "tasks", "ls") == task and "RUNNING" in task
        assert state(empty_node) == before
    finally:
        empty_node.ssh("ctr -n images tasks rm --force held; ctr -n images containers rm held", check=False)
    assert actions(image(empty_node, reference, **REPAIR)) == ["repair"]
    assert files(empty_node, reference) == expected(layers)


@pytest.mark.parametrize("moment", ["snapshots label slipway-view-", "snapshots rm sha256:", "snapshots unpack", "images label"])
@pytest.mark.two_versions
def test_a_killed_repair_is_finished_by_the_next_run(empty_node: Node, source: Registry, moment: str) -> None:
    """The module is killed when it is about to run this command of ctr."""
    common, upper = random_layers(2, seed=250), random_layers(4, seed=251)[2:]
    references = [source.push([*common, one]) for one in upper]
    image(empty_node, *references)
    damage(empty_node, chain_ids(common)[0], "layer0/file0")
    before = leftovers(empty_node)
    group, _space, command = moment.partition(" ")
    kill = f'case "$*" in *" {group} "*"{command}"*) [ -e /run/killed ] || {{ touch /run/killed; kill -9 $PPID; }};; esac'
    empty_node.ssh("rm -f /run/killed")
    killed = image(empty_node, references[0], **REPAIR, binary=program_after(empty_node, kill))
    assert killed["failed"]
    empty_node.ssh("test -e /run/killed")
    done = image(empty_node, references[0], **REPAIR)
    assert not done.get("failed"), done["msg"]
    for reference, one in zip(references, upper, strict=True):
        assert files(empty_node, reference) == expected([*common, one])
    assert not image(empty_node, *references, **REPAIR)["changed"]
    assert leftovers(empty_node) == before and state(empty_node)["record"] is None


def program_after(node: Node, first: str) -> str:
    """A containerd beside which there is a ctr that does this, in the shell's language, before it does its work."""
    node.ssh(f"mkdir -p {STAND_IN} && ln -sf {node.program('containerd')} {STAND_IN}/containerd")
    daemon.write(node, f"{STAND_IN}/ctr", f'#!/bin/sh\n{first}\nexec {node.program("ctr")} "$@"\n')
    node.ssh(f"chmod +x {STAND_IN}/ctr")
    return f"{STAND_IN}/containerd"


@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
@pytest.mark.two_versions
def test_only_what_was_removed_is_unpacked_again(empty_node: Node, source: Registry, snapshotter: str) -> None:
    """Garbage is collected when the damaged layer is gone; the first attempt to unpack it fails."""
    layers = random_layers(4, seed=255)
    reference, options = source.push(layers), {"snapshotter": snapshotter, **REPAIR}
    image(empty_node, reference, snapshotter=snapshotter)
    *lower, top = chain_ids(layers)
    before, created = labels(empty_node, snapshotter), [created_at(empty_node, one, snapshotter) for one in lower]
    damage(empty_node, top, "layer3/file0", snapshotter)
    leases = f"{empty_node.program('ctr')} -n images leases"
    collect = f"{leases} create --id gone >&2; {leases} rm --sync gone >&2"
    fail = f'case "$*" in *"snapshots unpack"*) {collect}; echo "ctr: no space left on device" >&2; exit 1;; esac'
    failed = image(empty_node, reference, **options, binary=program_after(empty_node, fail))
    assert failed["failed"] and "no space left on device" in failed["msg"], failed
    unpacked = {line.split()[0] for line in ctr(empty_node, "snapshots", "--snapshotter", snapshotter, "ls").splitlines()[1:]}
    assert unpacked == set(lower)
    done = image(empty_node, reference, **options)
    assert not done.get("failed") and done["images"][0]["integrity"] == "intact", done
    assert [created_at(empty_node, one, snapshotter) for one in lower] == created
    assert labels(empty_node, snapshotter) == before and not image(empty_node, reference, **options)["changed"]


def created_at(node: Node, chain: str, snapshotter: str) -> str:
    """When a layer was unpacked."""
    info: dict[str, str] = json.loads(ctr(node, "snapshots", "--snapshotter", snapshotter, "info", chain))
    return info["Created"]


def labels(node: Node, snapshotter: str) -> set[str]:
    """What keeps the snapshots of images from garbage collection."""
    return set(re.findall(rf"containerd\.io/gc\.ref\.snapshot\.{snapshotter}=\S+?(?=[,\s]|$)", ctr(node, "content", "ls")))


def leftovers(node: Node) -> str:
    """All that a repair could leave, but for the trees that it learnt."""
    return node.ssh(
        "ctr -n images snapshots ls | sort; ctr -n images images ls -q | sort; ctr -n images content ls -q | sort; "
        "ctr -n images leases ls -q; ls /run | grep slipway; ls /tmp | grep -v ansible; grep -c slipway-view /proc/mounts; true"
    ).stdout


@pytest.mark.two_versions
def test_containerd_is_restarted_in_the_middle(empty_node: Node, source: Registry) -> None:
    layers = random_layers(6, files=40, size=300_000, seed=260)
    reference = source.push(layers)
    image(empty_node, reference)
    damage(empty_node, chain_ids(layers)[0], "layer0/file0")
    with in_background(empty_node, reference, **REPAIR) as repair:
        when_pulling(empty_node, "systemctl restart containerd")
        first = repair()
    assert "Traceback" not in json.dumps(first)
    done = image(empty_node, reference, **REPAIR)
    assert not done.get("failed"), done
    assert files(empty_node, reference) == expected(layers)
    assert not image(empty_node, reference, **REPAIR)["changed"] and state(empty_node)["record"] is None


@pytest.mark.two_versions
def test_all_images_of_a_namespace(empty_node: Node, source: Registry) -> None:
    """Those of other tools are looked at, and taken over only to be mended."""
    layers = [random_layers(2, seed=270), random_layers(2, seed=271)]
    references = [source.push(one) for one in layers]
    ctr(empty_node, "images", "pull", "--plain-http", references[0])
    image(empty_node, references[1])
    looked = image(empty_node, all=True, **METADATA)
    assert {one["name"]: one["integrity"] for one in looked["images"]} == dict.fromkeys(references, "intact")
    assert not looked["changed"] and looked["images"][0]["action"] == "none"
    damage(empty_node, chain_ids(layers[0])[0], "layer0/file0")
    assert image(empty_node, all=True, **METADATA)["failed"]
    assert image(empty_node, all=True, **REPAIR)["changed"]
    assert [files(empty_node, one) for one in references] == list(map(expected, layers))
    assert not image(empty_node, all=True, **REPAIR)["changed"] and names(empty_node) == set(references)


@pytest.mark.two_versions
def test_a_damaged_uuid_is_found_and_repaired(empty_node: Node) -> None:
    # Both versions replace an empty file themselves.
    empty_node.ssh(f"ctr version && : > {UUID} && ctr version && printf damaged > {UUID} && ! ctr version")
    found = run_module(empty_node, "node_verify", {"only": ["daemon_uuid"], "fail_on": []})["checks"][0]
    assert found["status"] == "fail" and "slipway.node.repair" in found["remedy"]
    predicted = image(empty_node, all=True, **REPAIR, check=True)
    assert predicted["changed"] and empty_node.ssh(f"cat {UUID}").stdout == "damaged"
    done = image(empty_node, all=True, **REPAIR)
    assert done["changed"] and done["recovered"][0]["outcome"] == "recreated"
    empty_node.ssh("ctr version")
    assert not image(empty_node, all=True, **REPAIR)["changed"]
    assert run_module(empty_node, "node_verify", {"only": ["daemon_uuid"]})["checks"][0]["status"] == "ok"


def repairs(played: dict[str, Any], node: Node) -> list[str]:
    """The names of the images that a play repairs or would repair, as often as they are reported."""
    results = [task["hosts"][node.name] for play in played["plays"] for task in play["tasks"] if node.name in task["hosts"]]
    single = [one for result in results for one in result.get("results", [result])]
    return [found["name"] for one in single for found in one.get("images", ()) if found.get("action", "none") != "none"]


def test_a_node_that_can_not_be_repaired_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    """Batches of one node: none of the three has the daemon that it is asked for, and one can't be reached."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"nodes": {"hosts": {"one": here, "two": nowhere, "three": here}}}))
    binary = {"containerd_address": str(tmp_path / "socket"), "containerd_unit": "slipway-no-such.service"}
    argv = ["ansible-playbook", "-i", str(inventory), "slipway.node.repair", "-e", json.dumps(binary)]
    played = ansible_json(*argv)
    reported = {name: result["msg"] for name, result in played["plays"][-1]["tasks"][-1]["hosts"].items()}
    assert set(reported) == {"one", "two", "three"}
    assert all(text.startswith(f"{name} was not repaired: ") for name, text in reported.items()), reported
    assert "Connection refused" in reported["two"]
    assert [played["stats"][name]["failures"] for name in reported] == [1, 1, 1]


@pytest.mark.two_versions
def test_a_stopped_daemon_is_named(node: Node) -> None:
    daemon.install(node)
    node.ssh("systemctl stop containerd.service")
    try:
        for check in (True, False):
            done = image(node, all=True, **REPAIR, check=check)
            assert done["failed"]
            assert "the containerd daemon doesn't answer at /run/containerd/containerd.sock: start its service" in done["msg"]
    finally:
        node.ssh("systemctl start containerd.service")


@pytest.mark.two_versions
def test_the_playbook_mends_a_node_and_verify_says_so(node: Node, tmp_path: Path) -> None:
    daemon.install(node)
    daemon.reset(node)
    emptied(node)
    layers = random_layers(3, seed=280)
    with registry.serve(tmp_path, LOGIN) as guarded:
        reference = guarded.push(layers)
        wanted = {"name": reference, "plain_http": True, "username": LOGIN[0], "password": LOGIN[1], "namespace": "images"}
        settings: dict[str, Any] = {
            "containerd_images": [wanted],
            "verify_only": ["image_integrity"],
            "verify_integrity": "metadata",
            "repair_namespaces": ["images"],
            "containerd_image_pull_sync_fs": node.suite != "bookworm",
        }
        assert node.play("slipway.node.provision", settings)["stats"][node.name]["failures"] == 0
        assert node.play("slipway.node.verify", settings)["stats"][node.name]["failures"] == 0
        damage(node, chain_ids(layers)[-1], "layer2/file1")
        node.ssh(f"truncate -s 0 {blob_paths(node, reference)[0]}")
        assert node.play("slipway.node.verify", settings)["stats"][node.name]["failures"] == 1
        assert repairs(node.play("slipway.node.repair", settings, check=True), node) == [reference]
        played = node.play("slipway.node.repair", settings)
        printed = [
            line
            for play in played["plays"]
            for task in play["tasks"]
            if task["task"]["name"].endswith("Print the changes of the images")
            for line in task["hosts"][node.name]["msg"]
        ]
        # The damaged layer has to be fetched before the files can be compared.
        fetched, differing = (
            "damaged in the content store: sha256:[0-9a-f]{64}",
            r"1 of its \d+ files are not as in its layers, .*",
        )
        assert re.fullmatch(rf"{re.escape(reference)}: repair, {fetched}, {differing}, 0\.\d MB in .* s", printed[0]), printed
        assert len(printed) == 2, printed
        mended = played["stats"][node.name]
        assert mended["failures"] == 0 and mended["changed"] > 0
        assert node.play("slipway.node.repair", settings)["stats"][node.name]["changed"] == 0
    assert files(node, reference) == expected(layers)
    assert node.play("slipway.node.verify", settings)["stats"][node.name]["failures"] == 0
    emptied(node)
