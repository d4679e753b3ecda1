# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images, containers and toolboxes work on every snapshotter, and a node changes its snapshotter without a network."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, to_text
from nodes import daemon, registry
from nodes.config import arguments
from nodes.fixtures import EVERY_TEST, SUITES, packaged
from nodes.images import busybox, random_layers
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry

ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1."
SCRATCH = "/srv/scratch/ext4"
TABLES: dict[str, dict[str, Any]] = {
    "blockfile": {"blockfile": {"scratch_file": SCRATCH, "fs_type": "ext4"}},
    "erofs": {"erofs": {}},
}
BOX = "/var/lib/toolbox/any"
KUBELET = "k8s.io"
RECORD = "/var/lib/containerd/slipway-pulls.json"
OLD = "overlayfs"
STORE = "/var/lib/containerd/io.containerd"
SCRATCH_TASK, SETTINGS_TASK, CLEANUP_TASK = (
    "Create the scratch file",
    "Apply the settings",
    "Find and remove unused snapshots",
)
# The suites whose containerd supports the snapshotter; native is the same on all.
KINDS = [
    *((suite, "native") for suite in ("bookworm", *EVERY_TEST)),
    *((suite, "blockfile") for suite in SUITES[1:]),
    *((suite, "erofs") for suite in SUITES[2:]),
]


@dataclass(frozen=True)
class Images:
    """Of three layers, the lowest of which they share; both run."""

    server: Registry
    one: str
    two: str


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with registry.serve(tmp_path_factory.mktemp("registry")) as server:
        command = ["/bin/busybox", "sleep", "100000"]
        yield Images(server, *(server.push([busybox(), *random_layers(2)], command=command) for _ in range(2)))


@pytest.fixture
def empty_node(nodes: dict[str, Node], request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node as packaged, without images."""
    with without_images(nodes[request.param]) as node:
        yield node


@contextmanager
def without_images(node: Node) -> Iterator[Node]:
    """Restore the packaged configuration and remove all images, before and after."""
    emptied(node)
    yield packaged(node)
    emptied(node)
    daemon.reset(node)


def emptied(node: Node) -> None:
    node.ssh(
        f"""
        systemctl disable --now var-lib-toolbox-any.mount; rm -f /etc/systemd/system/var-lib-toolbox-any.mount
        for space in default {KUBELET}; do
          ctr -n $space tasks ls -q | xargs -r -n 1 ctr -n $space tasks rm --force
          ctr -n $space containers ls -q | xargs -r ctr -n $space containers rm
          ctr -n $space images ls -q | xargs -r ctr -n $space images rm --sync
          for kind in overlayfs native blockfile erofs; do
            ctr -n $space snapshots --snapshotter $kind ls | awk '$NF == "Active" {{print $1}}' |
              xargs -r -n 1 ctr -n $space snapshots --snapshotter $kind rm
          done
          ctr -n $space leases create --id emptied && ctr -n $space leases rm --sync emptied
        done
        systemctl stop containerd stargz; rm -rf /srv/scratch {ROOT}blockfile/scratch
        systemctl start containerd; systemctl reset-failed
        """,
        check=False,
    )


def succeeded(result: dict[str, Any], **expected: Any) -> dict[str, Any]:
    """The result of a run that didn't fail, and says so."""
    assert not result.get("failed"), result
    assert {key: result[key] for key in expected} == expected, result
    return result


def prepare(node: Node, kind: str) -> None:
    """What the snapshotter needs of the node."""
    if kind == "blockfile":
        made = {"path": SCRATCH, "size": "64M"}
        succeeded(run_module(node, "blockfile_scratch", made), changed=True)
        succeeded(run_module(node, "blockfile_scratch", made), changed=False)
    if kind == "erofs":
        node.ssh("which mkfs.erofs || apt-get -qq install --no-install-recommends erofs-utils >/dev/null")


def configure(node: Node, kind: str | None, *, check: bool = False, **more: Any) -> dict[str, Any]:
    """``kind``: the default snapshotter, None for none."""
    sync = {} if node.suite == "bookworm" else {"image_pull_sync_fs": True}
    wanted = {"snapshotter": kind, "snapshotters": TABLES.get(kind or "", {}), **more}
    return run_module(node, "containerd_config", arguments(**sync, **wanted), check=check)


def unpacked(result: dict[str, Any], **expected: Any) -> list[tuple[str, str]]:
    """The namespaces and names of the images that a change of the default has unpacked."""
    return sorted((one["namespace"], one["name"]) for one in succeeded(result, changed=True, **expected)["images"])


def unused(node: Node, **options: Any) -> dict[str, Any]:
    return succeeded(run_module(node, "containerd_unused_snapshots", options))


def verified(node: Node, *only: str) -> dict[str, dict[str, Any]]:
    result = run_module(node, "node_verify", {"only": list(only), "fail_on": []})
    return {one["id"]: one for one in succeeded(result)["checks"]}


def ensure_images(node: Node, names: list[str], **more: Any) -> dict[str, Any]:
    return run_module(node, "containerd_image", {"name": names, "plain_http": True, **more})


def alive(node: Node, container: str, namespace: str = "default") -> bool:
    rows = [line.split() for line in node.exec("ctr", "-n", namespace, "tasks", "ls").stdout.splitlines()]
    return any(row[0] == container and row[2] == "RUNNING" for row in rows)


@pytest.mark.parametrize(("empty_node", "kind"), KINDS, indirect=["empty_node"])
def test_images_containers_and_toolboxes_on_every_snapshotter(empty_node: Node, kind: str, images: Images) -> None:
    prepare(empty_node, kind)
    succeeded(configure(empty_node, kind), restarted=True)
    succeeded(configure(empty_node, kind), changed=False)
    succeeded(ensure_images(empty_node, [images.one, images.two]), snapshotter=kind)
    there = succeeded(ensure_images(empty_node, [images.one, images.two], integrity="content"), changed=False)["images"]
    assert [one["integrity"] for one in there] == ["intact"] * 2
    single = images.server.push(random_layers(1))
    succeeded(ensure_images(empty_node, [single]))
    compared = succeeded(ensure_images(empty_node, [single], integrity="metadata"), changed=False)["images"]
    assert compared[0]["integrity"] == "intact"
    durability = "durable" if kind == "native" else "unknown"
    listed = succeeded(run_module(empty_node, "containerd_image_info", {"name": [images.one, images.two]}))["images"]
    assert {one["durability"] for one in (*there, *listed)} == {durability}

    ran = empty_node.ssh(f"ctr run --rm --snapshotter {kind} --cpu-shares 0 {images.one} once /bin/busybox ls /").stdout
    assert {"bin", "layer0", "layer1"} <= set(ran.split())

    box = {"name": "any", "image": images.one, "state": "mounted"}
    if kind == "erofs" and empty_node.line >= (2, 2):
        refused = run_module(empty_node, "toolbox_snapshot", box)
        assert refused["failed"] and "state mounted isn't possible on erofs" in refused["msg"], refused
        box["state"] = "present"
    succeeded(run_module(empty_node, "toolbox_snapshot", box), changed=True)
    succeeded(run_module(empty_node, "toolbox_snapshot", box), changed=False)
    if box["state"] == "mounted":
        survives(empty_node, images.one)
    listed = succeeded(run_module(empty_node, "toolbox_snapshot_info", {"listed_paths": [BOX]}), errors=[])["toolboxes"]
    assert [one["path"] for one in listed] == [BOX]
    succeeded(run_module(empty_node, "toolbox_snapshot", {"name": "any", "state": "absent"}), changed=True)

    checks = verified(
        empty_node, "snapshotters", "snapshotter_requirements", "images_unpacked", "discarded_layers", "durability_cri"
    )
    durable = checks.pop("durability_cri")
    assert {one["status"] for one in checks.values()} == {"ok"}, checks
    assert durable["status"] == ("unknown" if kind != "native" else "warn" if empty_node.suite == "bookworm" else "ok"), durable


def survives(node: Node, image: str) -> None:
    """What is written to the toolbox outlives its image and a restart of the daemon."""
    node.ssh(f"test -x {BOX}/bin/busybox && echo kept > {BOX}/layer0/note && ctr images rm --sync {image}")
    shown = f"cat {BOX}/layer0/note; findmnt --noheadings --output ID {BOX}"
    before = node.ssh(shown).stdout
    node.ssh("systemctl restart containerd")
    assert before.startswith("kept\n") and node.ssh(shown).stdout == before


@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_a_file_of_an_image_on_blockfile_is_compared(empty_node: Node, images: Images) -> None:
    prepare(empty_node, "blockfile")
    succeeded(configure(empty_node, "blockfile"))
    succeeded(ensure_images(empty_node, [images.one]))
    empty_node.ssh(
        f"""
        file={ROOT}blockfile/snapshots/$(ls {ROOT}blockfile/snapshots | sort -n | tail -1)
        mount -o loop $file /mnt && printf x | dd of=/mnt/layer1/file0 conv=notrunc status=none && umount /mnt
        """
    )
    damaged = ensure_images(empty_node, [images.one], integrity="content", pull="missing")
    assert damaged["failed"] and list(damaged["images"][0]["differences"]) == ["/layer1/file0"], damaged
    mended = succeeded(ensure_images(empty_node, [images.one], integrity="content", repair=True))
    assert mended["images"][0]["integrity"] == "repaired"
    # The list of loop devices is the machine's: other nodes have files of the same name. The kernel detaches a device later.
    attached = f"for one in {ROOT}blockfile/snapshots/*; do losetup --associated $one; done | grep -q ."
    empty_node.ssh(f"for _ in $(seq 100); do {attached} || exit 0; sleep 0.1; done; exit 1")


def snapshots(node: Node, kind: str, namespace: str = "default") -> set[str]:
    shown = node.exec("ctr", "-n", namespace, "snapshots", "--snapshotter", kind, "ls").stdout
    return {line.split()[0] for line in shown.splitlines()[1:]}


@pytest.mark.parametrize(("empty_node", "kind"), [("bookworm", "native"), ("2.3", "erofs")], indirect=["empty_node"])
def test_to_another_snapshotter_and_back_without_a_network(empty_node: Node, kind: str, images: Images) -> None:
    prepare(empty_node, kind)
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one, images.two]))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    empty_node.ssh(f"ctr images tag {images.one} example.com/again:1; ctr run --detach --cpu-shares 0 {images.one} stays")
    succeeded(ensure_images(empty_node, ["example.com/again:1"]))
    # As if a run had been killed: what it has recorded is of one namespace alone.
    boot = empty_node.ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip()
    empty_node.ssh(f"echo {shlex.quote(to_text([Pull(boot, 'default', kind, (images.one,), (), ())]))} > {RECORD}")
    everything = sorted([("default", images.one), ("default", images.two), (KUBELET, images.one)])
    with images.server.away():
        for check in (True, False):
            moved = configure(empty_node, kind, check=check)
            assert unpacked(moved, restarted=True, previous_snapshotter=OLD) == everything
            assert bool(snapshots_or_none(empty_node, kind)) is not check
        assert moved["synced"] and 0 < moved["needed_bytes"] < moved["free_bytes"], moved
        succeeded(configure(empty_node, kind), changed=False, images=[])
        names = [images.one, images.two, "example.com/again:1"]
        there = succeeded(ensure_images(empty_node, names, integrity="content"), changed=False, snapshotter=kind)
        assert {one["integrity"] for one in there["images"]} == {"intact"}
        assert alive(empty_node, "stays")

        by_namespace = {one["namespace"]: one for one in unused(empty_node)["unused_snapshots"]}
        assert by_namespace["default"]["layers"] == 5 and by_namespace["default"]["used_by"] == ["container stays"], by_namespace
        assert by_namespace["default"]["removable_layers"] == 2
        assert 0 < by_namespace["default"]["removable_bytes"] < by_namespace["default"]["size_bytes"]
        assert by_namespace[KUBELET]["removable_layers"] == by_namespace[KUBELET]["layers"] == 3
        gone = succeeded(unused(empty_node, remove=True), changed=True)
        assert gone["freed_bytes"] == by_namespace["default"]["removable_bytes"] + by_namespace[KUBELET]["removable_bytes"]
        assert len(snapshots(empty_node, OLD)) == 4 and not snapshots(empty_node, OLD, KUBELET)
        assert f"slipway.node/synced.{OLD}" not in empty_node.exec("ctr", "-n", KUBELET, "images", "ls").stdout
        succeeded(unused(empty_node, remove=True), changed=False, freed_bytes=0)

        # The inventory names none any more.
        assert unpacked(configure(empty_node, None), restarted=True) == sorted([("default", images.two), (KUBELET, images.one)])
        succeeded(unused(empty_node, remove=True), changed=True)
        assert not snapshots(empty_node, kind) and not snapshots(empty_node, kind, KUBELET)
        there = succeeded(ensure_images(empty_node, names, integrity="content"), changed=False, snapshotter=OLD)
        assert {one["integrity"] for one in there["images"]} == {"intact"}
        assert alive(empty_node, "stays")


@pytest.mark.parametrize("empty_node", SUITES, indirect=True)
def test_an_image_of_another_platform_is_listed_when_the_default_changes(empty_node: Node, images: Images) -> None:
    """It is unpacked for the old snapshotter, as ``ctr images pull --all-platforms`` does."""
    other = images.server.push(random_layers(1), architecture="s390x")
    local = "" if empty_node.suite == "bookworm" else "--local"
    succeeded(ensure_images(empty_node, [images.one]))
    empty_node.ssh(f"ctr images pull --plain-http --all-platforms {local} {other}")
    assert len(snapshots(empty_node, OLD)) == 4
    compared = run_module(empty_node, "containerd_image", {"all": True, "integrity": "metadata", "durable": False})
    assert [one["name"] for one in succeeded(compared, changed=False)["images"]] == [images.one]
    for check in (True, False):
        moved = configure(empty_node, "native", check=check)
        assert unpacked(moved, restarted=True) == [("default", images.one)]
        assert moved["skipped_images"].keys() == {f"{other} in default"}
        assert "it is for linux/s390x" in moved["skipped_images"][f"{other} in default"]
    assert default_snapshotter(empty_node) == "native"


@pytest.mark.smoke
@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_the_role_unpacks_before_it_changes_the_default(empty_node: Node, images: Images) -> None:
    wanted = {"containerd_images": [{"name": images.one, "plain_http": True}]}
    blockfile = {
        "containerd_snapshotter": "blockfile",
        "containerd_snapshotters": TABLES["blockfile"],
        "containerd_blockfile_scratch_size": "64M",
    }
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    empty_node.ssh(f"ctr -n {KUBELET} run --detach --cpu-shares 0 {images.one} stays")
    with images.server.away():
        predicted = changes(empty_node, {**wanted, **blockfile}, check=True)
        assert not snapshots_or_none(empty_node, "blockfile")
        assert changes(empty_node, {**wanted, **blockfile}) == predicted == [SCRATCH_TASK, SETTINGS_TASK]
        assert changes(empty_node, {**wanted, **blockfile}) == []
        assert len(snapshots(empty_node, "blockfile", KUBELET)) == 3 and alive(empty_node, "stays", KUBELET)
        back = {**wanted, "containerd_snapshotter": OLD, "containerd_remove_unused_snapshots": True}
        assert changes(empty_node, back) == [SETTINGS_TASK, CLEANUP_TASK]
        assert not snapshots(empty_node, "blockfile", KUBELET) and alive(empty_node, "stays", KUBELET)


@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_images_are_unpacked_for_the_default_that_comes_back_when_the_inventory_names_none(
    empty_node: Node, images: Images
) -> None:
    succeeded(configure(empty_node, "native"))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    assert changes(empty_node, {}, check=True) == changes(empty_node, {}) == [SETTINGS_TASK]
    assert len(snapshots(empty_node, OLD, KUBELET)) == 3


@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_a_daemon_that_does_not_run_is_given_its_images_after_its_start(empty_node: Node, images: Images) -> None:
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    empty_node.ssh("systemctl stop containerd")
    predicted = succeeded(configure(empty_node, "native", check=True), changed=True, images=[])
    assert "doesn't answer" in str(predicted["warnings"]), predicted
    assert unpacked(configure(empty_node, "native")) == [(KUBELET, images.one)]
    assert len(snapshots(empty_node, "native", KUBELET)) == 3 and daemon.is_well(empty_node)


@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_a_snapshotter_that_has_what_it_needs_by_now_is_loaded_beside_the_default(empty_node: Node, images: Images) -> None:
    prepare(empty_node, "blockfile")
    table = TABLES["blockfile"]
    succeeded(configure(empty_node, None, snapshotters=table))
    succeeded(ensure_images(empty_node, [images.one]))
    # It was started without.
    empty_node.ssh(f"rm {ROOT}blockfile/scratch; mv {SCRATCH} /srv/away; systemctl restart containerd; mv /srv/away {SCRATCH}")
    succeeded(configure(empty_node, None, snapshotters=table), changed=False)
    assert unpacked(configure(empty_node, "blockfile")) == [("default", images.one)]
    assert len(snapshots(empty_node, "blockfile")) == 3
    succeeded(configure(empty_node, "blockfile"), changed=False)


@pytest.mark.parametrize(("restart", "reached"), [(1, "overlayfs"), (2, "blockfile")])
@pytest.mark.parametrize("empty_node", EVERY_TEST, indirect=True)
def test_a_change_of_the_default_that_is_killed_is_finished_by_the_next_run(
    empty_node: Node, images: Images, restart: int, reached: str
) -> None:
    prepare(empty_node, "blockfile")
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    killed_at_restart(empty_node, restart)
    assert configure(empty_node, "blockfile").get("failed")
    empty_node.ssh("rm /usr/local/sbin/systemctl")
    # The second restart comes after unpacking; the old default still runs.
    assert bool(snapshots_or_none(empty_node, "blockfile")) is (restart == 2)
    assert default_snapshotter(empty_node) == reached and daemon.record(empty_node)["pending"]
    with images.server.away():
        result = configure(empty_node, "blockfile")
        assert unpacked(result, previous_snapshotter=OLD) == ([] if restart == 2 else [(KUBELET, images.one)])
        assert len(snapshots(empty_node, "blockfile", KUBELET)) == 3
    assert default_snapshotter(empty_node) == "blockfile" and daemon.is_well(empty_node)
    assert not daemon.record(empty_node).get("pending")
    succeeded(configure(empty_node, "blockfile"), changed=False)


def files(node: Node) -> list[str | None]:
    """The contents of the files that a run changes."""
    return [daemon.read(node, path) for path in (daemon.ROOT, daemon.DROP_IN, daemon.RECORD)]


def killed_at_restart(node: Node, number: int) -> None:
    """Have the run killed that restarts a unit for the n-th time."""
    script = f"""#!/bin/sh
        [ "$1" = restart ] && echo >> /run/restarts && [ $(wc -l < /run/restarts) = {number} ] && kill -9 $PPID && exit 1
        exec /usr/bin/systemctl "$@"
    """
    daemon.write(node, "/usr/local/sbin/systemctl", script)
    node.ssh("rm -f /run/restarts; chmod +x /usr/local/sbin/systemctl")


def default_snapshotter(node: Node) -> str:
    """CRI's, as the files have it."""
    plugins = daemon.dump(node)["plugins"]
    found: str = plugins[daemon.CRI]["containerd"]["snapshotter"] if node.line < (2,) else plugins[daemon.IMAGES]["snapshotter"]
    return found


@pytest.mark.smoke
@pytest.mark.parametrize("empty_node", EVERY_TEST, indirect=True)
def test_a_snapshotter_that_fails_leaves_the_old_default(empty_node: Node, images: Images) -> None:
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET))
    before = files(empty_node)
    # A thin pool's device that is none: nothing tells so beforehand.
    empty_node.ssh("mkdir -p /dev/mapper; touch /dev/mapper/nopool")
    pool = {"devmapper": {"pool_name": "nopool", "base_image_size": "1GB"}}
    result = configure(empty_node, "devmapper", snapshotters=pool)
    empty_node.ssh("rm /dev/mapper/nopool")
    assert result["failed"] and result["rolled_back"] and "the snapshotter devmapper is" in result["msg"], result
    assert files(empty_node) == before and default_snapshotter(empty_node) == OLD and daemon.is_well(empty_node)
    succeeded(ensure_images(empty_node, [images.one], namespace=KUBELET), changed=False, snapshotter=OLD)
    succeeded(configure(empty_node, None), changed=False)


def top_layer(node: Node, namespace: str) -> str:
    """The directory of overlayfs that has the topmost layer of the namespace's only image."""
    ctr = f"ctr -n {namespace} snapshots"
    scripts = [
        f"{ctr} prepare look {chain} >/dev/null; {ctr} mounts /x look; {ctr} rm look" for chain in snapshots(node, OLD, namespace)
    ]
    # The one over all layers has the longest options.
    longest = max((node.ssh(script).stdout for script in scripts), key=len)
    found = re.search(r"lowerdir=([^:,]+)", longest)
    assert found, longest
    return found[1]


def snapshots_or_none(node: Node, kind: str) -> str:
    return node.ssh(f"ctr -n {KUBELET} snapshots --snapshotter {kind} ls 2>/dev/null | tail -n +2", check=False).stdout


def changes(node: Node, variables: dict[str, Any], *, check: bool = False) -> list[str]:
    """The tasks that changed something, in their order."""
    played = node.play("slipway.node.provision", variables, check=check)
    tasks = [
        (task["task"]["name"].split(" : ")[-1], task["hosts"][node.name])
        for play in played["plays"]
        for task in play["tasks"]
        if node.name in task["hosts"]
    ]
    assert played["stats"][node.name]["failures"] == 0, [result.get("msg") for _name, result in tasks if result.get("failed")]
    return [name for name, result in tasks if result.get("changed")]


def refused(node: Node, kind: str, table: dict[str, Any] | None, *words: str, creatable: bool = False) -> None:
    """Check mode refuses as well, but for what an earlier task may create (``creatable``): that is a warning."""
    tables = {} if table is None else {kind: table}
    for check in (True, False):
        result = run_module(node, "containerd_config", arguments(snapshotter=kind, snapshotters=tables), check=check)
        warned = check and creatable
        assert bool(result.get("failed")) is not warned and not result["rolled_back"], result
        said = str(result["warnings"]) if warned else result["msg"]
        assert all(word in said for word in words) and (warned or said.count(": ") <= 3), said


@pytest.mark.smoke
@pytest.mark.parametrize("empty_node", ["trixie"], indirect=True)
def test_what_a_snapshotter_lacks_is_said_before_the_daemon_is_touched(empty_node: Node, images: Images) -> None:
    succeeded(configure(empty_node, None))
    succeeded(ensure_images(empty_node, [images.one]))
    empty_node.ssh("mkdir -p /srv/scratch; cd /srv/scratch; truncate -s 1M empty; mkfs.ext4 -q cut 32M; truncate -s 1M cut")
    before = daemon.etc_hashes(empty_node), daemon.main_pid(empty_node)
    refused(empty_node, "imaginary", None, "no snapshotter 'imaginary'", "proxy plugin")
    refused(empty_node, "erofs", {}, "containerd 2.1.0 or newer", "1.7.24")
    refused(empty_node, "devmapper", None, "pool_name")
    refused(empty_node, "devmapper", {"pool_name": "nopool", "base_image_size": "1GB"}, "/dev/mapper/nopool", creatable=True)
    refused(empty_node, "lazy", {"address": "/run/nowhere.sock"}, "no socket /run/nowhere.sock", "start the service")
    refused(empty_node, "blockfile", {}, "scratch_file", "blockfile_scratch")
    refused(empty_node, "blockfile", {"scratch_file": "/srv/scratch/none"}, "no file /srv/scratch/none", creatable=True)
    refused(empty_node, "blockfile", {"scratch_file": "/srv/scratch/empty"}, "holds no file system")
    refused(empty_node, "blockfile", {"scratch_file": "/srv/scratch/cut"}, "cut short")
    refused(empty_node, "blockfile", {"scratch_file": "/srv/scratch/cut", "fs_type": "xfs"}, "nouuid")
    for size, words in (("1P", "too little space"), ("1M", "at least 8 MiB"), ("much", "a size such as 10G")):
        result = run_module(empty_node, "blockfile_scratch", {"path": SCRATCH, "size": size})
        assert words in result["msg"], result
    empty_node.ssh(f"mount -t tmpfs -o size=1m tmpfs {ROOT}native")
    result = configure(empty_node, "native")
    # containerd may still be removing a snapshot there.
    empty_node.ssh(f"for _ in $(seq 60); do umount {ROOT}native && exit; sleep 1; done; exit 1")
    assert "too little space for native" in result["msg"] and "MiB" in result["msg"], result
    assert not snapshots(empty_node, "native")
    assert (daemon.etc_hashes(empty_node), daemon.main_pid(empty_node)) == before


@pytest.mark.parametrize("empty_node", ["2.3"], indirect=True)
def test_erofs_is_set_up_whole_or_not_at_all(empty_node: Node) -> None:
    prepare(empty_node, "erofs")
    succeeded(configure(empty_node, None))
    before = daemon.main_pid(empty_node)
    empty_node.ssh("mv /usr/bin/mkfs.erofs /usr/bin/mkfs.away")
    refused(empty_node, "erofs", {}, "no program mkfs.erofs", "install erofs-utils", creatable=True)
    empty_node.ssh("printf '#!/bin/sh\\necho mkfs.erofs 1.5\\n' > /usr/bin/mkfs.erofs; chmod +x /usr/bin/mkfs.erofs")
    refused(empty_node, "erofs", {}, "of version 1.5", "needs 1.7")
    empty_node.ssh("mv /usr/bin/mkfs.away /usr/bin/mkfs.erofs")
    assert daemon.main_pid(empty_node) == before
    succeeded(configure(empty_node, "erofs"), restarted=True)
    plugins = daemon.dump(empty_node)["plugins"]
    assert plugins["io.containerd.service.v1.diff-service"]["default"] == ["erofs", "walking"]
    unpack = plugins["io.containerd.transfer.v1.local"]["unpack_config"]
    assert [(one["snapshotter"], one["differ"]) for one in unpack] == [("overlayfs", "walking"), ("erofs", "erofs")]


@pytest.mark.parametrize("empty_node", ["sid"], indirect=True)
def test_a_toolbox_on_erofs_is_mounted_at_boot_and_never_over_empty_directories(empty_node: Node, images: Images) -> None:
    prepare(empty_node, "erofs")
    succeeded(configure(empty_node, "erofs"))
    box = {"name": "any", "image": images.one, "state": "mounted"}
    succeeded(ensure_images(empty_node, [images.one]))
    succeeded(run_module(empty_node, "toolbox_snapshot", box), changed=True)
    empty_node.ssh(f"echo kept > {BOX}/note; sync")
    empty_node.reboot()
    assert empty_node.ssh(f"cat {BOX}/note; test -x {BOX}/bin/busybox").stdout == "kept\n"
    succeeded(run_module(empty_node, "toolbox_snapshot", box), changed=False)
    # As before a boot's first mount: containerd hasn't been asked for anything.
    ctr = empty_node.program("ctr")
    forget = "systemctl stop var-lib-toolbox-any.mount; findmnt --types erofs --noheadings --output TARGET | xargs umount"
    empty_node.ssh(f"{forget}; mv {ctr} {ctr}.away")
    mounted = empty_node.ssh("systemctl start var-lib-toolbox-any.mount", check=False).returncode
    empty_node.ssh(f"mv {ctr}.away {ctr}")
    assert mounted != 0 and empty_node.ssh(f"ls -A {BOX}").stdout == ""
    succeeded(run_module(empty_node, "toolbox_snapshot", box), changed=True)
    assert empty_node.ssh(f"cat {BOX}/note; test -x {BOX}/bin/busybox").stdout == "kept\n"
    succeeded(run_module(empty_node, "toolbox_snapshot", {"name": "any", "state": "absent"}), changed=True)
    assert empty_node.ssh("ls /etc/systemd/system | grep toolbox", check=False).stdout == ""


@pytest.mark.parametrize("empty_node", EVERY_TEST, indirect=True)
def test_a_proxy_is_told_of_layers_and_its_service_is_looked_for(empty_node: Node) -> None:
    # The socket has its name once it answers.
    serve = (
        "import os, socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/run/lazy.new'); s.listen(); "
        "os.rename('/run/lazy.new', '/run/lazy.sock'); time.sleep(1e6)"
    )
    empty_node.ssh(
        f'rm -f /run/lazy.*; systemd-run --quiet --unit stargz python3 -c "{serve}" && '
        "until test -S /run/lazy.sock; do sleep 0.1; done"
    )
    lazy = {"address": "/run/lazy.sock"}
    succeeded(
        configure(empty_node, None, runtimes=[{"name": "lazy", "snapshotter": "lazy"}], snapshotters={"lazy": lazy}),
        restarted=True,
    )
    dump = daemon.dump(empty_node)
    images = dump["plugins"][daemon.CRI]["containerd"] if empty_node.line < (2,) else dump["plugins"][daemon.IMAGES]
    assert images["disable_snapshot_annotations"] is False
    exports = dump["proxy_plugins"]["lazy"]["exports"] or {}
    assert exports.get("enable_remote_snapshot_annotations") == ("true" if empty_node.line >= (2,) else None)
    assert verified(empty_node, "snapshotter_requirements")["snapshotter_requirements"]["status"] == "ok"
    empty_node.ssh("systemctl stop stargz")
    found = verified(empty_node, "snapshotters", "snapshotter_requirements")
    assert {one["status"] for one in found.values()} == {"fail"}, found
    assert "no service answers at /run/lazy.sock" in str(found["snapshotter_requirements"]["found"])


@pytest.fixture(scope="class", params=["trixie"])
def changed_node(request: pytest.FixtureRequest, nodes: dict[str, Node], images: Images) -> Iterator[Node]:
    with without_images(nodes[request.param]) as node:
        succeeded(configure(node, None))
        succeeded(ensure_images(node, [images.one], namespace=KUBELET))
        assert verified(node, "images_unpacked")["images_unpacked"]["status"] == "ok"
        succeeded(configure(node, "native", restart="never"), images=[])
        node.ssh("systemctl restart containerd")
        yield node


@pytest.mark.smoke
class TestDefaultChangedByHand:
    """The file names another default, and the daemon was restarted: the image is unpacked for overlayfs alone."""

    def test_verify_names_the_snapshotters_of_an_image_that_is_not_unpacked(self, changed_node: Node) -> None:
        found = verified(changed_node, "images_unpacked")["images_unpacked"]
        assert found["status"] == "warn" and "overlayfs" in str(found["found"]), found
        assert "snapshotter: native" in found["remedy"], found

    def test_the_only_layers_of_an_image_are_not_removed(self, changed_node: Node) -> None:
        stays = succeeded(unused(changed_node, remove=True), changed=False, freed_bytes=0)
        assert "no snapshotter in use has" in str(stays["unused_snapshots"]) and snapshots(changed_node, OLD, KUBELET), stays

    def test_verify_is_satisfied_once_the_image_is_unpacked(self, changed_node: Node, images: Images) -> None:
        succeeded(ensure_images(changed_node, [images.one], namespace=KUBELET, snapshotter="native"), changed=True)
        assert verified(changed_node, "images_unpacked")["images_unpacked"]["status"] == "ok"


@pytest.fixture(scope="class", params=["trixie"])
def handler_node(request: pytest.FixtureRequest, nodes: dict[str, Node], images: Images) -> Iterator[Node]:
    with without_images(nodes[request.param]) as node:
        succeeded(configure(node, None))
        succeeded(ensure_images(node, [images.one], namespace=KUBELET))
        discard = {"plugins": {daemon.CRI: {"containerd": {"discard_unpacked_layers": True}}}}
        succeeded(configure(node, "native", runtimes=[{"name": "other", "snapshotter": OLD}], extra_config=discard))
        yield node


class TestHandlerWithItsOwnSnapshotter:
    """The default is native, a runtime handler uses overlayfs, and the image is unpacked for both."""

    def integrity(self, node: Node) -> dict[str, Any]:
        """The finding of the check image_integrity."""
        compared = run_module(node, "node_verify", {"only": ["image_integrity"], "integrity": "metadata", "fail_on": []})
        found: dict[str, Any] = succeeded(compared)["checks"][0]
        return found

    def empty_a_file(self, node: Node) -> None:
        """Damage the layer on overlayfs."""
        node.ssh(f": > {top_layer(node, KUBELET)}/layer1/file0")

    def test_verify_fails_if_cri_discards_layers(self, handler_node: Node) -> None:
        found = verified(handler_node, "discarded_layers")["discarded_layers"]
        assert found["status"] == "fail" and "discard_unpacked_layers" in found["found"], found

    def test_verify_compares_the_handlers_images_too(self, handler_node: Node) -> None:
        assert self.integrity(handler_node)["status"] == "ok"
        self.empty_a_file(handler_node)
        found = self.integrity(handler_node)
        assert found["status"] == "fail" and all("(overlayfs)" in name for name in found["found"]), found

    def test_the_playbook_repairs_the_handlers_images(self, handler_node: Node) -> None:
        self.empty_a_file(handler_node)
        play = handler_node.play("slipway.node.repair", {"repair_namespaces": [KUBELET]})
        assert play["stats"][handler_node.name]["failures"] == 0
        assert self.integrity(handler_node)["status"] == "ok"

    def test_verify_reports_a_damaged_manifest(self, handler_node: Node) -> None:
        digest = (
            handler_node.ssh(f"ctr -n {KUBELET} images ls | awk 'NR == 2 {{print $3}}'").stdout.strip().removeprefix("sha256:")
        )
        handler_node.ssh(f"f=$(find {STORE}.content.v1.content/blobs -name {digest}); : > $f")
        found = self.integrity(handler_node)
        assert found["status"] == "fail" and "damaged in the content store" in str(found["found"]), found


@pytest.mark.parametrize("suite", SUITES[2:])
def test_every_key_of_erofs_that_the_version_knows_arrives(nodes: dict[str, Node], suite: str) -> None:
    node = packaged(nodes[suite])
    prepare(node, "erofs")
    keys: dict[tuple[int, int], dict[str, Any]] = {
        (2, 1): {"set_immutable": False, "mkfs_options": ["-x-1"], "ovl_mount_options": []},
        (2, 2): {"default_size": "64M", "enable_tar_index": False},
        (2, 3): {"dmverity_mode": "off", "enable_dmverity": False},
        (2, 4): {"layer_content_caches": ["/srv/layers"]},
    }
    known = {key: value for line, table in keys.items() if node.line >= line for key, value in table.items()}
    succeeded(run_module(node, "containerd_config", arguments(snapshotters={"erofs": known})), changed=True)
    plugins = daemon.dump(node)["plugins"]
    found = {**plugins["io.containerd.snapshotter.v1.erofs"], **plugins["io.containerd.differ.v1.erofs"]}
    assert {key: found[key] for key in known} == known
    for line, table in keys.items():
        for key, value in table.items() if node.line < line else ():
            refused = run_module(node, "containerd_config", arguments(snapshotters={"erofs": {key: value}}))
            assert f"snapshotters.erofs.{key} needs containerd {line[0]}.{line[1]}.0" in refused["msg"]
