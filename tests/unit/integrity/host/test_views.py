# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Views are mounted read-only in a private namespace. tests/integration/test_integrity.py has the other tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host import loop_device
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import (
    LostSnapshotError,
    Views,
    mount_detached,
)
from ansible_collections.slipway.node.plugins.module_utils.store.snapshot_mounts import SnapshotMount, parse_ctr_mounts

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
TARGET = "/run/slipway-view-x1"
LAYERS = "/var/lib/containerd/io.containerd.snapshotter.v1"
TWO = f"lowerdir={LAYERS}.overlayfs/snapshots/2/fs:{LAYERS}.overlayfs/snapshots/1/fs"


@pytest.mark.parametrize(
    ("printed", "mounts"),
    [
        (
            f"mount -t overlay overlay {TARGET} -o index=off,{TWO}\n",
            (
                SnapshotMount(
                    "overlay",
                    "overlay",
                    ("index=off", TWO),
                ),
            ),
        ),
        (
            f"mount -t bind {LAYERS}.overlayfs/snapshots/1/fs {TARGET} -o ro,rbind\n",
            (SnapshotMount("bind", f"{LAYERS}.overlayfs/snapshots/1/fs", ("ro", "rbind")),),
        ),
        (f"mount -t bind /a b/c {TARGET} -o rbind,ro", (SnapshotMount("bind", "/a b/c", ("rbind", "ro")),)),
        (
            f"mount -t ext4 /dev/mapper/pool-snap-7 {TARGET} -o ro\nmount -t xfs /dev/x {TARGET} -o nouuid\n",
            (SnapshotMount("ext4", "/dev/mapper/pool-snap-7", ("ro",)), SnapshotMount("xfs", "/dev/x", ("nouuid",))),
        ),
    ],
)
def test_reads_how_a_view_is_mounted(printed: str, mounts: tuple[SnapshotMount, ...]) -> None:
    assert parse_ctr_mounts(printed, TARGET) == mounts


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "nonsense",
        f"mount -t overlay overlay {TARGET}",
        "mount -t bind /a /elsewhere -o ro",
        f"mount -t format/mkdir/overlay overlay {TARGET} -o lowerdir={{{{ mount 0 }}}}",
        f"sh -c x {TARGET} -o ro",
    ],
)
def test_refuses_what_it_cannot_mount(printed: str) -> None:
    with pytest.raises(HostError, match="cannot mount a snapshot"):
        parse_ctr_mounts(printed, TARGET)


def mounts_here() -> str:
    return Path("/proc/self/mountinfo").read_text()


@needs_root
@pytest.mark.parametrize("count", [2, 60, 400])
def test_an_overlay_of_any_depth(tmp_path: Path, count: int) -> None:
    """As many layers as don't fit into a page by their full names."""
    lowers = []
    for number in range(count):
        layer = tmp_path / f"{number}" / "fs"
        (layer / "shared").mkdir(parents=True)
        (layer / "shared/file").write_text(str(number))
        (layer / f"only{number}").touch()
        os.utime(layer / "shared/file", (1, 1))
        lowers.append(str(layer))
    target = tmp_path / "target"
    target.mkdir()
    before, here = mounts_here(), Path.cwd()
    mount = SnapshotMount("overlay", "overlay", ("index=off", f"lowerdir={':'.join(reversed(lowers))}"))
    root = mount_detached((mount,), str(target))
    try:
        assert len(os.listdir(root)) == count + 1
        assert os.listdir(target) == [] and mounts_here() == before and Path.cwd() == here
        descriptor = os.open("shared/file", os.O_RDONLY, dir_fd=root)
        assert os.read(descriptor, 10) == str(count - 1).encode()
        os.close(descriptor)
        assert (Path(lowers[-1]) / "shared/file").stat().st_atime == 1
        with pytest.raises(OSError, match="Read-only file system"):
            os.mkdir("new", dir_fd=root)
    finally:
        os.close(root)
    target.rmdir()


@needs_root
def test_a_directory_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a, b:c", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("x")
    os.utime(source / "file", (1, 1))
    before = mounts_here()
    root = mount_detached((SnapshotMount("bind", str(source), ("ro", "rbind")),), str(target))
    try:
        descriptor = os.open("file", os.O_RDONLY, dir_fd=root)
        assert os.read(descriptor, 10) == b"x"
        os.close(descriptor)
        assert (source / "file").stat().st_atime == 1 and mounts_here() == before and os.listdir(target) == []
        with pytest.raises(OSError, match="Read-only file system"):
            os.open("file", os.O_RDWR, dir_fd=root)
    finally:
        os.close(root)


@needs_root
def test_what_the_kernel_refuses_is_one_sentence(tmp_path: Path) -> None:
    before = mounts_here()
    for mount in (
        SnapshotMount("nosuch", "x", ()),
        SnapshotMount("bind", "/nonexistent", ()),
        SnapshotMount("overlay", "overlay", ("lowerdir=/nonexistent",)),
    ):
        with pytest.raises(HostError, match=f"cannot mount a view of type {mount.kind}: "):
            mount_detached((mount,), str(tmp_path))
    assert mounts_here() == before


@needs_root
def test_a_node_without_loop_devices_has_lost_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "layer"
    file.write_bytes(bytes(4096))
    monkeypatch.setattr(loop_device, "_CONTROL", str(tmp_path / "absent"))
    with pytest.raises(HostError, match="load the kernel's module loop") as raised:
        mount_detached((SnapshotMount("ext4", str(file), ("loop", "ro")),), str(tmp_path))
    assert not isinstance(raised.value, LostSnapshotError)


# Prints how a directory is mounted in place of a snapshot, or a template of that, and notes how it is called.
CTR = """#!/bin/sh
shift 7
echo "$1" >> {directory}/calls
case "$1" in
view) echo "mount -t {kind} {directory}/layer $3 -o {options}" ;;
mounts) echo "mount -t bind {directory}/layer $2 -o rbind,ro" ;;
esac
"""


@needs_root
@pytest.mark.parametrize(
    ("kind", "options", "asked"),
    [
        ("bind", "rbind,ro", ["view", "label", "rm"]),
        ("format/mkdir/overlay", "lowerdir={{ overlay 0 1 }}", ["view", "label", "mounts", "rm"]),
    ],
)
def test_mounts_are_asked_for_only_if_a_view_is_made_with_templates(
    tmp_path: Path, kind: str, options: str, asked: list[str]
) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/file").touch()
    (tmp_path / "ctr").write_text(CTR.format(directory=tmp_path, kind=kind, options=options))
    (tmp_path / "ctr").chmod(0o755)
    ctr = Ctr(Runner(Module()), "/run/none.sock", str(tmp_path / "containerd"))
    with Views(ctr, "k8s.io", "erofs").open("sha256:" + "a" * 64) as view:
        assert os.listdir(view.root) == ["file"]
    assert (tmp_path / "calls").read_text().split() == asked
