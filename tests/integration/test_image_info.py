# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reported layer limit agrees with the mounts of the kernel."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import Overlay, headroom
from nodes import daemon
from nodes.images import Layer, random_layers, write_layout
from nodes.node import PODMAN, Node, run
from nodes.payload import run_module

NAME = "registry.example/deep"
COUNTS = (60, 300, 499, 500, 501)
NAMESPACE = "layers"
# As long as the default one.
ROOT = "/var/lib/containerd/".ljust(58, "r")
MOUNT = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("/run/mounted")
for ids, writable, data in json.load(sys.stdin):
    for number in (*ids, writable):
        os.makedirs(f"{sys.argv[1]}/snapshots/{number}/fs", exist_ok=True)
    os.makedirs(f"{sys.argv[1]}/snapshots/{writable}/work", exist_ok=True)
    os.chdir(f"{sys.argv[1]}/snapshots")
    mounted = len(data) <= 4096 and libc.mount(b"overlay", b"/run/mounted", b"overlay", 0, data.encode()) == 0
    if mounted:
        libc.umount2(b"/run/mounted", 0)
    print(mounted)
os.rmdir("/run/mounted")
"""
# With it the page gives out long before the kernel's 500 directories.
DEEP_ROOT = "/var/lib/containerd/" + "/".join(letter * 190 for letter in "abcdefgh")


def archive(directory: Path, layers: Sequence[Layer], counts: Sequence[int], *, indexed: bool = False) -> Path:
    """An OCI archive of images that share layers: one of each number of them, tagged with it.

    ``indexed``: each by an index, which has a manifest for another machine as well.
    """
    blobs, manifests = directory / "all/blobs", []
    for count in counts:
        layout = write_layout(directory / str(count), layers[:count])
        entry = json.loads((layout / "index.json").read_text())["manifests"][0]
        if indexed:
            entry = index_of(entry, layout)
        manifests.append({**entry, "annotations": {"io.containerd.image.name": f"{NAME}:{count}"}})
        shutil.copytree(layout / "blobs", blobs, dirs_exist_ok=True)
    (directory / "all/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    (directory / "all/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    run(["tar", "-C", str(directory / "all"), "-cf", str(directory / "images.tar"), "."])
    return directory / "images.tar"


def index_of(manifest: dict[str, Any], layout: Path) -> dict[str, Any]:
    """Descriptor of an index, written into the layout."""
    described = {key: manifest[key] for key in ("mediaType", "digest", "size")}
    machine = run(["dpkg", "--print-architecture"]).stdout.strip()
    other = {**described, "digest": f"sha256:{0:064}", "platform": {"os": "linux", "architecture": "s390x"}}
    own = {**described, "platform": {"os": "linux", "architecture": machine}}
    kind = "application/vnd.oci.image.index.v1+json"
    text = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [other, own]}).encode()
    digest = hashlib.sha256(text).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(text)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(text)}


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return random_layers(max(COUNTS), files=1, size=16)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, layers: list[Layer]) -> Path:
    return archive(tmp_path_factory.mktemp("images"), layers, COUNTS)


def load(node: Node, images: Path) -> None:
    """Into the content store alone; nothing is unpacked."""
    run([*PODMAN, "cp", str(images), f"{node.container}:/root/images.tar"])
    node.exec("ctr", "-n", NAMESPACE, "images", "import", "--no-unpack", "/root/images.tar")


def info(node: Node, **options: Any) -> dict[str, Any]:
    found = run_module(node, "containerd_image_info", {"namespace": NAMESPACE, **options})
    assert not found.get("failed"), found
    assert not found["changed"]
    return found


def verdicts(node: Node, counts: Sequence[int]) -> dict[int, bool | None]:
    found = info(node, name=[f"{NAME}:{count}" for count in counts])["images"]
    assert [image["layers"] for image in found] == list(counts)
    assert all(bool(image["reason"]) != (image["mountable"] is True) for image in found), found
    return {image["layers"]: image["mountable"] for image in found}


def mounts(node: Node, count: int) -> bool:
    """Whether the kernel mounts it as a container's file system; unpacks it before."""
    target = f"/run/mounted-{count}"
    done = node.ssh(f"mkdir {target}; ctr -n {NAMESPACE} images mount --rw {NAME}:{count} {target}", check=False)
    if done.returncode != 0:
        assert "invalid argument" in done.stderr or "too long" in done.stderr or "no such file" in done.stderr, done.stderr
    else:
        assert len(node.exec("ls", target).stdout.split()) == count
    node.ssh(f"ctr -n {NAMESPACE} images unmount --rm {target}; rmdir {target}", check=False)
    return done.returncode == 0


def blob(node: Node, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.exec("ctr", "-n", NAMESPACE, "content", "get", digest).stdout)
    return found


def cleared(node: Node) -> None:
    node.ssh(f"ctr -n {NAMESPACE} images rm --sync $(ctr -n {NAMESPACE} images ls -q); rm -f /root/images.tar", check=False)


def agree(verdicts: dict[int, bool | None], kernel: dict[int, bool]) -> bool:
    """What is said is so; that it isn't known is no lie."""
    return {count: verdict for count, verdict in verdicts.items() if verdict is not None}.items() <= kernel.items()


def test_the_verdict_is_what_the_kernel_does(node: Node, images: Path) -> None:
    """Also if ids have been given that can't be seen any more."""
    daemon.install(node)
    daemon.reset(node)
    before = info(node)
    assert before["images"] == [] and before["snapshotter"] == "overlayfs" and before["headroom_reason"] == ""
    assert before["headroom"]["layers_guaranteed"] == 354
    load(node, images)
    try:
        packed = verdicts(node, COUNTS)
        assert (packed[60], packed[300], packed[501]) == (True, True, False)
        kernel = {count: mounts(node, count) for count in COUNTS}
        assert agree(packed, kernel), (packed, kernel)
        unpacked = verdicts(node, COUNTS)
        assert agree(unpacked, kernel), (unpacked, kernel)
        assert None not in (unpacked[60], unpacked[300], unpacked[501])
        after = info(node)
        if after["headroom"]["next_id"] < 1000:
            assert kernel[500] and unpacked[500]
        for image in after["images"]:
            assert image["unpacked"]
            assert image["platform"] == "linux/" + run(["dpkg", "--print-architecture"]).stdout.strip()
    finally:
        cleared(node)


@pytest.mark.two_versions
def test_a_long_root_leaves_room_for_as_many_as_it_says(node: Node, layers: list[Layer], tmp_path: Path) -> None:
    daemon.install(node)
    daemon.reset(node)
    try:
        done = run_module(node, "containerd_config", {"settings": {"root": DEEP_ROOT}})
        assert not done.get("failed"), done
        room = info(node)["headroom"]
        most = room["layers_max"]
        assert room["root"].startswith(DEEP_ROOT + "/") and room["next_id"] == 1 and 60 < most < 299, room
        counts = (60, most, most + 1)
        load(node, archive(tmp_path, layers, counts))
        assert verdicts(node, counts) == {60: True, most: None, most + 1: False}
        assert {count: mounts(node, count) for count in counts} == {60: True, most: True, most + 1: False}
        assert agree(verdicts(node, counts), {60: True, most: True, most + 1: False})
        # A toolbox's unit mounts as many.
        box: dict[str, Any] = {"name": "deep", "namespace": NAMESPACE}
        refused = run_module(node, "toolbox_snapshot", {**box, "image": f"{NAME}:{most + 1}"})
        assert refused["failed"] and f"{most + 1} layers" in refused["msg"], refused
        made = run_module(node, "toolbox_snapshot", {**box, "image": f"{NAME}:{most}"})
        assert not made.get("failed"), made
        assert len(node.exec("ls", made["path"]).stdout.split()) == most
        gone = run_module(node, "toolbox_snapshot", {**box, "state": "absent"})
        assert not gone.get("failed"), gone
    finally:
        cleared(node)
        daemon.reset(node)
        node.ssh(f"rm -rf {DEEP_ROOT[: DEEP_ROOT.index('/aaa') + 4]}*", check=False)


def test_the_page_holds_as_many_layers_as_computed_for_ids_of_a_node_with_a_long_life(trixie: Node) -> None:
    """The kernel cuts longer options off, which containerd forestalls; with 4096 bytes exactly it doesn't."""
    plain = Overlay(ROOT, 4096, ("index=off",))
    firsts = (999, 1000, 9_800, 10_000, 99_990, 100_000, 1_000_000)
    limits = [*((plain, first) for first in firsts), (Overlay(ROOT, 4096, ("index=off", "xino=off")), 1000)]
    cases: list[tuple[list[int], int, str]] = []
    for overlay, first in limits:
        most = headroom(overlay, first).layers_max
        for count in (most, most + 1):
            ids, writable = list(range(first, first + count)), first + count
            cases.append((ids, writable, overlay.mount_data(ids, writable)))
    lengths = [len(text) for _ids, _writable, text in cases]
    assert 4095 in lengths and lengths[-1] == 4096
    daemon.write(trixie, "/root/cases.json", json.dumps(cases))
    daemon.write(trixie, "/root/mount.py", MOUNT)
    done = trixie.ssh(f"python3 /root/mount.py {ROOT} < /root/cases.json; rm -rf {ROOT} /root/mount.py /root/cases.json")
    assert done.stdout.split() == ["True", "False"] * len(limits)


@pytest.mark.smoke
@pytest.mark.two_versions
def test_what_is_not_there_is_said(node: Node, tmp_path: Path) -> None:
    daemon.install(node)
    daemon.reset(node)
    load(node, archive(tmp_path, random_layers(3, seed=1), (2, 3), indexed=True))
    try:
        found = info(node, name=["registry.example/none:1", f"{NAME}:3", f"{NAME}:3"], snapshotter="native")
        assert found["images"][0] == {"name": "registry.example/none:1", "present": False}
        assert found["headroom"] is None and "native" in found["headroom_reason"]
        (image,) = found["images"][1:]
        assert (image["present"], image["layers"], image["unpacked"], image["mountable"]) == (True, 3, False, None)
        assert image["media_type"] == "application/vnd.oci.image.index.v1+json"
        index = blob(node, image["digest"])
        manifest = blob(node, index["manifests"][1]["digest"])
        own = [index["manifests"][1], manifest["config"], *manifest["layers"]]
        whole = len(json.dumps(index)) + sum(part["size"] for part in own)
        assert image["size_bytes"] == whole
        missing = manifest["layers"][2]
        node.exec("ctr", "-n", NAMESPACE, "content", "rm", missing["digest"])
        assert info(node, name=[f"{NAME}:3"])["images"][0]["size_bytes"] == whole - missing["size"]
        node.exec("ctr", "-n", NAMESPACE, "content", "rm", image["digest"])
        broken, intact = info(node, name=[f"{NAME}:3", f"{NAME}:2"])["images"]
        assert broken["layers"] is None and image["digest"] in broken["reason"]
        assert intact["layers"] == 2 and intact["mountable"] and intact["reason"] == ""
    finally:
        cleared(node)


@pytest.mark.smoke
def test_what_the_daemon_refuses_is_one_sentence(trixie: Node) -> None:
    failed = run_module(trixie, "containerd_image_info", {"snapshotter": "nosuch"})
    assert failed["failed"] and "snapshotter not loaded: nosuch" in failed["msg"]
    failed = run_module(trixie, "containerd_image_info", {"binary": "/usr/bin/nothing"})
    assert failed["failed"] and "name the program with binary" in failed["msg"]
    refused = run_module(trixie, "containerd_image_info", {"namespace": "-x"})
    assert refused["failed"] and refused["msg"].startswith("namespace has to be a name")
