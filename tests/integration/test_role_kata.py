# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata with the playbooks: configured as predicted, effective in the running daemon, and removed completely."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.test_role import PROVISION, VERIFY, changed, made, messages, succeeded
from integration.test_role_images import finding, kept

from nodes import daemon, kata
from nodes.config import refused
from nodes.cri import runtime_handlers
from nodes.daemon import CRI, IMAGES, RUNTIME
from nodes.images import busybox
from nodes.node import PODMAN, Node, run
from nodes.payload import run_module

ROLE = "tests/nodes/kata.yml"
ROOT = "/etc/kata-containers"
TREE = "/opt/kata"
SHIM = f"{TREE}/bin/containerd-shim-kata-v2"
SCRATCH = "/var/lib/scratch.ext4"
INSTALL, FILES, SETTINGS = "Install the release", "Write the handlers' files", "Apply the settings"
MODULES, DEVICES, PURGE = (
    "Load the kernel modules at boot",
    "Write the settings that require containerd's",
    "Remove unlisted handlers",
)
# In check mode apt's own prediction, which needs package lists, is replaced.
SAME_TASK = {"Check for zstd": "Install zstd"}
QEMU: dict[str, Any] = {"name": "kata-qemu", "runtime": "go", "hypervisor": "qemu", "disable_block_device_use": True}
BLOCK_QEMU = {**QEMU, "snapshotter": "blockfile", "disable_block_device_use": False}
CLH = {"name": "kata-clh", "runtime": "go", "hypervisor": "clh", "snapshotter": "blockfile", "disable_block_device_use": False}
FC = {"name": "kata-fc", "runtime": "go", "hypervisor": "fc", "snapshotter": "blockfile"}
RUST = {"name": "kata-rust", "runtime": "rust", "hypervisor": "qemu"}
SNAPSHOTTERS = {"kata-qemu": "overlayfs", "kata-clh": "blockfile", "kata-fc": "blockfile"}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The role's variables for two versions, in both compressions."""
    directory = tmp_path_factory.mktemp("kata")
    older = kata.archive(directory / "kata-static-3.26.0.tar.zst", "3.26.0")
    return older, kata.archive(directory / "kata-static-3.27.0.tar.xz", "3.27.0")


def block_snapshotter(node: Node, directory: Path) -> dict[str, Any]:
    """Variables of a block snapshotter that needs no more of the machine than loop devices; its file is put on the node."""
    image = directory / "scratch"
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", str(image)], check=True)
    run([*PODMAN, "cp", str(image), f"{node.container}:{SCRATCH}"])
    table = {"scratch_file": SCRATCH, "fs_type": "ext4", "root_path": "/var/lib/blockfile"}
    # The nodes have no KVM.
    return {"containerd_snapshotters": {"blockfile": table}, "kata_check_hardware": False, "verify_skip": ["kata_devices"]}


def tasks(played: dict[str, Any], node: Node) -> list[str]:
    """Names of the tasks that changed something, sorted."""
    return sorted(SAME_TASK.get(name, name) for name in changed(played, node))


def handlers_of(node: Node) -> dict[str, Any]:
    """What the running daemon's configuration says of each handler."""
    tree = daemon.dump(node)["plugins"]
    table = tree[RUNTIME if node.line >= (2,) else CRI]["containerd"]
    assert table["default_runtime_name"] == "runc"
    found: dict[str, Any] = table["runtimes"]
    return found


def declared(node: Node, snapshotters: dict[str, str]) -> None:
    """The daemon, CRI and ``ctr plugins ls`` agree on the handlers and their snapshotters."""
    assert daemon.is_well(node)
    by_dump, by_cri = handlers_of(node), runtime_handlers(node)
    assert set(by_dump) == set(by_cri) == {"runc", *snapshotters}
    for name, snapshotter in snapshotters.items():
        for table in (
            by_dump[name],
            {**by_cri[name], "runtime_type": by_cri[name]["runtimeType"], "runtime_path": by_cri[name]["runtimePath"]},
        ):
            assert (table["runtime_type"], table["runtime_path"], table["snapshotter"]) == (
                "io.containerd.kata.v2",
                SHIM,
                snapshotter,
            )
            assert table["options"] == {"ConfigPath": f"{ROOT}/{name}/configuration.toml"}
        assert by_dump[name]["pod_annotations"] == ["io.katacontainers.*"]
        assert by_dump[name]["privileged_without_host_devices"] is True
        assert daemon.plugins(node)[f"io.containerd.snapshotter.v1.{snapshotter}"] == "ok"
    plugins = daemon.dump(node)["plugins"]
    images = plugins[IMAGES] if node.line >= (2,) else plugins[CRI]["containerd"]
    assert images["discard_unpacked_layers"] is False
    if node.line >= (2,):
        assert {name: table["snapshotter"] for name, table in images["runtime_platforms"].items()} == snapshotters
        unpack = plugins["io.containerd.transfer.v1.local"]["unpack_config"]
        assert {one["snapshotter"] for one in unpack} == {"overlayfs", *snapshotters.values()}


def runs_a_container(node: Node, directory: Path) -> None:
    """By the default runtime."""
    program = directory / "busybox"
    program.write_bytes(busybox()["bin/busybox"])
    program.chmod(0o755)
    node.ssh("mkdir -p /root/boxed/bin")
    run([*PODMAN, "cp", str(program), f"{node.container}:/root/boxed/bin/busybox"])
    # A node on cgroup v2 may have no cpu controller; without shares, runc doesn't look for it.
    done = node.exec(
        "ctr", "run", "--rm", "--cpu-shares", "0", "--rootfs", "/root/boxed", "boxed", "/bin/busybox", "echo", "runs"
    )
    assert done.stdout == "runs\n"


def traces(node: Node) -> list[str]:
    """What Kata leaves on the file system, and what of it containerd knows."""
    found = node.ssh(
        f"ls -d {ROOT} {TREE} /usr/local/lib/slipway/kata /etc/modules-load.d/slipway-kata.conf 2>/dev/null", check=False
    )
    return [*found.stdout.split(), *(name for name in handlers_of(node) if name != "runc")]


@pytest.mark.parametrize("suite", ["trixie"])
def test_a_fresh_node_gets_the_handlers_that_were_predicted(suite: str, releases: tuple[Any, Any], tmp_path: Path) -> None:
    older, newer = releases
    with made(suite) as fresh:
        settings = {**older, **block_snapshotter(fresh, tmp_path), "kata_handlers": [QEMU, CLH, FC]}
        before = kept(fresh)
        predicted = fresh.play(PROVISION, settings, check=True)
        succeeded(predicted, fresh)
        assert kept(fresh) == before
        first = fresh.play(PROVISION, settings)
        succeeded(first, fresh)
        assert tasks(predicted, fresh) == tasks(first, fresh)
        assert {INSTALL, FILES, SETTINGS, MODULES, "Install zstd"} <= set(tasks(first, fresh))
        assert changed(predicted, fresh)[FILES]["files"] == changed(first, fresh)[FILES]["files"]
        declared(fresh, SNAPSHOTTERS)
        runs_a_container(fresh, tmp_path)

        before = kept(fresh)
        assert succeeded(fresh.play(PROVISION, settings), fresh)["changed"] == 0
        verified = fresh.play(VERIFY, settings)
        succeeded(verified, fresh)
        names = (
            "kata_handlers",
            "handler_programs",
            "kata_config_files",
            "kata_files",
            "kata_settings",
            "kata_rootfs_transport",
            "kata_snapshotters",
        )
        assert {finding(verified, fresh, name)["status"] for name in names} == {"ok"}
        transports = {"kata-qemu": "virtio-fs", "kata-clh": "block-hotplug", "kata-fc": "block-hotplug"}
        assert finding(verified, fresh, "kata_rootfs_transport")["found"] == transports
        assert kept(fresh) == before

        # Another release, while something of the old one runs: the daemon and what runs go on.
        fresh.ssh(f"systemd-run --quiet --unit sandbox {SHIM} 100000")
        running = daemon.main_pid(fresh), fresh.ssh("systemctl show --property=MainPID sandbox").stdout
        upgraded = fresh.play(PROVISION, {**settings, **newer})
        succeeded(upgraded, fresh)
        assert tasks(upgraded, fresh) == [INSTALL, FILES]
        assert (daemon.main_pid(fresh), fresh.ssh("systemctl show --property=MainPID sandbox").stdout) == running
        assert (daemon.read(fresh, f"{ROOT}/kata-clh/configuration.toml") or "").startswith("# 3.27.0")
        assert "disable_block_device_use = false" in (daemon.read(fresh, f"{ROOT}/kata-clh/config.d/60-slipway.toml") or "")

        without = {**settings, "kata_handlers": []}
        busy = fresh.play(PROVISION, without)
        assert "it runs (1 processes, such as " in messages(busy, fresh)
        declared(fresh, SNAPSHOTTERS)
        fresh.ssh("systemctl stop sandbox")
        succeeded(fresh.play(PROVISION, without), fresh)
        assert traces(fresh) == []


@pytest.fixture
def kata_lts(lts: Node) -> Iterator[Node]:
    yield lts
    lts.play(PROVISION, {"kata_handlers": []})
    assert traces(lts) == []


def test_handlers_come_change_and_go_one_by_one(kata_lts: Node, releases: tuple[Any, Any], tmp_path: Path) -> None:
    settings = {**releases[1], **block_snapshotter(kata_lts, tmp_path), "kata_handlers": [QEMU, CLH, FC]}
    succeeded(kata_lts.play(PROVISION, settings), kata_lts)
    declared(kata_lts, SNAPSHOTTERS)
    runs_a_container(kata_lts, tmp_path)
    assert succeeded(kata_lts.play(PROVISION, settings), kata_lts)["changed"] == 0

    # One changes to the block snapshotter, which containerd has to have first; one goes; one comes; all get an older release.
    other = {**settings, **releases[0], "kata_handlers": [BLOCK_QEMU, FC, RUST]}
    predicted = kata_lts.play(PROVISION, other, check=True)
    done = kata_lts.play(PROVISION, other)
    succeeded(done, kata_lts)
    assert {*tasks(done, kata_lts)} - {"Install zstd"} == {INSTALL, DEVICES, FILES, SETTINGS, PURGE}
    assert tasks(predicted, kata_lts) == tasks(done, kata_lts)
    order = list(changed(done, kata_lts))
    assert order.index(FILES) < order.index(SETTINGS) < order.index(DEVICES)
    new = [f"kata-rust/{name}" for name in (".slipway", "config.d/60-slipway.toml", "configuration.toml")]
    renewed = ["kata-fc/configuration.toml"]
    assert changed(done, kata_lts)[FILES]["files"] == [f"{ROOT}/{name}" for name in [*renewed, *new]]
    assert (daemon.read(kata_lts, f"{ROOT}/kata-qemu/configuration.toml") or "").startswith("# 3.26.0")
    found = handlers_of(kata_lts)
    assert {name: table["snapshotter"] for name, table in found.items() if name != "runc"} == {
        "kata-qemu": "blockfile",
        "kata-fc": "blockfile",
        "kata-rust": "overlayfs",
    }
    assert found["kata-rust"]["runtime_path"] == f"{TREE}/runtime-rs/bin/containerd-shim-kata-v2"
    assert kata_lts.ssh(f"ls {ROOT}").stdout.split() == ["kata-fc", "kata-qemu", "kata-rust"]


def test_a_node_that_cannot_have_handlers_is_left_alone(bookworm: Node, releases: tuple[Any, Any]) -> None:
    settings = {**releases[0], "kata_handlers": [QEMU], "containerd_image_pull_sync_fs": False}
    problems = run_module(bookworm, "kata_host_info", {})["problems"]
    before = kept(bookworm)
    for check_hardware in (True, False):
        played = bookworm.play(ROLE, {**settings, "kata_check_hardware": check_hardware})
        assert played["stats"][bookworm.name]["failures"] == 1
        expected = problems[0] if problems and check_hardware else "kata-qemu].snapshotter needs containerd 1.7 or newer"
        assert expected in messages(played, bookworm)
    assert kept(bookworm) == before


def test_a_handlers_snapshotter_has_to_be_ok_before_anything_is_restarted(modern: Node) -> None:
    handler = {"name": "kata-clh", "type": "io.containerd.kata.v2", "snapshotter": "devmapper"}
    refused(modern, "runtimes[kata-clh].snapshotter", "devmapper is in state skip in the running daemon", runtimes=[handler])
