# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.databases import recorded_database, small_database

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.thin_pool import (
    match_database,
    read_devices,
    read_ids,
)
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import BELONGS, FOREIGN, UNKNOWN, device_problem

ELSEWHERE = small_database({b"containerd-pool-snap-9": b'{"device_id": 9, "state": 10}'})


class Module:
    """Of a node on which no program may be run."""

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        raise AssertionError(args)

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    # The snapshotter's own list of snapshots, which has no devices.
    (tmp_path / "metadata.db").write_bytes(small_database({}))
    return tmp_path


def belonging(directory: Path) -> tuple[str, str, str]:
    found = match_database(Runner(Module()), "new-pool", None, str(directory / "new-pool.db"))
    return found.verdict, found.reason, found.remedy


def test_a_directory_that_lists_the_devices_of_another_pool_is_not_this_ones(directory: Path) -> None:
    (directory / "containerd-pool.db").write_bytes(recorded_database())
    verdict, reason, remedy = belonging(directory)
    assert verdict == FOREIGN
    assert reason == f"{directory}/containerd-pool.db lists 3 devices of another pool, containerd-pool"
    assert remedy.startswith("name that pool again; or, if all images and containers may be lost, remove")
    # As a daemon leaves it that was started with the new pool.
    (directory / "new-pool.db").write_bytes(small_database({}))
    assert belonging(directory)[0] == FOREIGN


def test_a_directory_of_another_pool_that_has_no_devices_is_taken(directory: Path) -> None:
    (directory / "containerd-pool.db").write_bytes(small_database({}))
    (directory / "notes").write_text("no database")
    assert belonging(directory)[0] == BELONGS


def test_what_lies_beside_a_database_with_devices_does_not_count(directory: Path) -> None:
    (directory / "new-pool.db").write_bytes(ELSEWHERE)
    (directory / "containerd-pool.db").write_bytes(recorded_database())
    assert "the pool has none of the 1 devices" in belonging(directory)[1]


def test_a_damaged_database_is_told_as_what_it_is(directory: Path) -> None:
    (directory / "containerd-pool.db").write_bytes(b"nonsense")
    verdict, reason, _remedy = belonging(directory)
    assert verdict == UNKNOWN
    assert "containerd-pool.db: it is no bbolt database" in reason


def test_an_empty_database_is_a_new_one(directory: Path) -> None:
    (directory / "new-pool.db").write_bytes(b"")
    (directory / "containerd-pool.db").write_bytes(b"")
    assert belonging(directory) == (BELONGS, "", "")


def test_without_a_directory_everything_belongs_together(tmp_path: Path) -> None:
    assert belonging(tmp_path / "none") == (BELONGS, "", "")


class DeviceMapper:
    """A pool of the kernel's with two devices, as far as it is asked: Linux 6.12, dmsetup 1.02.205, thin_ls 1.1.0."""

    def __init__(self, *, held: bool = False, broken: bool = False, busy: bool = False) -> None:
        self.held = held
        self.broken = broken
        self.busy = busy

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return f"/usr/sbin/{arg}"

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        if args[:2] == ["dmsetup", "table"]:
            return 0, "0 614400 thin-pool 254:0 254:1 128 960 0 \n", ""
        if args[:2] == ["dmsetup", "status"]:
            return 0, f"0 614400 thin-pool 0 213/2048 42/2400 {37 if self.held else '-'} rw discard_passdown - 512 \n", ""
        if args[:2] == ["dmsetup", "message"]:
            if self.busy:
                return 1, "", "Device or resource busy"
            assert self.held == (args[-1] == "release_metadata_snap")
            self.held = not self.held
            return 0, "", ""
        assert args[0] == "thin_ls"
        assert self.held
        return (1, "", "bad checksum in superblock") if self.broken else (0, "1 \n7 \n", "")


def test_the_state_that_the_kernel_keeps_aside_is_dropped_again(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    kernel = DeviceMapper()
    assert read_ids(Runner(kernel), "containerd-pool", lock) == {1, 7}
    assert not kernel.held
    failing = DeviceMapper(broken=True)
    with pytest.raises(HostError, match="bad checksum"):
        read_ids(Runner(failing), "containerd-pool", lock)
    assert not failing.held
    with pytest.raises(HostError, match="resource busy"):
        read_ids(Runner(DeviceMapper(busy=True)), "containerd-pool", lock)
    assert Path(lock).read_text() == ""


def test_what_a_run_left_that_was_killed_is_dropped_by_the_next(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("containerd-pool")
    kernel = DeviceMapper(held=True)
    assert read_ids(Runner(kernel), "containerd-pool", str(lock)) == {1, 7}
    assert not kernel.held


@pytest.mark.parametrize("left", ["", "containerd", "containerd-pool2"])
def test_what_another_program_keeps_aside_stays(tmp_path: Path, left: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(left)
    kernel = DeviceMapper(held=True)
    with pytest.raises(HostError, match="'dmsetup message containerd-pool 0 release_metadata_snap' drops it"):
        read_ids(Runner(kernel), "containerd-pool", str(lock))
    assert kernel.held
    assert lock.read_text() == left


class Node:
    """One without LVM, where the other programs are the real ones."""

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        result = subprocess.run(args, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout, result.stderr


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, 1 << 20)
    device = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=True).stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="only root has loop devices")
def test_a_device_that_the_kernel_keeps_for_somebody_is_in_use(loop: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(loop)
    free = read_devices(Runner(Node()), [str(tmp_path / "link")])[0]
    assert (free.real, free.size, free.uses, free.group) == (loop, 1 << 20, (), None)
    claimed = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        kept = read_devices(Runner(Node()), [loop])[0]
    finally:
        os.close(claimed)
    assert "is in use (the kernel holds it)" in device_problem(kept, "containerd", [loop])
