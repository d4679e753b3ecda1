# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_table
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as words
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.mountpoint import (
    ProcessFinder,
    kind_of,
    read_mountpoint,
)
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.shown import shows
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source

ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
UPPER = f"{ROOT}/snapshots/27/fs"
OVERLAY = Mount(9, "/var/lib/toolbox/box", "overlay", "overlay", ("rw", "lowerdir=2/fs:1/fs", f"upperdir={UPPER}"), "0:53")
SOURCE = Source("overlay", "overlay", (f"lowerdir={ROOT}/snapshots/2/fs:{ROOT}/snapshots/1/fs", f"upperdir={UPPER}"))


def test_an_overlay_is_told_by_what_is_written_to_it() -> None:
    assert shows(OVERLAY, SOURCE)
    assert not shows(replace(OVERLAY, options=("rw", f"upperdir={UPPER}2")), SOURCE)
    assert not shows(replace(OVERLAY, type="ext4"), SOURCE)


def test_a_device_is_told_by_its_name(tmp_path: Path) -> None:
    assert shows(
        Mount(9, "/t", "ext4", "/dev/mapper/pool-snap-3", ("rw",), "253:3"), Source("ext4", "/dev/mapper/pool-snap-3", ())
    )
    assert not shows(Mount(9, "/t", "ext4", "/dev/sda1", ("rw",), "8:1"), Source("ext4", "/dev/mapper/pool-snap-3", ()))


def test_what_a_path_is_where_nothing_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "link").symlink_to("empty")
    found = {name: kind_of(str(tmp_path / name)) for name in ("empty", "full", "full/file", "link", "none", "none/none")}
    assert found == {
        "empty": words.EMPTY,
        "full": words.FULL,
        "full/file": words.NO_DIRECTORY,
        "link": words.NO_DIRECTORY,
        "none": words.MISSING,
        "none/none": words.MISSING,
    }


def test_this_machines_own_mounts_are_somebody_elses() -> None:
    paths = {one.path for one in read_table()}
    assert {"/", "/proc"} <= paths
    point = read_mountpoint("/proc", SOURCE, ROOT)
    assert point.mount == words.OTHER and point.described.startswith("proc ")
    assert read_mountpoint("/proc/self", SOURCE, ROOT).mount == words.NOTHING


def test_a_process_is_found_by_where_it_stands_and_what_it_has_open(tmp_path: Path) -> None:
    (tmp_path / "box/below").mkdir(parents=True)
    (tmp_path / "box/file").write_text("x")
    program = "import sys, os; os.chdir(sys.argv[1]); stream = open(sys.argv[2]); print('ready', flush=True); sys.stdin.read()"
    users = ProcessFinder(str(tmp_path / "box"), None, None)
    for directory, file in ((tmp_path / "box/below", os.devnull), (tmp_path, tmp_path / "box/file")):
        argv = [sys.executable, "-c", program, str(directory), str(file)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            assert [text.split()[1] for text in users.find()] == [str(process.pid)]
            assert process.stdin is not None
            process.stdin.close()
    assert users.find() == ()


@pytest.mark.parametrize("path", ["/proc/1/root", "/dev/null"])
def test_odd_files_are_no_directories_to_mount_on(path: str) -> None:
    assert kind_of(path) == words.NO_DIRECTORY
