# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A containerd of its own on a node, whose root is a file system of its own on a loop device; and power cuts for it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodes import daemon
from nodes.images import Layer, chain_ids
from nodes.node import PODMAN, WORK, Done, Node, run

ROOT = "/srv/containerd"
CONFIG = "/root/own-disk.toml"
# Links to the node's containerd and ctr, at the same place on every node.
PROGRAMS = "/root/own-disk-programs"
SOCKET = "/run/own-disk/containerd.sock"
UNIT = "own-disk"
RUN_UNIT = "own-disk-run"
# On the volume, since a file of an overlay can't be read with direct I/O.
IMAGE = "/var/lib/containerd/own-disk.img"
EXPECTED = "/root/own-disk-expected.json"
SCRIPTS = ("compare", "cut", "fsync_all", "measure", "peak")


def script(name: str) -> str:
    """One of those in on_node, as it is called on the node."""
    return f"/root/own-disk-{name}.py"


@dataclass(frozen=True)
class OwnDisk:
    """``fs`` is ext4 or xfs. Every method leaves the node's other daemon alone."""

    node: Node
    fs: str

    def sh(self, script: str, *, check: bool = True) -> Done:
        return self.node.ssh(f"set -eu\n{script}", check=check)

    def ctr(self, *arguments: str, check: bool = True) -> Done:
        return self.node.exec("ctr", "--address", SOCKET, *arguments, check=check)

    def make(self, *, megabytes: int = 512) -> None:
        """An empty file system, mounted."""
        mkfs = {"ext4": "mkfs.ext4 -q", "xfs": "mkfs.xfs -q"}[self.fs]
        self.sh(f"rm -f {IMAGE}; truncate -s {megabytes}M {IMAGE}; {mkfs} {IMAGE}; mkdir -p {ROOT}\n{_mount()}")

    def make_measurable(self, *, megabytes: int) -> None:
        """An empty ext4, mounted, always in the same state: nothing is written to it later on but what is measured.

        What is written goes around the machine's page cache.
        """
        mkfs = "mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0"
        fill = f"dd if=/dev/zero of={IMAGE} bs=1M count={megabytes} conv=fsync status=none"
        self.sh(f"test -e {IMAGE} || {fill}\n{mkfs} {IMAGE}; sync -f {IMAGE}; mkdir -p {ROOT}\n{_mount(direct=True)}")

    def start(self) -> None:
        self.sh(_START)

    def stop(self) -> None:
        """As an orderly shutdown does."""
        self.sh(f"systemctl stop {UNIT}; umount {ROOT}")

    def keep(self, name: str) -> None:
        """A copy of the disk, which is not mounted."""
        self.sh(f"cp --sparse=always {IMAGE} {IMAGE}.{name}")

    def restart_with(self, name: str) -> None:
        """The disk as it was kept, mounted, the daemon running."""
        self.sh(
            f"systemctl stop {UNIT} 2>/dev/null || true; if mountpoint -q {ROOT}; then umount {ROOT}; fi\n"
            f"cp --sparse=always {IMAGE}.{name} {IMAGE}\n{_mount()}\n{_START}"
        )

    def cut(self) -> None:
        """The power goes, now; and comes again: the disk as it was at that moment, mounted, the daemon running."""
        self.sh(f"python3 {script('cut')} {ROOT}\n{_AFTER_CUT}")

    def cut_during(self, command: Sequence[str], until: str) -> None:
        """The power goes while a command runs, as soon as a shell script returns that is started with it."""
        start = f"systemd-run --quiet --collect --unit={RUN_UNIT} -- {shlex.join(command)}"
        self.sh(f"{start}\n{until}\npython3 {script('cut')} {ROOT}\n{_AFTER_CUT}")

    def clear(self) -> None:
        """Leave nothing."""
        units = f"{UNIT} {RUN_UNIT}"
        self.node.ssh(
            f"systemctl kill --signal=KILL {units}; systemctl stop {units}; systemctl reset-failed {units}; "
            f"while mountpoint -q {ROOT}; do umount --recursive {ROOT} || sleep 0.1; done; "
            f"rm -rf {ROOT} /run/own-disk* {IMAGE}* /root/own-disk*",
            check=False,
        )

    def expect(self, files: Mapping[str, Mapping[str, str]]) -> None:
        """What a comparison goes by: SHA-256 by path, by the chain ID of the snapshot."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as document:
            json.dump(files, document)
            document.flush()
            run([*PODMAN, "cp", document.name, f"{self.node.container}:{EXPECTED}"])

    def compare(self) -> Comparison:
        """What is on disk of snapshots and blobs, with what is expected."""
        found = json.loads(self.sh(f"python3 {script('compare')} {SOCKET} {ROOT} < {EXPECTED}").stdout)
        return Comparison(found["snapshots"], found["blobs"], found["names"])


@dataclass(frozen=True)
class Comparison:
    """``wrong`` has the number of wrong files of every snapshot that is there, by chain ID."""

    wrong: dict[str, int]
    damaged_blobs: list[str]
    names: list[str]


@contextmanager
def own_disk(node: Node, fs: str) -> Iterator[OwnDisk]:
    """Prepared, but without a disk yet; removed after the block."""
    daemon.install(node)
    node.ssh(
        "export DEBIAN_FRONTEND=noninteractive; command -v mkfs.xfs >/dev/null || "
        "apt-get -qq install --no-install-recommends xfsprogs >/dev/null"
    )
    disk = OwnDisk(node, fs)
    disk.clear()
    node.ssh(f"mkdir -p {PROGRAMS}; for one in containerd ctr; do ln -sf $(command -v $one) {PROGRAMS}; done")
    daemon.write(node, CONFIG, _CONFIG)
    for name in SCRIPTS:
        daemon.write(node, script(name), (Path(__file__).with_name("on_node") / f"{name}.py").read_text())
    try:
        yield disk
    finally:
        disk.clear()


@contextmanager
def no_global_sync(*, causes: bool = False) -> Iterator[None]:
    """What isn't synced stays so in the block: tests on other nodes that may call sync(2) wait (they are those with ``causes``).

    sync(2) writes the dirty pages of every file system of the machine.
    """
    with (WORK / "global-sync.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if causes else fcntl.LOCK_SH)
        yield


def expected_files(layers: Sequence[Layer]) -> dict[str, dict[str, str]]:
    """SHA-256 by path of what each of an image's snapshots has to show, by its chain ID."""
    seen: dict[str, str] = {}
    found = {}
    for chain, layer in zip(chain_ids(layers), layers, strict=True):
        seen = {**seen, **{path: hashlib.sha256(content).hexdigest() for path, content in layer.items()}}
        found[chain] = seen
    return found


_CONFIG = f"""
version = 2
root = "{ROOT}"
state = "/run/own-disk/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{SOCKET}"
[ttrpc]
  address = "{SOCKET}.ttrpc"
"""
_START = f"""
systemctl reset-failed {UNIT} 2>/dev/null || true
systemd-run --quiet --unit={UNIT} --property=Type=notify --property=Delegate=yes containerd --config {CONFIG}
"""


def _mount(direct: bool = False) -> str:
    options = "--direct-io=on" if direct else ""
    return f"loop=$(losetup --find --show {options} {IMAGE}); mount $loop {ROOT}; losetup --detach $loop"


# Nothing that ran then runs on; what the device had already been given is waited for, and programs that are still dying.
_AFTER_CUT = f"""
systemctl kill --signal=KILL {UNIT} {RUN_UNIT} 2>/dev/null || true
systemctl stop {UNIT} {RUN_UNIT} 2>/dev/null || true
loop=$(findmnt --noheadings --output SOURCE {ROOT} | head -n 1)
until read -r reads writes < /sys/block/${{loop#/dev/}}/inflight && [ $reads = 0 ] && [ $writes = 0 ]; do sleep 0.01; done
cp --sparse=always {IMAGE} {IMAGE}.cut
timeout 300 sh -c 'until umount --recursive {ROOT} 2>/dev/null; do sleep 0.1; done'
rm -rf /run/own-disk
mv {IMAGE}.cut {IMAGE}
{_mount()}
{_START}
"""
