# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacked images are compared with their layers on real daemons: every difference is found, and nothing else."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes import daemon
from nodes.node import CHECKOUT, PODMAN, Node, run
from nodes.odd_layers import OCI, Archive, lowest, sparse, whole, write_archive

NAMESPACE = "integrity"
SNAPSHOTTERS = ("overlayfs", "native")
DEVICE = tarfile.CHRTYPE
HOME = "/root/compared"
STORE = "/var/lib/containerd"
# Runs the collection's own code as a module would; prints what it finds, by image.
PROBE = """
import json, os, platform, resource, shutil, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.slipway.node.plugins.module_utils.integrity.host import compare, views
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.plain_programs import PlainPrograms
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import content_root

namespace, snapshotter, what = sys.argv[2:5]
ctr = Ctr(Runner(PlainPrograms()), "/run/containerd/containerd.sock", None)
if what == "sweep":
    compare.sweep_views(ctr, namespace, snapshotter)
elif what == "hold":
    with views.Views(ctr, namespace, snapshotter).open(sys.argv[5]) as view:
        print(len(os.listdir(view.root)), flush=True)
        time.sleep(600)
else:
    store = NamespaceStore(ctr, namespace)
    here = "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    names = [reference.name for reference in store.images.references()]
    contents = [store.images.read(reference, here, store.content.digests()) for reference in store.images.references()]
    options = {"content_root": content_root(ctr), "unpacked": store.snapshots(snapshotter).layers(), "level": what}
    options.update(trees=dict(enumerate(sys.argv)).get(5), keep=True)
    results = compare.compare_images(views.Views(ctr, namespace, snapshotter), contents=contents, **options)
    found = {}
    for name, content, compared in zip(names, contents, results):
        found[name] = {
            "intact": compared.intact, "total": compared.total, "count": compared.count, "unknown": compared.unknown,
            "differences": {one.path: one.problem for one in compared.differences},
            "damaged": compared.damaged_blobs, "lowest": compared.lowest, "chain": content.config.chain_ids,
        }
    peaks = [resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"images": found, "peak": max(peaks)}))
"""
# What becomes of layers that depends on the snapshotter, and images that have something special.
SPECIAL: dict[str, Sequence[bytes]] = {
    "none": (),
    "one": (lowest(),),
    "whiteout-and-directory": (Archive().add("a/b").bytes(), Archive().add(".wh.a").directory("a").add("a/c").bytes()),
    "through-a-link": (Archive().directory("b", 0o700).link("a", "b").bytes(), Archive().add("a/c").bytes()),
    "whiteout-device": (Archive().add("a").add("z", kind=DEVICE).bytes(), Archive().add("a", kind=DEVICE).bytes()),
    "only-a-whiteout-device": (Archive().add("a", kind=DEVICE).bytes(),),
    "opaque-and-implied": (Archive().add("x").bytes(), Archive().add("a/b/c").add("a/.wh..wh..opq").bytes()),
    "implied-and-hidden": (
        Archive().directory("a", 0o711).directory("a/b", 0o1777).bytes(),
        Archive().directory("a").add("a/.wh..wh..opq").bytes(),
        Archive().add("a/b/c").bytes(),
    ),
    "deep": [Archive().add(f"d/{number}", bytes(number)).add("d/every", bytes(number)).bytes() for number in range(60)],
}


def name(image: str) -> str:
    return f"registry.example/{image}:1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images")
    made: dict[str, Sequence[tuple[str, bytes]]] = {
        name(image): [(OCI, layer) for layer in layers] for image, layers in SPECIAL.items()
    }
    return write_archive(directory, {**made, name("all"): whole(), name("sparse"): [(OCI, sparse(directory / "sparse"))]})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images")
    return write_archive(directory, {name("all"): whole(), name("one"): whole()[:1]})


@pytest.fixture(params=SNAPSHOTTERS)
def snapshotter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def everything(node: Node, snapshotter: str, images: Path) -> Iterator[Node]:
    """A node that has all of them, fresh from its own import."""
    yield from loaded(node, snapshotter, images)


@pytest.fixture
def unpacked(node: Node, snapshotter: str, few: Path) -> Iterator[Node]:
    """A node that has an image and another one of its lowest layer."""
    yield from loaded(node, snapshotter, few)


def loaded(node: Node, snapshotter: str, archive: Path) -> Iterator[Node]:
    daemon.install(node)
    daemon.reset(node)
    node.ssh("command -v setfattr && command -v zstd || DEBIAN_FRONTEND=noninteractive apt-get -qq install zstd attr >/dev/null")
    cleared(node)
    copy_probe(node)
    load(node, archive, snapshotter)
    yield node
    cleared(node)


def copy_probe(node: Node) -> None:
    target = f"{HOME}/ansible_collections/slipway/node/plugins"
    node.ssh(f"rm -rf {HOME}; mkdir -p {target}")
    run([*PODMAN, "cp", str(CHECKOUT / "plugins/module_utils"), f"{node.container}:{target}/module_utils"])
    daemon.write(node, f"{HOME}/probe.py", PROBE)


def load(node: Node, archive: Path, snapshotter: str) -> None:
    run([*PODMAN, "cp", str(archive), f"{node.container}:/root/images.tar"])
    local = "--local" if "--local" in node.exec("ctr", "images", "import", "--help").stdout else ""
    node.ssh(f"ctr -n {NAMESPACE} images import {local} --snapshotter {snapshotter} /root/images.tar; rm /root/images.tar")


def cleared(node: Node) -> None:
    node.ssh(f"ctr -n {NAMESPACE} images rm --sync $(ctr -n {NAMESPACE} images ls -q); rm -rf {HOME}", check=False)


def probe(node: Node, snapshotter: str, what: str, *more: str) -> str:
    done = node.exec("python3", f"{HOME}/probe.py", HOME, NAMESPACE, snapshotter, what, *more)
    assert "Traceback" not in done.stderr
    return done.stdout


def compared(node: Node, snapshotter: str, level: str = "content", *trees: str) -> dict[str, Any]:
    """``trees``: where those that are expected are kept."""
    images: dict[str, Any] = json.loads(probe(node, snapshotter, level, *trees))["images"]
    return images


def leftovers(node: Node) -> str:
    """All that a comparison could leave."""
    snapshots = f"for one in {' '.join(SNAPSHOTTERS)}; do ctr -n {NAMESPACE} snapshots --snapshotter $one ls | sort; done"
    mounts = "cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -c slipway-view"
    return node.ssh(f"{snapshots}; ctr -n {NAMESPACE} leases ls; ls /run /tmp | sort; {mounts}; true").stdout


def files(node: Node, snapshotter: str) -> str:
    """Every file of the snapshots, with all its times."""
    # Looking at a directory for the first time may set its access time.
    where = f"{STORE}/io.containerd.snapshotter.v1.{snapshotter}/snapshots"
    return node.ssh(
        f"find {where} -mindepth 2 -printf '%p %y %m %U %G %s %A@ %T@ %C@\\n' | sort | LC_ALL=C tr -c ' -~\\n' '?'"
    ).stdout


def file_count(node: Node, snapshotter: str, chain: str) -> int:
    """As ctr says that it has to be mounted. overlayfs lists a whiteout that hides nothing, though it isn't there."""
    group = f"ctr -n {NAMESPACE} snapshots --snapshotter {snapshotter}"
    # Garbage collection may take a view away at once.
    label = f"{group} label looking containerd.io/gc.root=test >/dev/null 2>&1"
    view = f"until {label}; do {group} view looking {chain} >/dev/null 2>&1; done"
    mount = f'mkdir -p /root/mounted && {view} && eval "$({group} mounts /root/mounted looking)"'
    count = "cd /root/mounted && find . -mindepth 1 -print0 | xargs -0 stat --format x 2>/dev/null | wc -l; cd /"
    return int(
        node.ssh(
            f"{mount} && {count}; umount /root/mounted; rmdir /root/mounted; {group} rm looking >/dev/null 2>&1; true"
        ).stdout
    )


def test_fresh_images_are_clean_and_are_left_as_they_are(everything: Node, snapshotter: str) -> None:
    collect(everything)
    files(everything, snapshotter)
    before, kept = leftovers(everything), files(everything, snapshotter)
    found = compared(everything, snapshotter)
    assert len(found) == len(SPECIAL) + 2
    assert {image: one for image, one in found.items() if not one["intact"]} == {}
    # More than the options of one mount(8) can name.
    assert found[name("deep")]["total"] == 60 + len(("d", "d/every"))
    assert leftovers(everything) == before
    # Directories of snapshots that are removed go with the next garbage collection.
    collect(everything)
    assert files(everything, snapshotter) == kept
    for image in ("all", "one", "whiteout-and-directory", "opaque-and-implied"):
        assert found[name(image)]["total"] == file_count(everything, snapshotter, found[name(image)]["chain"][-1]), image


# How a file is changed, and what is to be said of it.
CHANGES = {
    "/big": ("true", ""),
    "/empty": ("echo x > {}", "has 2 bytes, should have 0"),
    "/d/file": ("chmod 0755 {}", "has mode 0755, should have 4755"),
    "/d/hard": ("true", "has mode 0755, should have 4755"),
    "/owned": ("chown 0:0 {}", "belongs to 0:0, should belong to 3000000:70000"),
    "/twice": ("truncate -s 0 {}", "is empty, should have 5 bytes"),
    "/relinked": ("cp -a {} {}.x; mv {}.x {}", "is not the same file as /other"),
    "/dangling": ("ln -sfn /elsewhere {}; chown -h 0:0 {}", "leads to /elsewhere, should lead to /nowhere/"),
    "/sticky": ("chmod 0777 {}", "has mode 0777, should have 1777"),
    "/null": ("rm {}; mknod {} c 1 5; chmod 666 {}", "is the device 1:5, should be 1:3"),
    "/pipe": ("rm {}; touch {}; chmod 644 {}", "is a regular file, should be a named pipe"),
    "/no/parents/here": ("rm {}", "missing"),
    "/s/implied": ("rm -r {}", "missing"),
    "/s/implied/file": ("true", "missing"),
    "/added": ("touch {}", "should not be there"),
    "/links/to/added": ("mkdir {}", "should not be there"),
    "/links/to/added/inside": ("touch {}", "should not be there"),
    "/capable": ("setfattr -x security.capability {}", "has no attribute security.capability"),
    "/attributed": ("setfattr -n user.colour -v rot {}", "has the attribute user.colour with another value"),
    "/attributes": ("setfattr -n user.more -v x {}", "has the attribute user.more, should have none"),
    "/loop": ("rm {}; mkdir {}", "is a directory, should be a block device"),
}


def test_each_change_of_a_snapshot_is_named(unpacked: Node, snapshotter: str) -> None:
    found = compared(unpacked, snapshotter)[name("one")]
    assert found["intact"]
    directory = snapshot_directory(unpacked, snapshotter, found["chain"][-1])
    for path, (command, _problem) in CHANGES.items():
        unpacked.ssh(command.replace("{}", f"{directory}{path}"))
    images = compared(unpacked, snapshotter)
    changed = images[name("one")]
    wanted = {path: problem for path, (_command, problem) in CHANGES.items() if problem}
    assert set(changed["differences"]) == set(wanted), changed
    for path, problem in wanted.items():
        assert problem in changed["differences"][path], (path, changed["differences"][path])
    assert not changed["intact"] and changed["count"] == len(wanted)
    # The same layer is the lowest one of another image; on overlayfs that sees what becomes of it.
    above = images[name("all")]
    assert above["intact"] == (snapshotter == "native")
    if snapshotter == "overlayfs":
        assert "/owned" in above["differences"] and "/link" not in above["differences"]


@pytest.mark.two_versions
def test_a_flipped_byte_is_found_by_its_content_alone(unpacked: Node, snapshotter: str) -> None:
    chain = compared(unpacked, snapshotter)[name("one")]["chain"]
    directory = snapshot_directory(unpacked, snapshotter, chain[-1])
    for path, offset in (("/big", 70_000), ("/relinked", 0)):
        file = f"{directory}{path}"
        unpacked.ssh(
            f"touch -r {file} /root/times; printf x | dd of={file} bs=1 seek={offset} conv=notrunc; touch -r /root/times {file}"
        )
    found = compared(unpacked, snapshotter)[name("one")]["differences"]
    linked = dict.fromkeys(("/relinked", "/other"), "has other content from byte 0 on")
    assert found == {"/big": "has other content from byte 70000 on", **linked}
    assert compared(unpacked, snapshotter, "metadata")[name("one")]["intact"]


def snapshot_directory(node: Node, snapshotter: str, chain: str) -> str:
    """Where a lowest layer is unpacked: what a view of it would show."""
    group = f"ctr -n {NAMESPACE} snapshots --snapshotter {snapshotter}"
    mounts = f"until {group} mounts /mnt looking 2>/dev/null; do {group} view looking {chain} >/dev/null; done"
    shown = node.ssh(f"{mounts}; {group} rm looking >/dev/null 2>&1; true").stdout
    return next(line for line in shown.splitlines() if line.startswith("mount ")).split()[3]


def test_damaged_blobs_are_named(unpacked: Node, snapshotter: str) -> None:
    digests = layers(unpacked, "all")
    paths = [f"{STORE}/io.containerd.content.v1.content/blobs/sha256/{digest[7:]}" for digest in digests]
    unpacked.ssh(f"printf x | dd of={paths[1]} bs=1 seek=99 conv=notrunc; truncate -s 0 {paths[2]}")
    found = compared(unpacked, snapshotter)
    assert (found[name("all")]["damaged"], found[name("all")]["intact"]) == (digests[1:], False)
    assert "damaged" in found[name("all")]["unknown"]
    assert found[name("one")]["intact"]
    unpacked.ssh(f"rm {paths[0]}")
    assert compared(unpacked, snapshotter)[name("all")]["damaged"] == digests


def manifest(node: Node, image: str) -> str:
    return node.ssh(f"ctr -n {NAMESPACE} images ls name=={name(image)} | tail -1").stdout.split()[2]


@pytest.mark.two_versions
def test_kept_trees_spare_the_layers_and_say_the_same(unpacked: Node, snapshotter: str) -> None:
    trees = f"{HOME}/trees"
    first = compared(unpacked, snapshotter, "metadata", trees)
    assert first[name("all")]["intact"] and first[name("one")]["intact"]
    assert compared(unpacked, snapshotter, "metadata", trees) == first
    directory = snapshot_directory(unpacked, snapshotter, first[name("one")]["chain"][0])
    unpacked.ssh(f"truncate -s 0 {directory}/big; chmod 0700 {directory}/owned; touch {directory}/added")
    found = compared(unpacked, snapshotter, "metadata")
    assert set(found[name("one")]["differences"]) == {"/big", "/owned", "/added"} and not found[name("one")]["intact"]
    assert compared(unpacked, snapshotter, "metadata", trees) == found
    unpacked.ssh(f"for tree in {trees}/*; do truncate -s -1 $tree; done")
    assert compared(unpacked, snapshotter, "metadata", trees) == found
    # Without the blobs, files are judged by what is kept alone.
    unpacked.ssh(f"rm {STORE}/io.containerd.content.v1.content/blobs/sha256/{layers(unpacked, 'one')[0][7:]}")
    judged = compared(unpacked, snapshotter, "metadata", trees)
    for image in ("one", "all"):
        assert judged[name(image)] == {**found[name(image)], "damaged": layers(unpacked, "one"), "intact": False}
    assert compared(unpacked, snapshotter, "content", trees)[name("one")]["unknown"]


def layers(node: Node, image: str) -> list[str]:
    """Their digests."""
    document = json.loads(node.exec("ctr", "-n", NAMESPACE, "content", "get", manifest(node, image)).stdout)
    return [layer["digest"] for layer in document["layers"]]


@pytest.mark.two_versions
def test_what_is_not_unpacked_is_said(unpacked: Node, snapshotter: str) -> None:
    chain = compared(unpacked, snapshotter)[name("all")]["chain"]
    unpacked.exec("ctr", "-n", NAMESPACE, "snapshots", "--snapshotter", snapshotter, "rm", chain[-1])
    found = compared(unpacked, snapshotter)[name("all")]
    assert not found["intact"] and found["unknown"] == f"it is not unpacked for {snapshotter}" and not found["damaged"]


@pytest.mark.two_versions
def test_a_snapshot_without_its_directory_is_missing(unpacked: Node, snapshotter: str) -> None:
    """So is one that stands on it, where the snapshotter doesn't copy."""
    chain = compared(unpacked, snapshotter)[name("one")]["chain"]
    directory = snapshot_directory(unpacked, snapshotter, chain[-1])
    unpacked.ssh(f"rm -r {directory}")
    for level in ("metadata", "content"):
        found = compared(unpacked, snapshotter, level)
        assert set(found[name("one")]["differences"]) == {"/"} and not found[name("one")]["unknown"]
        assert found[name("all")]["intact"] == (snapshotter == "native")
        assert not found[name("all")]["damaged"] and not found[name("all")]["unknown"]


@pytest.mark.two_versions
def test_a_killed_run_leaves_what_the_next_one_sweeps(unpacked: Node, snapshotter: str) -> None:
    """And garbage collection doesn't take the view from under a running one, nor does another's sweeping."""
    before = leftovers(unpacked)
    chain = compared(unpacked, snapshotter)[name("all")]["chain"][-1]
    hold = f"python3 {HOME}/probe.py {HOME} {NAMESPACE} {snapshotter} hold {chain}"
    unpacked.ssh(f"nohup {hold} > {HOME}/held 2>&1 & echo $! > {HOME}/pid; until grep -q . {HOME}/held; do sleep 0.1; done")
    assert int(daemon.read(unpacked, f"{HOME}/held") or 0) > 10
    running = leftovers(unpacked)
    assert running.count("slipway-view-") == 2, "a view and a directory, but no mount that anybody sees"
    collect(unpacked)
    probe(unpacked, snapshotter, "sweep")
    assert leftovers(unpacked) == running
    unpacked.ssh(f"kill -9 $(cat {HOME}/pid); while kill -0 $(cat {HOME}/pid) 2>/dev/null; do sleep 0.1; done")
    assert leftovers(unpacked) == running
    probe(unpacked, snapshotter, "sweep")
    assert leftovers(unpacked) == before
    probe(unpacked, snapshotter, "sweep")


def collect(node: Node) -> None:
    node.ssh(f"ctr -n {NAMESPACE} leases create --id collect >/dev/null; ctr -n {NAMESPACE} leases rm --sync collect >/dev/null")


@pytest.mark.two_versions
def test_a_debian_is_clean(node: Node, tmp_path: Path) -> None:
    """The node's own image, made by debootstrap; 100 MB are enough for it."""
    daemon.install(node)
    daemon.reset(node)
    copy_probe(node)
    image = run([*PODMAN, "inspect", "--format", "{{.ImageName}}", node.container]).stdout.strip()
    run([*PODMAN, "image", "save", "--quiet", "--format", "docker-archive", "--output", str(tmp_path / "images.tar"), image])
    load(node, tmp_path / "images.tar", "overlayfs")
    try:
        found = json.loads(probe(node, "overlayfs", "content"))
        ((_name, debian),) = found["images"].items()
        assert debian["intact"] and debian["total"] > 5000, debian
        assert found["peak"] < 100_000
    finally:
        cleared(node)
