# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kata_config on this machine: it needs no daemon, and Kata itself would need hardware to start a guest."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import stat
import struct
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.local_module import LocalModule

from nodes.kata import Release, vendor_file

DROP_IN = "config.d/60-slipway.toml"
MAIN = "configuration.toml"
SAFE: dict[str, Any] = {"disable_block_device_use": True}
LOCK = "/run/slipway-kata.lock"


class KataDirectory:
    """A node's directory of configurations, and a release that is installed on it."""

    def __init__(self, directory: Path, run: LocalModule) -> None:
        self.root = directory / "etc" / "kata-containers"
        self.release = Release(directory / "opt" / "kata", "3.26.0")
        self.run = run

    def handler(self, name: str, hypervisor: str = "qemu", runtime: str = "go", **options: Any) -> dict[str, Any]:
        base = str(self.release.path(runtime, hypervisor))
        return {"name": name, "runtime": runtime, "hypervisor": hypervisor, "base_config": base, **options}

    def __call__(self, *handlers: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self.run(handlers=list(handlers), config_dir=str(self.root), **options)

    def tree(self) -> dict[str, tuple[str, int]]:
        """Every file with its content and mode; directories with their modes."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            content = path.read_text() if path.is_file() else ""
            found[str(path.relative_to(self.root))] = (content, stat.S_IMODE(path.lstat().st_mode))
        return found

    def drop_in(self, name: str) -> dict[str, Any]:
        return tomllib.loads((self.root / name / DROP_IN).read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LocalModule:
    return LocalModule("kata_config", tmp_path_factory.mktemp("collections"))


@pytest.fixture
def kata_dir(run: LocalModule, tmp_path: Path) -> KataDirectory:
    return KataDirectory(tmp_path, run)


def three(kata_dir: KataDirectory) -> list[dict[str, Any]]:
    return [
        kata_dir.handler(
            "kata-qemu", **SAFE, block_device_aio="native", extra={"hypervisor": {"qemu": {"default_memory": 4096}}}
        ),
        kata_dir.handler("kata-clh", "clh", snapshotter="devmapper", disable_block_device_use=False),
        kata_dir.handler("kata-fc", "fc", snapshotter="devmapper"),
    ]


SAME = ("changed", "files", "removed", "handlers", "kata_deploy", "diff")


@pytest.mark.smoke
def test_check_mode_on_a_fresh_node_then_the_same_then_nothing(kata_dir: KataDirectory) -> None:
    handlers = three(kata_dir)
    predicted = kata_dir(*handlers, check=True)
    assert not kata_dir.root.exists()
    done = kata_dir(*handlers)
    assert {key: done.get(key) for key in SAME} == {key: predicted.get(key) for key in SAME}
    assert [report["rootfs_transport"] for report in done["handlers"]] == ["virtio-fs", "block-hotplug", "block-hotplug"]
    assert sorted(done["files"]) == sorted(
        str(kata_dir.root / name) for name, (content, _mode) in kata_dir.tree().items() if content
    )
    assert {mode for content, mode in kata_dir.tree().values() if content} == {0o644}
    assert {mode for content, mode in kata_dir.tree().values() if not content} == {0o755}
    for name, hypervisor in (("kata-qemu", "qemu"), ("kata-clh", "clh"), ("kata-fc", "fc")):
        assert (kata_dir.root / name / MAIN).read_text() == vendor_file("go", hypervisor)
        assert os.listdir(kata_dir.root / name / "config.d") == ["60-slipway.toml"]
    before = {path: path.stat().st_mtime_ns for path in kata_dir.root.rglob("*")}
    for check in (True, False):
        again = kata_dir(*handlers, check=check)
        assert (again["changed"], again["files"], again["removed"]) == (False, [], [])
    assert {path: path.stat().st_mtime_ns for path in kata_dir.root.rglob("*")} == before


def test_check_mode_before_kata_is_installed(kata_dir: KataDirectory) -> None:
    shutil.rmtree(kata_dir.release.prefix)
    handlers = [{**entry, "version": "3.26.0"} for entry in three(kata_dir)]
    predicted = kata_dir(*handlers, check=True)
    assert predicted["changed"]
    assert [report["rootfs_transport"] for report in predicted["handlers"]] == ["virtio-fs", "block-hotplug", "block-hotplug"]
    assert not kata_dir.root.exists()
    refused = kata_dir(*handlers)
    assert refused["failed"]
    assert "handlers[kata-qemu].base_config: there is no file" in refused["msg"]
    assert not kata_dir.root.exists()


def test_a_new_release_renews_the_copies_and_keeps_the_settings(kata_dir: KataDirectory) -> None:
    handlers = three(kata_dir)
    kata_dir(*handlers)
    drop_ins = {name: content for name, content in kata_dir.tree().items() if name.endswith(DROP_IN)}
    kata_dir.release.path("go", "qemu").write_text(vendor_file("go", "qemu", comment="3.27.0"))
    (kata_dir.release.prefix / "VERSION").write_text("3.27.0\n")
    assert kata_dir(*handlers)["files"] == [str(kata_dir.root / "kata-qemu" / MAIN)]
    assert {name: content for name, content in kata_dir.tree().items() if name.endswith(DROP_IN)} == drop_ins
    back = kata_dir.release.path("go", "qemu")
    back.write_text(vendor_file("go", "qemu"))
    assert kata_dir(*handlers)["changed"]
    assert (kata_dir.root / "kata-qemu" / MAIN).read_text() == vendor_file("go", "qemu")


def test_removing_one_then_all_leaves_what_was_there(kata_dir: KataDirectory) -> None:
    (kata_dir.root / "config.d").mkdir(parents=True)
    (kata_dir.root / "configuration.toml").write_text("# an admin's own\n")
    (kata_dir.root / "config.d" / "50.toml").write_text("[runtime]\n")
    before = kata_dir.tree()
    handlers = three(kata_dir)
    kata_dir(*handlers)
    one = kata_dir(*handlers[:2])
    assert [path for path in one["removed"] if path.endswith(MAIN)] == [str(kata_dir.root / "kata-fc" / MAIN)]
    assert not (kata_dir.root / "kata-fc").exists()
    assert kata_dir(*handlers[:1], purge=False)["changed"] is False
    assert kata_dir({"name": "kata-clh"}, state="absent")["changed"]
    assert sorted(path.name for path in kata_dir.root.iterdir()) == ["config.d", "configuration.toml", "kata-qemu"]
    predicted = kata_dir(state="absent", check=True)
    done = kata_dir(state="absent")
    assert {key: done.get(key) for key in SAME} == {key: predicted.get(key) for key in SAME}
    assert kata_dir(state="absent")["changed"] is False
    assert kata_dir.tree() == before


def test_drop_ins_of_others_are_kept_and_reported(kata_dir: KataDirectory) -> None:
    one = kata_dir.handler("kata-qemu", **SAFE)
    kata_dir(one)
    theirs = kata_dir.root / "kata-qemu" / "config.d" / "70-theirs.toml"
    theirs.write_text('[hypervisor.qemu]\nenable_annotations = ["x"]\nblock_device_aio = "threads"\n')
    report = kata_dir(one)["handlers"][0]
    assert report["effective"]["block_device_aio"] == "threads"
    assert (report["other_drop_ins"], report["overridden"]) == ([str(theirs)], [])
    answer = kata_dir({**one, "block_device_aio": "native"})
    assert answer["handlers"][0]["overridden"] == [{"path": str(theirs), "settings": ["hypervisor.qemu.block_device_aio"]}]
    assert f"{theirs} overrides hypervisor.qemu.block_device_aio" in answer["output"]
    gone = kata_dir(state="absent")
    assert str(theirs) not in gone["removed"]
    assert theirs.read_text().startswith("[hypervisor.qemu]")
    assert sorted(kata_dir.tree()) == ["kata-qemu", "kata-qemu/config.d", "kata-qemu/config.d/70-theirs.toml"]
    assert kata_dir(one)["changed"]
    assert kata_dir(one)["changed"] is False


def test_the_drop_in_is_found_where_kata_looks_for_it(kata_dir: KataDirectory) -> None:
    """Kata resolves links before it looks for config.d: a link to the vendor's file would take the vendor's directory."""
    one = kata_dir.handler("kata-qemu", **SAFE)
    kata_dir(one)
    main = kata_dir.root / "kata-qemu" / MAIN
    whole = kata_dir.tree()
    main.unlink()
    main.symlink_to(kata_dir.release.path("go", "qemu"))
    assert kata_dir(one)["files"] == [str(main)]
    assert (main.is_symlink(), kata_dir.tree()) == (False, whole)
    assert kata_dir.release.path("go", "qemu").read_text() == vendor_file("go", "qemu")
    assert (Path(os.path.realpath(main)).parent / DROP_IN).is_file()
    # A release's file may itself be a link, as configuration.toml is.
    link = kata_dir.release.defaults / MAIN
    link.symlink_to("configuration-qemu.toml")
    assert kata_dir({**one, "base_config": str(link)})["changed"] is False


def test_kata_deploys_layout_is_left_alone(kata_dir: KataDirectory) -> None:
    shim = kata_dir.release.defaults / "runtimes" / "qemu"
    shim.mkdir(parents=True)
    copy = shim / "configuration-qemu.toml"
    copy.write_text("# IMPORTANT: This file is managed by kata-deploy. Do not modify it directly!\n" + vendor_file("go", "qemu"))
    one = kata_dir.handler("kata-qemu", **SAFE)
    assert kata_dir(one)["kata_deploy"] == [str(shim)]
    refused = kata_dir({**one, "base_config": str(copy)})
    assert "is kata-deploy's copy, and left to it" in refused["msg"]
    refused = kata_dir.run(handlers=[one], config_dir=str(kata_dir.release.defaults / "runtimes"))
    assert "that directory belongs to Kata and kata-deploy" in refused["msg"]
    shutil.copytree(shim, kata_dir.root / "kata-deployed")
    refused = kata_dir(one, kata_dir.handler("kata-deployed", **SAFE))
    assert "is kata-deploy's, and left to it" in refused["msg"]
    assert [path.name for path in (kata_dir.root / "kata-deployed").iterdir()] == ["configuration-qemu.toml"]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disable_block_device_use": False}, "would hot-plug the host's own disk into the guest"),
        ({"shared_fs": "none", **SAFE}, "shared_fs is none, so nothing is shared"),
        ({"block_device_driver": "virtio-mmio"}, "block_device_driver can't be virtio-mmio with qemu on the go runtime"),
        ({"extra": {"hypervisor": {"clh": {"path": "/bin/clh"}}}}, "is the table of another hypervisor"),
        ({"extra": {"hypervisor": {"qemu": {"frobnicate": 1}}}}, "isn't known to this version of Kata"),
        ({"hypervisor": "acrn"}, "hypervisor"),
        ({"enable_iothreads": "perhaps"}, "enable_iothreads"),
    ],
)
def test_what_is_refused_changes_nothing(kata_dir: KataDirectory, options: dict[str, Any], message: str) -> None:
    for check in (True, False):
        answer = kata_dir(
            kata_dir.handler("kata-fc", "fc", snapshotter="devmapper"), {**kata_dir.handler("kata-qemu"), **options}, check=check
        )
        assert answer["failed"]
        assert message in answer["msg"]
    assert not kata_dir.root.exists()


def test_the_risk_can_be_accepted_by_name(kata_dir: KataDirectory) -> None:
    answer = kata_dir(kata_dir.handler("kata-qemu", disable_block_device_use=False, allow_host_disk_hotplug=True))
    assert answer["changed"]
    assert "can be given the host's own disk" in answer["output"]


EVENTS = {"IN_CREATE": 0x100, "IN_DELETE": 0x200, "IN_MOVED_FROM": 0x40, "IN_MOVED_TO": 0x80, "IN_MODIFY": 0x2}


@contextmanager
def watched(directory: Path) -> Iterator[list[tuple[str, str]]]:
    """Every change of the directory's entries and of its files' content, as event and name; there once the block has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    events: list[tuple[str, str]] = []
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(directory), sum(EVENTS.values())) >= 0
        yield events
        buffer = os.read(descriptor, 1 << 16)
        while buffer:
            _watch, mask, _cookie, length = struct.unpack_from("iIII", buffer)
            name = os.fsdecode(buffer[16 : 16 + length].rstrip(b"\0"))
            events.extend((event, name) for event, bit in EVENTS.items() if mask & bit)
            buffer = buffer[16 + length :]
    finally:
        os.close(descriptor)


def test_nothing_else_is_ever_in_config_d(kata_dir: KataDirectory) -> None:
    one = kata_dir.handler("kata-qemu", **SAFE)
    kata_dir(one)
    with watched(kata_dir.root / "kata-qemu" / "config.d") as events:
        assert kata_dir({**one, "block_device_aio": "native"})["changed"]
        assert kata_dir(one)["changed"]
        kata_dir.release.path("go", "qemu").write_text(vendor_file("go", "qemu", comment="new"))
        assert kata_dir(one)["changed"]
    # Equal events in a row are reported once.
    assert set(events) == {("IN_MOVED_TO", "60-slipway.toml")}
    with watched(kata_dir.root / "kata-qemu" / "config.d") as events:
        (kata_dir.root / "kata-qemu" / "config.d" / "60-slipway.toml~").write_text("")
    assert ("IN_CREATE", "60-slipway.toml~") in events, "the watch itself sees nothing"


def test_a_new_handler_appears_whole(kata_dir: KataDirectory) -> None:
    kata_dir.root.mkdir(parents=True)
    with watched(kata_dir.root) as events:
        kata_dir(kata_dir.handler("kata-qemu", **SAFE))
    assert [event for event, name in events if name == "kata-qemu"] == ["IN_MOVED_TO"]
    others = {name for _event, name in events} - {"kata-qemu"}
    assert [name.startswith(".slipway-kata-qemu.") for name in others] == [True]


def killed_at_rename(directory: Path, number: int) -> str:
    """A Python that is killed when it is about to rename for the time of that number."""
    path = directory / f"python-{number}"
    inject = f"rename:signal=SIGKILL:when={number}"
    path.write_text(f'#!/bin/sh\nexec strace -f -qq -o /dev/null -e trace=rename -e inject={inject} {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.smoke
def test_a_killed_run_is_finished_by_the_next(kata_dir: KataDirectory, tmp_path: Path) -> None:
    first, later = [kata_dir.handler("kata-qemu", **SAFE)], three(kata_dir)
    kata_dir(*later)
    whole = kata_dir.tree()
    kata_dir(state="absent")
    kata_dir(*first)
    kata_dir.release.path("go", "qemu").write_text(vendor_file("go", "qemu", comment="older"))
    kata_dir(*first)
    start = tmp_path / "start"
    shutil.copytree(kata_dir.root, start)
    kata_dir.release.path("go", "qemu").write_text(vendor_file("go", "qemu"))
    cut = 0
    for number in range(1, 10):
        shutil.rmtree(kata_dir.root)
        shutil.copytree(start, kata_dir.root)
        died = kata_dir(*later, python=killed_at_rename(tmp_path, number))
        if not died["failed"]:
            break
        cut += 1
        assert kata_dir.tree() != whole
        for path in kata_dir.root.glob("*/config.d"):
            assert os.listdir(path) in ([], ["60-slipway.toml"])
        assert kata_dir(*later)["changed"]
        assert kata_dir.tree() == whole
        assert kata_dir(*later)["changed"] is False
    assert cut == 4, "two files are renewed and two directories made"


def test_runs_wait_for_each_other(kata_dir: KataDirectory) -> None:
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = kata_dir(kata_dir.handler("kata-qemu", **SAFE), timeout=1)
        assert f"another run has held {LOCK} for 1 seconds" in answer["msg"]
        assert kata_dir(kata_dir.handler("kata-qemu", **SAFE), check=True)["changed"]
    assert kata_dir(kata_dir.handler("kata-qemu", **SAFE))["changed"]
