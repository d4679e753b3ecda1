# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images are pulled, imported and removed as predicted, and a second run changes nothing."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.image_module import NAMESPACE, actions, ctr, empty_node, expected, files, image, names, state

from nodes import cri, registry
from nodes.images import Layer, busybox, in_an_index, random_layers, write_layout
from nodes.node import PODMAN, Node, run
from nodes.payload import run_module
from nodes.registry import Registry

__all__ = ["empty_node"]


def empty(node: Node, path: str) -> None:
    """What a power cut makes of a file, in the snapshot that was made last of those that have it."""
    snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    node.ssh(f"f=$(ls -d {snapshots}/*/fs/{path} | sort -t/ -k7n | tail -n 1); test -s $f && : > $f")


def push_again(source: Registry, directory: Path, reference: str, layers: Sequence[Layer]) -> None:
    """Move the reference's tag to another image."""
    source.push_layout(write_layout(directory, layers), reference)


@pytest.mark.smoke
def test_a_batch_is_pulled_at_once_and_the_second_run_asks_nobody(empty_node: Node, tmp_path: Path) -> None:
    layers = [random_layers(3, seed=number) for number in range(4)]
    with registry.serve(tmp_path) as server:
        references = [server.push(one) for one in layers]
        predicted = image(empty_node, *references, check=True)
        assert actions(predicted) == ["pull"] * 4 and state(empty_node)["content"] == set()
        done = image(empty_node, *references)
        assert actions(done) == ["pull"] * 4 and done["changed"]
    same = ("name", "digest", "layers", "chain_id", "size_bytes", "downloaded_bytes", "platform", "durability", "action")
    assert [{key: one[key] for key in same} for one in done["images"]] == [
        {key: one[key] for key in same} for one in predicted["images"]
    ]
    assert (
        done["diff"] == predicted["diff"]
        and done["downloaded_bytes"] == sum(one["downloaded_bytes"] for one in done["images"]) > 0
    )
    assert len(done["synced"]) == 1 and len(done["summary"]) == 5
    for line, reference in zip(done["summary"], references, strict=False):
        assert re.fullmatch(rf"{re.escape(reference)}: pull, \d+\.\d MB in \d+\.\d s", line)
    assert names(empty_node) == set(references) and state(empty_node)["record"] is None
    assert [files(empty_node, one) for one in references] == list(map(expected, layers))
    # The registry is gone by now.
    again = image(empty_node, *references)
    assert actions(again) == ["none"] * 4 and not again["changed"] and again["synced"] == []
    refused = image(empty_node, references[0], pull="always")
    assert refused["failed"] and "the registry can't be reached" in refused["msg"]


@pytest.mark.parametrize("release", registry.PROGRAMS)
def test_an_image_comes_from_a_registry_of_every_release_of_distribution(empty_node: Node, tmp_path: Path, release: str) -> None:
    layers = random_layers(3)
    with registry.serve(tmp_path, release=release) as server:
        reference = server.push(layers)
        assert actions(image(empty_node, reference, check=True)) == ["pull"]
        assert actions(image(empty_node, reference)) == ["pull"]
    assert files(empty_node, reference) == expected(layers)


@pytest.mark.two_versions
def test_a_moved_tag_is_seen_if_asked_for(empty_node: Node, source: Registry, tmp_path: Path) -> None:
    old, new = random_layers(2, seed=10), random_layers(2, seed=11)
    reference = source.push(old, repository="moving")
    assert actions(image(empty_node, reference)) == ["pull"]
    push_again(source, tmp_path / "new", reference, new)
    assert actions(image(empty_node, reference)) == ["none"]
    predicted = image(empty_node, reference, pull="always", check=True)
    assert actions(predicted) == ["pull"] and files(empty_node, reference) == expected(old)
    done = image(empty_node, reference, pull="always")
    assert actions(done) == ["pull"] and done["images"][0]["digest"] == predicted["images"][0]["digest"]
    assert files(empty_node, reference) == expected(new)
    assert actions(image(empty_node, reference, pull="always")) == ["none"]


@pytest.mark.two_versions
def test_what_another_tool_pulled_is_judged_once(empty_node: Node, source: Registry) -> None:
    layers = random_layers(3, seed=20)
    reference = source.push(layers)
    ctr(empty_node, "images", "pull", "--plain-http", reference)
    empty(empty_node, "layer1/file2")
    done = image(empty_node, reference)
    assert actions(done) == ["sync"] and done["changed"]
    assert [(one["name"], one["outcome"]) for one in done["recovered"]] == [(reference, "unpacked")]
    assert "layer1/file2" in done["recovered"][0]["reason"]
    assert files(empty_node, reference) == expected(layers)
    assert not image(empty_node, reference)["changed"]


def test_a_layer_is_unpacked_again_that_containerd_refuses_to_remove(empty_node: Node, source: Registry) -> None:
    """It takes a layer for the parent of one that its garbage collection removed."""
    layers = random_layers(3, seed=25)
    reference, other = source.push(layers[:2]), source.push([layers[0], layers[2]])
    for one in (reference, other):
        ctr(empty_node, "images", "pull", "--plain-http", one)
    ctr(empty_node, "images", "rm", "--sync", other)
    empty(empty_node, "layer0/file1")
    done = image(empty_node, reference)
    assert actions(done) == ["sync"] and [one["outcome"] for one in done["recovered"]] == ["unpacked"]
    assert files(empty_node, reference) == expected(layers[:2])
    assert actions(image(empty_node, other)) == ["pull"]
    assert files(empty_node, other) == expected([layers[0], layers[2]])


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "oci-archive.gz"])
def test_an_archive_is_as_good_as_a_registry(empty_node: Node, tmp_path: Path, kind: str) -> None:
    layers = random_layers(3, seed=30)
    layout = write_layout(tmp_path / "layout", layers, tag="1")
    name = "registry.example/carried:1"
    where = f"{kind.removesuffix('.gz')}:{tmp_path}/image.tar:{name}"
    run(["skopeo", "copy", "--quiet", f"oci:{layout}:1", where])
    packed = tmp_path / "image.tar"
    if kind.endswith(".gz"):
        packed.write_bytes(gzip.compress(packed.read_bytes(), 1))
    run([*PODMAN, "cp", str(packed), f"{empty_node.container}:/root/image.tar"])
    predicted = image(empty_node, archive="/root/image.tar", check=True)
    assert actions(predicted) == ["import"] and names(empty_node) == set()
    done = image(empty_node, archive="/root/image.tar")
    assert actions(done) == ["import"] and done["images"][0]["name"] == name and names(empty_node) == {name}
    assert files(empty_node, name) == expected(layers)
    for pull in ("missing", "always"):
        assert actions(image(empty_node, archive="/root/image.tar", pull=pull)) == ["none"]
    assert actions(image(empty_node, "registry.example/other:2", archive="/root/image.tar")) == ["import"]
    assert names(empty_node) == {name, "registry.example/other:2"}
    wrong = image(empty_node, "a:1", "b:1", archive="/root/image.tar")
    assert wrong["failed"] and f"it has {name}" in wrong["msg"]


def test_the_other_snapshotter_needs_no_registry(empty_node: Node, tmp_path: Path) -> None:
    layers = random_layers(3, seed=40)
    with registry.serve(tmp_path) as server:
        reference = server.push(layers)
        assert actions(image(empty_node, reference)) == ["pull"]
    assert actions(image(empty_node, reference, snapshotter="native", check=True)) == ["unpack"]
    assert actions(image(empty_node, reference, snapshotter="native")) == ["unpack"]
    assert actions(image(empty_node, reference, snapshotter="native")) == ["none"]
    assert len(ctr(empty_node, "snapshots", "--snapshotter", "native", "ls").splitlines()) == 1 + len(layers)


AMD64, I386 = ({"os": "linux", "architecture": machine} for machine in ("amd64", "386"))


def unusual_layouts(directory: Path, images: Sequence[Sequence[Layer]]) -> list[Path]:
    """An image for 386 alone, indexes in an index, an index without a platform, a config without an os, and amd64/v2."""
    configs: list[dict[str, str]] = [{"architecture": "386"}, {}, {}, {"os": ""}, {"variant": "v2"}]
    made = [
        write_layout(directory / str(number), layers, tag=str(number), platform=config)
        for number, (layers, config) in enumerate(zip(images, configs, strict=True))
    ]
    in_an_index(made[0], I386)
    in_an_index(in_an_index(made[1], AMD64))
    in_an_index(made[2])
    return made


def test_whatever_containerd_takes_of_an_index_is_unpacked(empty_node: Node, source: Registry, tmp_path: Path) -> None:
    images = [random_layers(1, seed=200 + number) for number in range(5)]
    layouts = unusual_layouts(tmp_path, images)
    references = [source.push_layout(one, f"{source.name}/unusual:{one.name}") for one in layouts]
    done = image(empty_node, *references)
    assert actions(done) == ["pull"] * 5
    assert [one["platform"] for one in done["images"]] == ["linux/386", *["linux/amd64"] * 3, "linux/amd64/v2"]
    assert [files(empty_node, one) for one in references] == list(map(expected, images))
    again = image(empty_node, *references)
    assert actions(again) == ["none"] * 5 and not again["changed"]


def test_whatever_containerd_takes_of_an_archive_is_unpacked(empty_node: Node, tmp_path: Path) -> None:
    """Also an image under the name of one for another platform, and a layer that is a hard link."""
    images = [random_layers(1, seed=300 + number) for number in range(5)]
    arm = write_layout(tmp_path / "arm", random_layers(1, seed=310), platform={"architecture": "arm64"})
    layouts = unusual_layouts(tmp_path, images)
    entries = []
    for layout, number in zip([arm, *layouts], (1, *range(5)), strict=True):
        (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
        entries.append({**entry, "annotations": {"io.containerd.image.name": f"registry.example/unusual:{number}"}})
        shutil.copytree(layout, tmp_path / "all", dirs_exist_ok=True)
    (tmp_path / "all/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    blobs = tmp_path / "all/blobs/sha256"
    # tar writes the second name of a file as a link to the first.
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for blob in sorted(blobs.iterdir()):
            (tmp_path / "all" / f"first-{blob.name}").hardlink_to(blob)
            archive.add(tmp_path / "all" / f"first-{blob.name}", f"first-{blob.name}")
            archive.add(blob, f"blobs/sha256/{blob.name}")
        for name in ("oci-layout", "index.json"):
            archive.add(tmp_path / "all" / name, name)
    run([*PODMAN, "cp", str(tmp_path / "image.tar"), f"{empty_node.container}:/root/image.tar"])
    done = image(empty_node, archive="/root/image.tar")
    assert sorted(one["name"] for one in done["images"]) == [f"registry.example/unusual:{number}" for number in range(5)]
    assert actions(done) == ["import"] * 5
    for number in range(5):
        assert files(empty_node, f"registry.example/unusual:{number}") == expected(images[number])
    assert actions(image(empty_node, archive="/root/image.tar", pull="always")) == ["none"] * 5


def test_tag_and_digest_is_the_image_that_the_kubelet_looks_for(empty_node: Node, tmp_path: Path) -> None:
    layers = random_layers(1, seed=130)
    options: dict[str, Any] = {"plain_http": True, "namespace": "k8s.io"}
    with registry.serve(tmp_path) as server:
        by_tag, kubelets = server.push(layers), server.push(random_layers(1, seed=131), repository="other")
        done = run_module(empty_node, "containerd_image", {"name": [by_tag], **options})
        digest, repository = done["images"][0]["digest"], by_tag.rpartition(":")[0]
        cri.pull(empty_node, kubelets)
        (by_digest,) = (one for one in cri.image_status(empty_node, kubelets)["repoDigests"] if "/other@" in one)
        cri.remove(empty_node, kubelets)
        both = f"{kubelets}@{by_digest.rpartition('@')[2]}"
        cri.pull(empty_node, both)
    # The registry is gone: what is there by its digest is given the name.
    wanted = {"name": [f"{by_tag}@{digest}", both], **options}
    predicted = run_module(empty_node, "containerd_image", wanted, check=True)
    named = run_module(empty_node, "containerd_image", wanted)
    assert actions(named) == actions(predicted) == ["tag", "sync"]
    assert [one["name"] for one in named["images"]] == [f"{repository}@{digest}", by_digest]
    assert cri.image_status(empty_node, f"{by_tag}@{digest}")["id"]
    assert actions(run_module(empty_node, "containerd_image", wanted)) == ["none", "none"]
    gone = run_module(empty_node, "containerd_image", {**wanted, "name": [by_tag, *wanted["name"]], "state": "absent"})
    assert actions(gone) == ["remove"] * 3
    assert empty_node.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split() == []


@pytest.mark.smoke
def test_absent_takes_only_what_is_named(empty_node: Node, source: Registry) -> None:
    before = state(empty_node)
    layers = [busybox(), *random_layers(2, seed=110)]
    reference = source.push(layers)
    other = source.push(random_layers(1, seed=111))
    image(empty_node, reference, other)
    ctr(empty_node, "images", "tag", reference, "registry.example/kept:1")
    predicted = image(empty_node, reference, "registry.example/none:1", state="absent", check=True)
    assert actions(predicted) == ["remove", "none"] and predicted["changed"] and len(names(empty_node)) == 3
    removed = image(empty_node, reference, "registry.example/none:1", state="absent")
    assert removed["diff"] == predicted["diff"]
    assert removed["images"][0]["used_by"] == ["registry.example/kept:1"]
    assert names(empty_node) == {other, "registry.example/kept:1"}
    assert files(empty_node, "registry.example/kept:1") == expected(layers)
    assert not image(empty_node, reference, state="absent")["changed"]
    image(empty_node, "registry.example/kept:1", other, state="absent")
    assert state(empty_node) == before


@pytest.mark.two_versions
def test_absent_names_the_container_that_goes_on_without_its_image(empty_node: Node, source: Registry) -> None:
    reference = source.push([busybox()], command=["/bin/busybox", "sleep", "1000"])
    image(empty_node, reference)
    shares = ["--cpu-shares", "0"] if empty_node.suite == "sid" else []
    empty_node.exec("ctr", "-n", NAMESPACE, "run", "--detach", *shares, reference, "sleeper", "/bin/busybox", "sleep", "1000")
    try:
        removed = image(empty_node, reference, state="absent")
        assert removed["images"][0]["used_by"] == ["container sleeper"]
        assert "RUNNING" in ctr(empty_node, "tasks", "ls")
    finally:
        empty_node.ssh(f"ctr -n {NAMESPACE} tasks rm --force sleeper; ctr -n {NAMESPACE} containers rm sleeper", check=False)


@pytest.mark.two_versions
def test_in_the_kubelets_namespace_the_space_comes_back(empty_node: Node, source: Registry) -> None:
    """CRI names each image by its id as well; nobody would ever remove that name."""
    node_options: dict[str, Any] = {"plain_http": True, "namespace": "k8s.io"}
    reference = source.push(random_layers(2, seed=120))
    done = run_module(empty_node, "containerd_image", {"name": [reference], **node_options})
    assert actions(done) == ["pull"]
    deadline = time.monotonic() + 60
    while len(empty_node.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    gone = run_module(empty_node, "containerd_image", {"name": [reference], "state": "absent", **node_options})
    assert gone["changed"] and gone["images"][0]["used_by"] == []
    assert empty_node.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split() == []
