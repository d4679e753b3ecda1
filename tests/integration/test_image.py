# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come and go as predicted, from wherever they are to be had; and a second run is a look."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.image_module import NAMESPACE, actions, ctr, empty_node, expected, files, image, names, state

from nodes import registry
from nodes.images import Layer, busybox, random_layers, write_layout
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
    assert len(done["synced"]) == 1 and done["summary"]
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
        empty_node.ssh(
            f"ctr -n {NAMESPACE} tasks kill -s KILL sleeper; sleep 1; ctr -n {NAMESPACE} containers rm sleeper", check=False
        )


@pytest.mark.two_versions
def test_in_the_kubelets_namespace_the_space_comes_back(empty_node: Node, source: Registry) -> None:
    """CRI names each image by its id as well; nobody would ever remove that name."""
    node_options: dict[str, Any] = {"plain_http": True, "namespace": "k8s.io"}
    reference = source.push(random_layers(2, seed=120))
    done = run_module(empty_node, "containerd_image", {"name": [reference], **node_options})
    assert actions(done) == ["pull"]
    deadline = time.monotonic() + 10
    while len(empty_node.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    gone = run_module(empty_node, "containerd_image", {"name": [reference], "state": "absent", **node_options})
    assert gone["changed"] and gone["images"][0]["used_by"] == []
    assert empty_node.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split() == []
