# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A toolbox survives garbage collection, reboots, failures and killed runs, and is removed completely on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.toolbox_module import (
    COLLECT,
    FRESH,
    PATH,
    UNIT,
    UNITS,
    box,
    emptied,
    empty_node,
    info,
    is_mounted,
    process_inside,
    refused,
    shown,
    steps_of,
    without_toolboxes,
)

from nodes import daemon, own_disk, registry
from nodes.fixtures import SUITES
from nodes.images import Layer, busybox, chain_ids, random_layers, write_layout
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry
from nodes.toolboxes import enterable

__all__ = ["empty_node"]

ANEW: dict[str, Any] = {"on_image_change": "recreate"}
# Binds are the same in every version.
SNAPSHOTTERS = [*((suite, "overlayfs") for suite in SUITES), ("bookworm", "native")]


@contextmanager
def killing(node: Node, *moments: str) -> Iterator[dict[str, Any]]:
    """Options with which the module is killed when it is about to run one of these commands, each once."""
    cases = "\n".join(
        f'  *"{moment}"*) [ -e /run/killed/{number} ] || {{ touch /run/killed/{number}; kill -9 $PPID; exit 1; }};;'
        for number, moment in enumerate(moments)
    )
    node.ssh(
        f"rm -rf /run/killed; mkdir -p /run/killed /run/killing; ln -sf {node.program('containerd')} /run/killing/containerd"
    )
    for path, program in (("/run/killing/ctr", node.program("ctr")), ("/usr/local/sbin/systemctl", "/usr/bin/systemctl")):
        daemon.write(node, path, f'#!/bin/sh\ncase "${{0##*/}} $*" in\n{cases}\nesac\nexec {program} "$@"')
        node.ssh(f"chmod +x {path}")
    try:
        yield {"binary": "/run/killing/containerd"}
    finally:
        node.ssh("rm -rf /run/killing /usr/local/sbin/systemctl")


def killed(node: Node) -> int:
    return len(node.ssh("ls /run/killed").stdout.split())


def push_again(source: Registry, directory: Path, reference: str, layers: list[Layer]) -> None:
    """Move the reference's tag to another image."""
    source.push_layout(write_layout(directory, layers), reference)


@pytest.mark.smoke
def test_check_mode_is_exact_and_the_second_run_is_a_look(empty_node: Node, source: Registry) -> None:
    layers = random_layers(3, seed=300)
    reference = source.push(layers)
    before = shown(empty_node)
    predicted = box(empty_node, reference, check=True, labels={"team": "storage"})
    assert steps_of(predicted) == FRESH
    assert shown(empty_node) == before
    made = box(empty_node, reference, labels={"team": "storage"})
    assert steps_of(made) == predicted["steps"] and made["diff"] == predicted["diff"]
    same = ("key", "path", "parent", "pinned", "mounted", "adopted", "image_drift", "freed_bytes", "unit")
    assert [made[key] for key in same] == [predicted[key] for key in same]
    assert (made["key"], made["parent"], made["unit"]) == (PATH, chain_ids(layers)[-1], UNIT)
    found = info(empty_node)
    assert found["Labels"]["containerd.io/gc.root"] and found["Labels"]["team"] == "storage" and found["Kind"] == "Active"
    assert empty_node.ssh(f"cd {PATH} && ls && systemctl is-enabled {UNIT} && systemctl is-active {UNIT}").stdout.split() == [
        "layer0", "layer1", "layer2", "enabled", "active",
    ]  # fmt: skip
    assert empty_node.exec("systemd-escape", "--path", "--suffix=mount", PATH).stdout.strip() == UNIT
    before = shown(empty_node)
    for check in (True, False):
        assert steps_of(box(empty_node, reference, check=check, labels={"team": "storage"})) == []
    assert shown(empty_node) == before


def test_by_tag_and_digest_it_is_made_of_what_the_node_has(empty_node: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path) as server:
        reference = server.push(random_layers(1, seed=303))
        there = run_module(empty_node, "containerd_image", {"name": [reference], "plain_http": True})
    both = f"{reference}@{there['images'][0]['digest']}"
    predicted = box(empty_node, both, check=True)
    assert steps_of(box(empty_node, both)) == steps_of(predicted) and is_mounted(empty_node)
    assert steps_of(box(empty_node, both)) == []


@pytest.mark.two_versions
def test_its_files_stay_while_it_is_not_mounted(empty_node: Node, source: Registry) -> None:
    reference = source.push(random_layers(1, seed=305))
    assert steps_of(box(empty_node, reference)) == FRESH
    empty_node.ssh(f"echo kept > {PATH}/file")
    for state, steps in (("present", ["unmount", "disable"]), ("mounted", ["unit", "enable", "mount"])):
        predicted = box(empty_node, reference, state=state, check=True)
        changed = box(empty_node, reference, state=state)
        assert steps_of(changed) == steps_of(predicted) == steps and changed["diff"] == predicted["diff"]
        assert is_mounted(empty_node) == (state == "mounted") and steps_of(box(empty_node, reference, state=state)) == []
    assert empty_node.ssh(f"cat {PATH}/file").stdout == "kept\n"


@pytest.mark.smoke
def test_garbage_collection_leaves_it_alone(empty_node: Node, source: Registry) -> None:
    reference = source.push([*enterable(), *random_layers(1, seed=310)])
    assert steps_of(box(empty_node, reference)) == FRESH
    empty_node.ssh(
        f"echo kept > {PATH}/file; mkdir /run/held; ctr images mount --rw {reference} /run/held; echo lost > /run/held/file"
    )
    empty_node.ssh("ctr leases rm --sync /run/held")
    assert empty_node.ssh("mountpoint -q /run/held && ls -A /run/held").stdout == ""
    assert empty_node.ssh("ctr leases ls -q").stdout == ""
    empty_node.ssh(f"ctr images rm --sync {reference}; {COLLECT}; systemctl restart containerd; {COLLECT}")
    assert empty_node.ssh(f"cat {PATH}/file; ls {PATH}; echo more > {PATH}/layer0/file0").stdout.split() == [
        "kept", "bin", "etc", "file", "layer0", "usr",
    ]  # fmt: skip
    # What Flatcar's command looks for, and what systemd-nspawn does with it, as far as that goes with cgroup v1.
    entered = empty_node.ssh(
        f"test -f {PATH}/etc/os-release; mkdir -p {PATH}/media/root; unshare --mount --propagation private sh -c "
        f"'mount --rbind / {PATH}/media/root && chroot {PATH} /bin/cat /etc/os-release /media/root/etc/hostname'"
    )
    assert entered.stdout.split() == ["ID=boxed", empty_node.ssh("cat /etc/hostname").stdout.strip()]
    looked = box(empty_node, reference)
    assert steps_of(looked) == [] and looked["image_drift"] is None
    empty_node.ssh("umount /run/held")


def test_a_leased_toolbox_is_taken_over_and_never_unprotected(empty_node: Node, source: Registry) -> None:
    layers = [busybox(), *random_layers(1, seed=320)]
    reference = source.push(layers)
    empty_node.ssh(
        f"ctr images pull --plain-http {reference} >/dev/null; mkdir -p {PATH}; ctr images mount --rw {reference} {PATH}/"
    )
    key = empty_node.ssh("ctr leases ls -q").stdout.strip()
    assert key == f"{PATH}/"
    empty_node.ssh(f"echo kept > {PATH}/file")
    moments = ("containerd.io/gc.root=", "leases rm", "slipway.node/image=", "systemctl daemon-reload", "systemctl enable")
    with process_inside(empty_node) as pid, killing(empty_node, *moments) as options:
        predicted = box(empty_node, reference, check=True)
        assert steps_of(predicted) == ["pin", "release", "label", "unit", "enable"] and predicted["adopted"]
        for count in range(1, len(moments) + 1):
            assert box(empty_node, reference, **options)["failed"] and killed(empty_node) == count
            protected = "containerd.io/gc.root" in (info(empty_node, key).get("Labels") or {})
            assert protected or key in empty_node.ssh("ctr leases ls -q").stdout.split()
            assert empty_node.ssh(f"{COLLECT}; cat {PATH}/file").stdout == "kept\n"
        assert steps_of(box(empty_node, reference, **options)) == ["enable"]
        assert empty_node.ssh(f"ls /proc/{pid}/root/").stdout.split() == ["bin", "file", "layer0"]
        assert "containerd.io/gc.root" in info(empty_node, key)["Labels"] and empty_node.ssh("ctr leases ls -q").stdout == ""
        assert steps_of(box(empty_node, reference)) == []
    empty_node.ssh(f"ctr images rm --sync {reference}; {COLLECT}; cat {PATH}/file")


@pytest.mark.parametrize(("node", "snapshotter"), SNAPSHOTTERS, indirect=["node"])
def test_it_is_back_after_a_reboot(empty_node: Node, source: Registry, snapshotter: str) -> None:
    reference = source.push(random_layers(3, seed=330))
    options: dict[str, Any] = {"snapshotter": snapshotter}
    assert steps_of(box(empty_node, reference, **options)) == FRESH
    empty_node.ssh(f"echo kept > {PATH}/file; touch /run/this-boot; sync")
    empty_node.reboot()
    assert empty_node.ssh("test -e /run/this-boot", check=False).returncode != 0
    assert is_mounted(empty_node) and empty_node.ssh(f"cat {PATH}/file; ls {PATH}").stdout.split() == [
        "kept",
        "file",
        "layer0",
        "layer1",
        "layer2",
    ]
    moments = empty_node.ssh(
        f"systemctl show --property=ActiveEnterTimestampMonotonic --value {UNIT} systemd-user-sessions.service"
    ).stdout.split()
    assert int(moments[0]) <= int(moments[1])
    assert steps_of(box(empty_node, reference, **options)) == []
    # A unit of an earlier version, or one that somebody has changed, is written again.
    empty_node.ssh(f"sed -i 's/^Description=.*/Description=old/' {UNITS}/{UNIT}")
    assert steps_of(box(empty_node, reference, check=True, **options)) == ["unit"]
    renewed = box(empty_node, reference, **options)
    assert steps_of(renewed) == ["unit"] and "Description=old" in renewed["diff"]["before"]
    assert steps_of(box(empty_node, reference, **options)) == [] and is_mounted(empty_node)


@dataclass(frozen=True)
class Moved:
    """A toolbox with a file in it, whose image's tag names another image by now."""

    node: Node
    reference: str
    drift: dict[str, str]

    def box(self, **options: Any) -> dict[str, Any]:
        return box(self.node, self.reference, **options)


@pytest.fixture(scope="class", params=SUITES)
def moved(
    request: pytest.FixtureRequest, nodes: dict[str, Node], source: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moved]:
    node = nodes[request.param]
    old, new = [busybox(), *random_layers(1, seed=360)], [busybox(), *random_layers(2, seed=361)]
    with without_toolboxes(node):
        reference = source.push(old, repository="moving")
        assert steps_of(box(node, reference)) == FRESH
        node.ssh(f"echo kept > {PATH}/file")
        push_again(source, tmp_path_factory.mktemp("new"), reference, new)
        # The registry is not asked.
        assert box(node, reference)["image_drift"] is None and listed(node) == [(reference, False)]
        pulled = run_module(node, "containerd_image", {"name": [reference], "pull": "always", "plain_http": True})
        assert pulled["changed"]
        yield Moved(node, reference, {"from": chain_ids(old)[-1], "to": chain_ids(new)[-1]})


@pytest.mark.two_versions
class TestMovedTag:
    """An image_drift: the tag of the toolbox's image was moved, and the new image is on the node."""

    def test_it_is_reported_and_the_toolbox_is_kept(self, moved: Moved) -> None:
        assert listed(moved.node) == [(moved.reference, True)]
        before = shown(moved.node)
        for check in (True, False):
            kept = moved.box(check=check)
            assert steps_of(kept) == [] and kept["image_drift"] == moved.drift
        assert shown(moved.node) == before

    def test_a_toolbox_in_use_is_not_created_anew(self, moved: Moved) -> None:
        before = shown(moved.node)
        with process_inside(moved.node) as pid:
            for check in (True, False):
                assert f"can't be recreated: end pid {pid} (busybox)" in refused(moved.box(check=check, **ANEW))
        # Nor while a process has its working directory in it.
        moved.node.ssh(
            f"systemd-run --quiet --unit held --service-type=exec --property=WorkingDirectory={PATH}/layer0 sleep 1000"
        )
        assert "(sleep)" in refused(moved.box(**ANEW))
        moved.node.ssh("systemctl stop held")
        assert shown(moved.node) == before and moved.node.ssh(f"cat {PATH}/file").stdout == "kept\n"

    def test_it_is_followed_if_asked_even_by_a_run_that_is_killed(self, moved: Moved) -> None:
        predicted = moved.box(check=True, **ANEW)
        moments = ("systemctl stop", "overlayfs rm", "overlayfs prepare", "slipway.node/image=")
        with killing(moved.node, *moments) as options:
            for count in range(1, len(moments) + 1):
                assert moved.box(**ANEW, **options)["failed"] and killed(moved.node) == count
            assert (
                steps_of(predicted) == ["unmount", "remove", "prepare", "label", "unit", "mount"] and predicted["freed_bytes"] > 0
            )
            assert steps_of(moved.box(**ANEW, **options)) == ["label", "unit", "mount"]
        assert moved.node.ssh(f"ls {PATH}").stdout.split() == ["bin", "layer0", "layer1"]
        assert info(moved.node)["Parent"] == moved.drift["to"] and steps_of(moved.box(**ANEW)) == []


def listed(node: Node) -> list[tuple[str, bool | None]]:
    """Image and drift of every toolbox, as they are reported."""
    return [(one["image"], one["image_drift"]) for one in run_module(node, "toolbox_snapshot_info", {})["toolboxes"]]


@pytest.mark.parametrize(("node", "snapshotter"), SNAPSHOTTERS, indirect=["node"])
def test_nothing_is_left_of_what_is_no_longer_wanted(empty_node: Node, source: Registry, snapshotter: str) -> None:
    reference = source.push([busybox(), *random_layers(1, seed=370)])
    options: dict[str, Any] = {"snapshotter": snapshotter}
    assert steps_of(box(empty_node, reference, **options)) == FRESH
    empty_node.ssh(
        f"ctr snapshots --snapshotter {snapshotter} prepare /srv/other {info_parent(empty_node, snapshotter)}; "
        f"ctr images rm --sync {reference}"
    )
    empty_node.ssh(f"dd if=/dev/urandom of={PATH}/big bs=1M count=40 status=none; sync")
    full = used(empty_node)
    with process_inside(empty_node) as pid:
        for check in (True, False):
            assert f"can't be removed: end pid {pid} (busybox)" in refused(
                box(empty_node, state="absent", check=check, **options)
            )
    predicted = box(empty_node, state="absent", check=True, **options)
    assert steps_of(predicted) == ["unmount", "disable", "remove", "collect", "remove_directory"]
    moments = ("systemctl stop", "systemctl disable", f"snapshots --snapshotter {snapshotter} rm")
    with killing(empty_node, *moments) as tools:
        for count in range(1, len(moments) + 1):
            assert box(empty_node, state="absent", **options, **tools)["failed"] and killed(empty_node) == count
    gone = box(empty_node, state="absent", **options)
    assert steps_of(gone) == ["remove", "collect", "remove_directory"]
    assert gone["freed_bytes"] == predicted["freed_bytes"] > 40_000_000 and full - used(empty_node) > 40_000_000
    looked_for = f"{PATH} {UNITS}/{UNIT} {UNITS}/multi-user.target.wants/{UNIT}"
    snapshots = f"ctr snapshots --snapshotter {snapshotter} ls | awk '$1 !~ /^sha256:/ {{print $1}}'"
    looks = f"ls -d {looked_for}; ctr leases ls -q; systemctl list-units --all | grep {UNIT}; findmnt {PATH}; {snapshots}"
    left = empty_node.ssh(looks, check=False).stdout
    assert left.split() == ["KEY", "/srv/other"]
    assert steps_of(box(empty_node, state="absent", **options)) == []


def info_parent(node: Node, snapshotter: str) -> str:
    return str(json.loads(node.ssh(f"ctr snapshots --snapshotter {snapshotter} info {PATH}").stdout)["Parent"])


def used(node: Node) -> int:
    """Bytes that containerd has on disk; what is free is changed by others as well."""
    return int(node.ssh("du --summarize --block-size=1 /var/lib/containerd").stdout.split()[0])


@pytest.mark.parametrize("suite", ["trixie"])
def test_it_outlives_a_power_cut_and_gives_the_disk_its_space_back(suite: str, nodes: dict[str, Node], source: Registry) -> None:
    node = nodes[suite]
    own: dict[str, Any] = {"address": own_disk.SOCKET, "config_file": own_disk.CONFIG, "unit": f"{own_disk.UNIT}.service"}
    reference = source.push([busybox(), *random_layers(1, seed=375)])
    with own_disk.own_disk(node, "ext4") as disk:
        emptied(node)
        disk.make()
        disk.start()
        try:
            assert steps_of(box(node, reference, state="present", **own)) == FRESH[:3]
            disk.cut()
            assert steps_of(box(node, reference, **own)) == FRESH[3:]
            assert node.ssh(f"{PATH}/bin/busybox ls {PATH}; test -x {PATH}/layer0/file0").stdout.split() == ["bin", "layer0"]
            before = free(node)
            node.ssh(f"dd if=/dev/urandom of={PATH}/big bs=1M count=40 status=none; sync -f {own_disk.ROOT}")
            full = free(node)
            gone = box(node, state="absent", **own)
            assert steps_of(gone) == ["unmount", "disable", "remove", "collect", "remove_directory"]
            assert before - full > 40_000_000 and free(node) >= before
            assert gone["freed_bytes"] == pytest.approx(before - full, rel=0.01)
        finally:
            emptied(node)


def free(node: Node) -> int:
    """Bytes that are free on the disk of its own."""
    return int(node.ssh(f"sync -f {own_disk.ROOT}; stat -f -c '%f %S' {own_disk.ROOT} | awk '{{print $1 * $2}}'").stdout)


@pytest.mark.two_versions
def test_runs_at_the_same_time_do_not_meet(empty_node: Node, source: Registry) -> None:
    reference = source.push(random_layers(2, seed=380))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _number: box(empty_node, reference), range(3)))
    assert sorted(map(len, map(steps_of, results))) == [0, 0, len(FRESH)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _number: box(empty_node, state="absent"), range(3)))
    assert sorted(map(len, map(steps_of, results))) == [0, 0, 5]
