# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade survives power cuts: the node starts on one whole generation, and the next run upgrades it.

The directories that an upgrade changes are on a file system of their own, which loses what was not synced. CRASH_UPGRADES says
how many cuts at random moments there are beside those at each step (1), CRASH_SEED from which number on their seeds count.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration import test_upgrade
from integration.test_upgrade import MODULE, NAME, STATE, cleaned, files, staged, to, version

from nodes import daemon
from nodes.node import Node
from nodes.own_disk import no_global_sync
from nodes.payload import command, install, run_module

old = test_upgrade.old
CUTS = int(os.environ.get("CRASH_UPGRADES", "1"))
SEED = int(os.environ.get("CRASH_SEED", str(time.time_ns() % 1_000_000)))
STEPS = ("keeping", "kept", "switching", "started")
DIRECTORIES = ("/etc/containerd", "/etc/systemd/system", "/usr/local", STATE, "/var/lib/containerd")
DISK, CUT, RUN_UNIT = "/srv/upgrade", "/root/upgrade-cut.py", "upgrade-run"
# The node's volume, as a file of an overlay can't be read with direct I/O. It is also below the disk's own directory.
VOLUME = "/srv/volume"
IMAGE = f"{VOLUME}/upgrade.img"

MOUNT = f"""
loop=$(losetup --find --show {IMAGE}); mount "$loop" {DISK}; losetup --detach "$loop"
for one in {" ".join(DIRECTORIES)}; do mount --bind {DISK}$one $one; done
systemctl daemon-reload
"""
UNMOUNT = f"""
for one in {" ".join(DIRECTORIES)} {DISK}; do
  timeout 300 sh -c "until umount $one 2>/dev/null; do sleep 0.1; done"
done
"""
STOP = f"""
systemctl kill --signal=KILL {RUN_UNIT} containerd 2>/dev/null || true
systemctl stop {RUN_UNIT} containerd 2>/dev/null || true
pkill -KILL -f '[c]ontainerd-shim' || true
pkill -KILL -x busybox || true
grep -o ' /run/containerd/[^ ]*' /proc/self/mounts | sort -r | while read -r one; do
  timeout 300 sh -c "until umount $one 2>/dev/null; do sleep 0.1; done"
done
"""
MAKE = f"""
systemctl stop containerd
mkdir -p {DISK} {VOLUME} {STATE}
mount --bind /var/lib/containerd {VOLUME}
for n in $(seq 0 64); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done
truncate -s 1500M {IMAGE}; mkfs.ext4 -q {IMAGE}; mount -o loop {IMAGE} {DISK}
for one in {" ".join(DIRECTORIES)}; do mkdir -p {DISK}$one; done
for one in {" ".join(DIRECTORIES[:-1])}; do cp -a $one/. {DISK}$one; done
cp -a /var/lib/containerd/io.containerd.* {DISK}/var/lib/containerd
umount {DISK}
cp --sparse=always {IMAGE} {IMAGE}.before
"""
# What a boot does beside mounting file systems.
EMPTY = "rm -rf /run/slipway* /run/containerd; systemctl reset-failed"
BOOT = f"{EMPTY}; systemctl start containerd"
# Or until it has restored the generation, if that was too fast to be seen.
RESTORING = f"""
while [ $(systemctl show -P ActiveState slipway-restore) != activating ] && systemctl is-active -q {RUN_UNIT}; do sleep 0.01; done
sleep 0.1
"""


class Disk:
    """The node whose directories are on a disk."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def sh(self, script: str) -> str:
        return self.node.ssh(f"set -eu\n{script}").stdout

    def begin(self) -> None:
        """The node as it was when it was made, running."""
        self.sh(f"{self._away()}cp --sparse=always {IMAGE}.before {IMAGE}\n{MOUNT}\n{BOOT}")

    def cut_during(self, argv: list[str], until: str, *, again: bool = False) -> None:
        """The power goes while a command runs, as soon as a shell script ends; and comes. ``again``: the boot is cut too."""
        start = f"systemd-run --quiet --collect --unit={RUN_UNIT} -- {shlex.join(argv)}"
        # The restore script calls sync(2) if it can't sync a file.
        with no_global_sync(causes=True):
            self.sh(f"{start}\n{until}\npython3 {CUT} {DISK}\n{STOP}\ncp --sparse=always {IMAGE} {IMAGE}.cut\n{UNMOUNT}")
        self.sh(f"mv {IMAGE}.cut {IMAGE}\n{MOUNT}\n{EMPTY}")
        if again:
            self.cut_during(["systemctl", "start", "containerd"], RESTORING)
        else:
            self.sh(BOOT)

    def clear(self) -> None:
        self.node.ssh(f"{self._away()}umount {VOLUME}; rm -rf /var/lib/containerd/upgrade.img* {DISK} {CUT}", check=False)
        self.node.ssh("systemctl daemon-reload", check=False)

    @staticmethod
    def _away() -> str:
        return f"if mountpoint -q {DISK}; then\n{STOP}\n{UNMOUNT}\nfi\n"


@pytest.fixture
def disk(old: Node) -> Iterator[Disk]:
    """1.7.24 with a release of 2.3.7 that is staged, and without running containers."""
    old.ssh(f"ctr tasks rm --force {NAME}; ctr containers rm {NAME}")
    staged(old, "2.3.7")
    daemon.write(old, CUT, (Path(__file__).parents[1] / "nodes/on_node/cut.py").read_text())
    install(old)
    disk = Disk(old)
    disk.sh(MAKE)
    try:
        disk.begin()
        yield disk
    finally:
        disk.clear()
        cleaned(old)


def reached(step: str) -> str:
    """A script that waits until the journal of an upgrade says a step, or a later one if the step was too short to be seen."""
    steps = "|".join(STEPS[STEPS.index(step) :])
    return f"until grep -Eq 'STEP=({steps})' {STATE}/upgrading 2>/dev/null; do systemctl is-active -q {RUN_UNIT}; done"


def is_whole(disk: Disk, generations: dict[str, set[str]]) -> str:
    """The node runs a version with everything of it; returns which."""
    node = disk.node
    found = version(node).partition("~")[0]
    assert daemon.is_well(node), node.ssh("journalctl -n 50 -u containerd -u slipway-restore", check=False).stdout
    # The next write of a file removes what a write of it left that was cut off.
    now = {line for line in files(node) if not re.search(r"/\.slipway-[^/]*\.tmp\b", line)}
    assert now == generations[found], now ^ generations[found]
    image = node.ssh("ctr images ls -q").stdout.split()[0]
    node.ssh(f"ctr run --rm --cpu-shares 0 {image} starts /bin/busybox true")
    return found


def test_a_node_that_is_cut_off_starts_on_one_whole_generation(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    node = disk.node
    path = node.ssh("ls -d /usr/local/lib/slipway/containerd/2.3.7-*").stdout.strip()
    before = files(node)
    started = time.monotonic()
    done = run_module(node, MODULE, to(path))
    duration = time.monotonic() - started
    assert not done.get("failed"), done
    generations = {"1.7.24": before, "2.3.7": files(node)}
    delays = [random.Random(SEED + number).uniform(0, duration) for number in range(CUTS)]
    moments = {step: reached(step) for step in STEPS}
    moments["its end"] = f"while systemctl is-active -q {RUN_UNIT}; do sleep 0.05; done"
    moments["started, and in the next boot"] = reached("started")
    moments |= {f"{delay:.2f} of {duration:.2f} s": f"sleep {delay:.2f}" for delay in delays}
    for name, until in moments.items():
        disk.begin()
        disk.cut_during(command(MODULE, to(path)), until, again="boot" in name)
        found = is_whole(disk, generations)
        with capsys.disabled():
            print(f"\ncut at {name} (seed {SEED}): containerd {found}", file=sys.stderr)
        assert name not in STEPS or found == "1.7.24"
        assert name != "its end" or found == "2.3.7"
        if name.startswith(("keeping", "started")):
            again = run_module(node, MODULE, to(path))
            assert not again.get("failed") and is_whole(disk, generations) == "2.3.7", again
