# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that containerd_image reports survive a power cut, and the next run repairs those of an interrupted run.

CRASH_CUTS says how many cuts at random moments each node gets (10), CRASH_SEED from which number on their seeds count.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from nodes import daemon, own_disk, payload
from nodes.fixtures import EVERY_TEST, SUITES
from nodes.images import Layer, chain_ids, mixed_layers
from nodes.node import Node
from nodes.own_disk import CONFIG, PROGRAMS, ROOT, RUN_UNIT, SOCKET, Comparison, OwnDisk, expected_files
from nodes.registry import Registry

FILE_SYSTEMS = ("ext4", "xfs")
EVERY_FILE_SYSTEM = [(suite, fs) for suite in EVERY_TEST for fs in FILE_SYSTEMS]
DISKS = [*((suite, "ext4") for suite in SUITES if suite not in EVERY_TEST), *EVERY_FILE_SYSTEM]
CUTS = int(os.environ.get("CRASH_CUTS", "10"))
SEED = int(os.environ.get("CRASH_SEED", str(time.time_ns() % 1_000_000)))
# Where the kernel says which boot this is.
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RECORD = f"{ROOT}/slipway-pulls.json"
# Until the run writes its record it has only looked.
PULLING = f"while [ ! -e {RECORD} ]; do systemctl is-active -q {RUN_UNIT}; sleep 0.01; done; "
# All seven layers of the batch, beside the three that were there.
UNPACKED = f"""
until [ "$(ctr --address {SOCKET} snapshots ls | grep -c Committed)" = 10 ]; do systemctl is-active -q {RUN_UNIT}; done
"""
# For a run that has this first in its PYTHONPATH.
STUCK = "/run/own-disk-stuck"
# Python imports it when it starts: syncfs never returns.
STUCK_SYNC = """
import ctypes, time

class Library(ctypes.CDLL):
    @property
    def syncfs(self):
        return lambda descriptor: time.sleep(600)

ctypes.CDLL = Library
"""


@pytest.fixture(params=DISKS, ids="-".join)
def disk(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Iterator[OwnDisk]:
    """An empty one, its daemon running."""
    suite, fs = request.param
    with own_disk.own_disk(nodes[suite], fs) as disk:
        disk.make()
        disk.start()
        yield disk


def args(*names: str, **options: Any) -> dict[str, Any]:
    own = {"address": SOCKET, "config_file": CONFIG, "binary": f"{PROGRAMS}/containerd"}
    return {"name": list(names), "plain_http": True, **own, **options}


def one_image() -> list[Layer]:
    return mixed_layers(4, files=1600, size=16_000_000, seed=1)


def expected_chain(disk: OwnDisk, layers: Sequence[Layer]) -> str:
    """The chain ID of an image that comparisons expect. Before its pull: the kernel writes by itself what is 30 seconds old."""
    expected = expected_files(layers)
    disk.expect(expected)
    return list(expected)[-1]


def cut_and_compared(disk: OwnDisk) -> Comparison:
    """The power goes; what is there then."""
    disk.cut()
    return disk.compare()


def test_a_plain_pull_loses_files_and_nothing_says_so(disk: OwnDisk, source: Registry) -> None:
    """The control: such a cut loses what was not synced, and that alone."""
    layers = one_image()
    reference, chain = source.push(layers), expected_chain(disk, layers)
    with own_disk.no_global_sync():
        disk.sh(f"echo kept > {ROOT}/synced; sync {ROOT}/synced; echo lost > {ROOT}/unsynced")
        disk.ctr("images", "pull", "--plain-http", reference)
        found = cut_and_compared(disk)
    assert disk.sh(f"cat {ROOT}/synced; [ ! -s {ROOT}/unsynced ]").stdout == "kept\n"
    assert found.wrong[chain] == 1600
    assert found.names == [reference] and not found.damaged_blobs
    assert " complete " in disk.ctr("images", "check", f"name=={reference}").stdout


def test_what_the_module_reports_is_on_disk(disk: OwnDisk, source: Registry) -> None:
    layers = one_image()
    reference, chain = source.push(layers), expected_chain(disk, layers)
    done = disk.node.module("containerd_image", args(reference))
    found = cut_and_compared(disk)
    assert not done.get("failed") and done["changed"], done
    assert (done["images"][0]["chain_id"], done["images"][0]["durability"]) == (chain, "durable")
    assert found.names == [reference] and not found.damaged_blobs
    assert found.wrong[chain] == 0
    with boot(disk.node):
        again = disk.node.module("containerd_image", args(reference))
    assert not again["changed"], again


# What GNU tar and diff say of a snapshot of an image, and of its layers laid over each other as far as tar can do that.
# ctr protects what it prepares from the garbage collection of a daemon that has just started, but not its views.
INDEPENDENT = """
view=/run/own-disk-view good=/run/own-disk-good
mkdir -p $view $good
ctr --address {socket} snapshots --snapshotter {snapshotter} prepare look {chain} >/dev/null
eval "$(ctr --address {socket} snapshots --snapshotter {snapshotter} mounts $view look)"
for digest in {digests}; do
  blob={root}/io.containerd.content.v1.content/blobs/sha256/$digest
  tar --extract --file $blob --directory $good
  tar --compare --file $blob --directory $view 2>&1 | grep -v 'Mod time differs' || true
done
diff --recursive --brief --no-dereference $good $view || true
umount $view
rm -r $view $good
ctr --address {socket} snapshots --snapshotter {snapshotter} rm look
"""


@pytest.mark.parametrize(
    ("suite", "snapshotter"), [*((suite, "overlayfs") for suite in SUITES), *((suite, "native") for suite in EVERY_TEST)]
)
def test_what_a_cut_broke_is_listed_exactly_and_repaired_offline(
    nodes: dict[str, Node], source: Registry, suite: str, snapshotter: str
) -> None:
    """Every other file reached the disk in time."""
    node = nodes[suite]
    layers = mixed_layers(3, files=150, size=1_500_000, seed=3)
    reference = source.push(layers)
    with own_disk.own_disk(node, "ext4") as disk:
        disk.make()
        disk.start()
        local = ["--local"] * (node.line >= (2,))
        files = f"find {ROOT}/io.containerd.snapshotter.v1.{snapshotter}/snapshots -type f"
        with own_disk.no_global_sync():
            disk.ctr("images", "pull", *local, "--plain-http", "--snapshotter", snapshotter, reference)
            disk.sh(f"sync {ROOT}/*/*.db; {files} | awk 'NR % 2' | xargs sync")
            digests = layer_digests(disk, reference)
            disk.cut()
        look = INDEPENDENT.format(socket=SOCKET, snapshotter=snapshotter, chain=chain_ids(layers)[-1], digests=digests, root=ROOT)
        found = by_program(disk.sh(look).stdout)
        assert found["tar"] == found["diff"] and 0 < len(found["tar"]) < 100, found
        options = args(reference, integrity="metadata", snapshotter=snapshotter)
        with source.away(), boot(node):
            looked = node.module("containerd_image", options)["images"][0]
            assert {path.lstrip("/") for path in looked["differences"]} == found["tar"]
            assert looked["difference_count"] == len(found["tar"]) and looked["integrity"] == "damaged"
            done = node.module("containerd_image", {**options, "repair": True})
            assert not done.get("failed") and done["images"][0]["integrity"] == "repaired", done
        disk.cut()
        assert by_program(disk.sh(look).stdout) == {"tar": set(), "diff": set()}


def test_what_is_pulled_onto_blockfile_is_on_disk(trixie: Node, source: Registry) -> None:
    """Unmounting a layer's device writes the file behind it; what is beside it is lost."""
    reference = source.push(one_image())
    scratch = f"{ROOT}/scratch"
    with own_disk.own_disk(trixie, "ext4") as disk:
        disk.make(megabytes=1024)
        made = payload.run_module(trixie, "blockfile_scratch", {"path": scratch, "size": "96M"})
        assert made.get("changed"), made
        table = f'[plugins."io.containerd.snapshotter.v1.blockfile"]\n  scratch_file = "{scratch}"\n  fs_type = "ext4"\n'
        disk.sh(f"cat >> {CONFIG} <<'END'\n{table}END")
        disk.start()
        disk.ctr("images", "pull", "--plain-http", "--snapshotter", "blockfile", reference)
        with own_disk.no_global_sync():
            disk.sh(f"sync {ROOT}/*/*.db; echo lost > {ROOT}/unsynced")
            disk.cut()
        disk.sh(f"[ ! -s {ROOT}/unsynced ]")
        with source.away(), boot(trixie):
            found = trixie.module("containerd_image", args(reference, integrity="content", snapshotter="blockfile"))
        assert not found.get("failed") and found["images"][0]["integrity"] == "intact", found


def layer_digests(disk: OwnDisk, reference: str) -> str:
    """In hexadecimal, lowest first, with spaces between them."""
    digest = disk.ctr("images", "ls", f"name=={reference}").stdout.splitlines()[-1].split()[2]
    manifest = json.loads(disk.ctr("content", "get", digest).stdout)
    return " ".join(layer["digest"].removeprefix("sha256:") for layer in manifest["layers"])


def by_program(stdout: str) -> dict[str, set[str]]:
    """The paths that each of them names."""
    found: dict[str, set[str]] = {"tar": set(), "diff": set()}
    for line in stdout.splitlines():
        differs = re.match(r"Files /run/own-disk-good/(.*) and .* differ$", line)
        only = re.match(r"Only in /run/own-disk-(?:good|view)/?(.*): (.*)$", line)
        if differs or only:
            found["diff"].add(differs[1] if differs else "/".join(filter(None, only.groups() if only else ())))
        else:
            found["tar"].add(line.removeprefix("tar: ").partition(":")[0])
    return found


@contextmanager
def boot(node: Node) -> Iterator[None]:
    """Programs on the node take what is in the block for a boot of its own."""
    path = f"/run/boot-id-{uuid.uuid4()}"
    node.ssh(f"echo {uuid.uuid4()} > {path}; mount --bind {path} {BOOT_ID}")
    try:
        yield
    finally:
        node.ssh(f"umount {BOOT_ID}; rm {path}")


class Batch:
    """Images that share layers with each other and with one that is there before; what they must be."""

    def __init__(self, source: Registry) -> None:
        common, upper = mixed_layers(2, files=120, size=1_500_000, seed=10), mixed_layers(6, files=600, size=7_000_000, seed=11)
        self.present_layers = [*common, upper[0]]
        self.wanted_layers = [
            [common[0], upper[1]],
            [*common, upper[2], upper[3]],
            [upper[4], upper[5]],
            [upper[4], *common],
        ]
        self.present = source.push(self.present_layers)
        self.wanted = [source.push(layers) for layers in self.wanted_layers]
        chains = [expected_files(layers) for layers in (self.present_layers, *self.wanted_layers)]
        self.chain = dict(zip((self.present, *self.wanted), (list(one)[-1] for one in chains), strict=True))
        self.blobs = {name: source.blobs(name) for name in self.names}
        self.expected = {chain: files for one in chains for chain, files in one.items()}

    @property
    def names(self) -> list[str]:
        return [self.present, *self.wanted]

    def no_lies(self, found: Comparison) -> None:
        """Whatever has a name that somebody asked for is there and as it has to be."""
        named = [name for name in found.names if name in self.chain]
        assert {name: found.wrong.get(self.chain[name]) for name in named} == dict.fromkeys(named, 0), found
        assert not any(self.blobs[name].intersection(found.damaged_blobs) for name in named), found

    def intact(self, found: Comparison) -> None:
        assert set(found.names) == set(self.names)
        self.no_lies(found)
        assert not any(found.wrong.values()) and not found.damaged_blobs, found


def prepared(disk: OwnDisk, batch: Batch) -> float:
    """A disk with one image of the batch on it is kept; returns how long a run takes that pulls the others, in seconds."""
    disk.expect(batch.expected)
    done = payload.run_module(disk.node, "containerd_image", args(batch.present))
    assert done["changed"], done
    disk.stop()
    disk.keep("before")
    disk.restart_with("before")
    done = payload.run_module(disk.node, "containerd_image", args(*batch.names))
    assert [one["action"] for one in done["images"]] == ["none", *["pull"] * 4], done
    batch.intact(disk.compare())
    return float(done["duration"])


def recovers(disk: OwnDisk, batch: Batch) -> dict[str, int]:
    """After a cut: nothing lies, the next run mends everything, the one after it has nothing to do.

    Returns what was there before it was mended.
    """
    before = disk.compare()
    batch.no_lies(before)
    assert batch.present in before.names
    complete = all(name in before.names for name in batch.names) and disk.sh(f"[ ! -e {RECORD} ]", check=False).returncode == 0
    with boot(disk.node):
        done = payload.run_module(disk.node, "containerd_image", args(*batch.names))
        assert not done.get("failed"), done["msg"]
        assert done["changed"] is not complete, (done, before.names)
        batch.intact(disk.compare())
        again = payload.run_module(disk.node, "containerd_image", args(*batch.names))
        assert not again.get("failed") and not again["changed"], again
    disk.cut()
    batch.intact(disk.compare())
    broken = [count for count in before.wrong.values() if count]
    return {
        "images": len(before.names),
        "snapshots": len(before.wrong),
        "broken": len(broken),
        "wrong files": sum(broken),
        "blobs": len(before.damaged_blobs),
    }


@pytest.mark.parametrize("disk", EVERY_FILE_SYSTEM, indirect=True, ids="-".join)
def test_a_run_that_is_cut_off_is_mended_by_the_next(disk: OwnDisk, source: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """At random moments of a batch of pulls, and once when everything has been unpacked and nothing synced."""
    batch = Batch(source)
    duration = prepared(disk, batch)
    daemon.write(disk.node, f"{STUCK}/sitecustomize.py", STUCK_SYNC)
    run = payload.command("containerd_image", args(*batch.names))
    for number in range(CUTS // len(FILE_SYSTEMS)):
        seed = SEED + number
        delay = random.Random(seed).uniform(0, duration)
        found = cut_off(disk, batch, run, f"{PULLING}sleep {delay:.3f}")
        report(capsys, disk, f"seed {seed}, after {delay:.2f} of {duration:.2f} s", found)
    found = cut_off(disk, batch, ["env", f"PYTHONPATH={STUCK}:{payload.UNPACKED}", *run[2:]], UNPACKED)
    report(capsys, disk, "before anything was synced", found)
    assert found["broken"] == 7, found


def cut_off(disk: OwnDisk, batch: Batch, run: Sequence[str], moment: str) -> dict[str, int]:
    """What was there after a cut at that moment of the run. The next runs are in another boot."""
    disk.restart_with("before")
    with boot(disk.node), own_disk.no_global_sync():
        disk.cut_during(run, moment)
    return recovers(disk, batch)


def report(capsys: pytest.CaptureFixture[str], disk: OwnDisk, moment: str, found: dict[str, int]) -> None:
    """To stderr: workers of pytest-xdist have no other way to the terminal."""
    with capsys.disabled():
        print(f"\n{disk.node.suite} {disk.fs}: cut {moment}: {found}", file=sys.stderr)
