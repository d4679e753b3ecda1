# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.process import Process
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import DIRECTORY, FILE, LINK, MODE, DirectoryEntry
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import parse_handlers
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DEVICES, DeclaredHandler, KataState, declared
from ansible_collections.slipway.node.plugins.module_utils.verify import kata_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import checks_in, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation, Finding, NodeState
from nodes.kata import vendor_file

CHECKS = checks_in(kata_checks)
PATH = "/etc/kata-containers/kata-qemu/configuration.toml"
DROP_IN = "/etc/kata-containers/kata-qemu/config.d/60-slipway.toml"
SNAPSHOTTER = "io.containerd.snapshotter.v1"
V3_RUNTIME, V3_IMAGES = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"


def file(text: str) -> DirectoryEntry:
    return DirectoryEntry(FILE, text.encode(), MODE)


WELL = DeclaredHandler(
    name="kata-qemu",
    shim_name="containerd-shim-kata-v2",
    shim="/opt/kata/bin/containerd-shim-kata-v2",
    config_path=PATH,
    snapshotters={"runtimes": "overlayfs", "runtime_platforms": "overlayfs"},
    main=vendor_file("go", "qemu").encode(),
    drop_ins={DROP_IN: file("[hypervisor.qemu]\ndisable_block_device_use = true\n")},
    version=Version(3, 26, 0),
)
EXPECTED = Expectation(
    kata=tuple(
        parse_handlers(
            [
                {
                    "name": "kata-qemu",
                    "runtime": "go",
                    "hypervisor": "qemu",
                    "base_config": "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml",
                    "disable_block_device_use": True,
                }
            ]
        )
    )
)
ALL_DEVICES = dict.fromkeys(DEVICES, True)


def state(*handlers: DeclaredHandler, **changes: Any) -> NodeState:
    states = {"overlayfs": "ok", "native": "ok", "devmapper": "skip"}
    plugins = tuple(Plugin(SNAPSHOTTER, name, status) for name, status in states.items())
    unit = UnitStatus(True, "active", "running", 7, 0, "process", "enabled", ("/a.service",), False, "success")
    daemon = Daemon(unit, Process(7, 1000.0, ("/usr/bin/containerd",), "/usr/bin/containerd"), plugins, (), "/usr/bin/containerd")
    options: dict[str, Any] = {
        "kata": KataState(handlers, ALL_DEVICES),
        "daemon": daemon,
        "config": EffectiveConfig({"version": 3}),
        **changes,
    }
    return NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, **options)


def findings(of: NodeState, expectation: Expectation = EXPECTED) -> dict[str, Finding]:
    return {one.id: one for one in run_checks(of, expectation, only=list(CHECKS))}


def test_all_is_well() -> None:
    assert {one.id: one.status for one in findings(state(WELL)).values()} == dict.fromkeys(CHECKS, "ok")


def test_a_node_without_kata_has_no_findings() -> None:
    assert findings(state(), Expectation()) == {}
    assert findings(state(kata=None), Expectation()) == {}


def test_a_node_that_could_not_be_read_is_unknown_where_handlers_are_expected() -> None:
    found = findings(state(kata=None, trouble={"kata": "no permission"}))
    assert {one.status for one in found.values()} == {"unknown"}
    assert {one.found for one in found.values()} == {"no permission"}


def test_handlers_that_could_not_be_read_are_not_passed_over() -> None:
    found = findings(state(kata=None, trouble={"kata": "no permission"}), Expectation())
    assert set(found) == set(CHECKS) - {"kata_handlers", "kata_settings"}
    assert {one.status for one in found.values()} == {"unknown"}


FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("kata_handlers", "fail", {"name": "kata-other"}, "not declared: kata-qemu"),
    ("kata_config_files", "fail", {"config_path": None}, "no ConfigPath"),
    ("kata_config_files", "warn", {"config_path": None, "assumed_path": PATH}, f"probably reads kata-qemu: {PATH}"),
    ("kata_config_files", "fail", {"drop_ins": {"/x/config.d": DirectoryEntry(LINK)}}, "a link that leads to no directory"),
    ("kata_config_files", "fail", {"drop_ins": {"/x/config.d": DirectoryEntry(FILE)}}, "/x/config.d is no directory"),
    ("kata_config_files", "fail", {"main": None}, f"there is no file {PATH}"),
    ("kata_config_files", "fail", {"main": b"["}, "is not TOML"),
    ("kata_config_files", "fail", {"drop_ins": {"/x/config.d/old": DirectoryEntry(DIRECTORY)}}, "/x/config.d/old is a directory"),
    (
        "kata_config_files",
        "fail",
        {"drop_ins": {"/x/config.d/1.toml": file("[hypervisor.clh]\n")}},
        "have 2 hypervisors to start",
    ),
    ("kata_config_files", "warn", {"drop_ins": {"/x/config.d/1.toml~": file("")}}, "read as drop-ins: /x/config.d/1.toml~"),
    ("kata_settings", "fail", {"drop_ins": {}, "main": vendor_file("go", "qemu", disable=False).encode()}, "False"),
    ("kata_settings", "fail", {"main": None}, "there is no file"),
    ("kata_settings", "fail", {"name": "kata-other"}, "not declared"),
    (
        "kata_rootfs_transport",
        "fail",
        {"drop_ins": {"/x/config.d/99.toml": file("[hypervisor.qemu]\ndisable_block_device_use = false\n")}},
        "the host's own disk",
    ),
    (
        "kata_rootfs_transport",
        "fail",
        {"main": vendor_file("go", "fc").encode(), "drop_ins": {}},
        "Firecracker shares no file system",
    ),
    ("kata_rootfs_transport", "unknown", {"snapshotters": {"runtimes": "stargz"}}, "it depends on what this snapshotter mounts"),
    ("kata_rootfs_transport", "unknown", {"main": b"[hypervisor.acrn]\n", "drop_ins": {}}, "an unknown hypervisor"),
    ("kata_rootfs_transport", "unknown", {"main": None}, "there is no file"),
    (
        "kata_snapshotters",
        "fail",
        {"snapshotters": {"runtimes": "devmapper", "runtime_platforms": None}},
        "images are unpacked for one and searched in another",
    ),
    (
        "kata_snapshotters",
        "fail",
        {"snapshotters": {"runtimes": "native", "runtime_platforms": "native"}},
        "native, but overlayfs is expected",
    ),
    (
        "kata_snapshotters",
        "fail",
        {"name": "other", "snapshotters": {"runtimes": "devmapper"}},
        "devmapper is skip in the daemon",
    ),
    ("kata_snapshotters", "fail", {"name": "other", "snapshotters": {"runtimes": "stargz"}}, "stargz is not loaded"),
]


def test_every_check_can_be_other_than_ok() -> None:
    assert {one[0] for one in FAULTS} | {"kata_devices", "kata_files", "kata_isolation"} == set(CHECKS)


@pytest.mark.parametrize(("name", "status", "changes", "message"), FAULTS)
def test_each_fault_is_found(name: str, status: str, changes: dict[str, Any], message: str) -> None:
    found = findings(state(replace(WELL, **changes)))[name]
    assert found.status == status
    assert message in str(found.found)
    assert found.remedy


def test_missing_devices_are_named() -> None:
    found = findings(state(kata=KataState((WELL,), {**ALL_DEVICES, "/dev/kvm": False})))["kata_devices"]
    assert (found.status, found.found) == ("fail", "missing: /dev/kvm")


def test_missing_files_of_a_guest_are_named() -> None:
    found = findings(state(WELL, kata_file_problems={"kata-qemu": "kernel /vmlinux isn't there"}))["kata_files"]
    assert (found.status, found.found) == ("fail", {"kata-qemu": "kernel /vmlinux isn't there"})
    assert found.remedy


@pytest.mark.parametrize(("runtime", "status"), [("rust", "fail"), ("go", "ok")])
def test_the_rust_runtime_reads_the_file_that_the_environment_names(runtime: str, status: str) -> None:
    handler = replace(WELL, main=vendor_file(runtime, "qemu").encode(), drop_ins={}, version=Version(4, 0, 0))
    found = findings(state(handler, environment={"KATA_CONF_FILE": "/other.toml"}))["kata_config_files"]
    assert found.status == status
    assert findings(state(handler, environment={"KATA_CONF_FILE": PATH}))["kata_config_files"].status == "ok"


def test_a_risk_that_was_accepted_by_name_is_accepted_for_that_handler_alone() -> None:
    risky = replace(WELL, drop_ins={"/x/config.d/99.toml": file("[hypervisor.qemu]\ndisable_block_device_use = false\n")})
    expected = Expectation(kata=(replace(EXPECTED.kata[0], settings={}, allow_host_disk_hotplug=True),))
    assert findings(state(risky), expected)["kata_rootfs_transport"].status == "ok"
    other = findings(state(risky, replace(risky, name="other")), expected)["kata_rootfs_transport"]
    assert other.status == "fail"
    assert list(other.found) == ["other"]


def test_the_rust_runtime_starts_the_hypervisor_that_it_names() -> None:
    main = vendor_file("rust", "qemu").encode()
    two = replace(WELL, main=main, drop_ins={"/x/config.d/1.toml": file("[hypervisor.clh]\n")}, version=Version(4, 1, 0))
    found = findings(state(two), Expectation())
    assert (found["kata_config_files"].status, found["kata_rootfs_transport"].found) == ("ok", {"kata-qemu": "virtio-fs"})
    link = replace(two, drop_ins={"/x/config.d/1.toml": DirectoryEntry(LINK, b"")})
    assert findings(state(link), Expectation())["kata_config_files"].status == "fail"


def test_handlers_are_found_in_what_the_daemon_prints(recorded: Callable[[str, str], str]) -> None:
    config = EffectiveConfig(tomllib.loads(recorded("1.6.20", "node.dump.toml")))
    (handler,) = declared(config, Version.parse("1.6.20"))
    assert (handler.name, handler.shim_name, handler.shim) == ("kata", "containerd-shim-kata-v2", None)
    assert handler.config_path == "/etc/kata/qemu/configuration.toml"
    assert declared(EffectiveConfig(tomllib.loads(recorded("2.1.9", "default.toml"))), Version.parse("2.1.9")) == []


@pytest.mark.parametrize(
    ("version", "table", "platform", "expected"),
    [
        ("2.1.9", "devmapper", None, {"runtimes": "devmapper", "runtime_platforms": None}),
        ("2.1.9", "devmapper", "devmapper", {"runtimes": "devmapper", "runtime_platforms": "devmapper"}),
        ("2.1.9", "", None, {"runtimes": None, "runtime_platforms": None}),
        ("2.3.4", "devmapper", None, {"runtimes": "devmapper"}),
        ("2.3.4", "devmapper", "overlayfs", {"runtimes": "devmapper", "runtime_platforms": "overlayfs"}),
    ],
)
def test_the_places_of_a_handlers_snapshotter(
    version: str, table: str, platform: str | None, expected: dict[str, str | None]
) -> None:
    handlers = {"kata-clh": {"runtime_type": "io.containerd.kata-clh.v2", "snapshotter": table, "runtime_path": "/x"}}
    platforms = {"kata-clh": {"snapshotter": platform}} if platform else {}
    tree = {
        "version": 3,
        "plugins": {V3_RUNTIME: {"containerd": {"runtimes": handlers}}, V3_IMAGES: {"runtime_platforms": platforms}},
    }
    (handler,) = declared(EffectiveConfig(tree), Version.parse(version))
    assert (handler.shim_name, handler.shim, handler.snapshotters) == ("containerd-shim-kata-clh-v2", "/x", expected)


def handlers(**tables: dict[str, Any]) -> EffectiveConfig:
    return EffectiveConfig({"version": 3, "plugins": {V3_RUNTIME: {"containerd": {"runtimes": tables}}}})


RUNC, CONFIGURED = {"runtime_type": "io.containerd.runc.v2"}, {"options": {"ConfigPath": PATH}}


@pytest.mark.parametrize(
    "table",
    [
        {**RUNC, **CONFIGURED},
        {"runtime_type": "io.containerd.kata.v2", "runtime_path": "/usr/bin/containerd-shim-runc-v2", **CONFIGURED},
    ],
)
def test_a_configuration_of_kata_for_runc_is_found(table: dict[str, Any]) -> None:
    found = findings(state(WELL, config=handlers(kata=table)), Expectation())["kata_isolation"]
    assert found.status == "fail" and found.remedy and f"kata has Kata's ConfigPath {PATH}" in str(found.found)


@pytest.mark.parametrize(
    "table",
    [
        RUNC,
        {"runtime_type": "io.containerd.runsc.v1", **CONFIGURED},
        {**RUNC, "runtime_path": "/opt/kata/bin/containerd-shim-kata-v2", **CONFIGURED},
    ],
)
def test_a_handler_without_kata_or_with_its_shim_is_well(table: dict[str, Any]) -> None:
    assert findings(state(WELL, config=handlers(any=table)), Expectation())["kata_isolation"].status == "ok"


def test_an_expected_handler_of_another_type_is_named_with_it() -> None:
    found = findings(state(config=handlers(**{"kata-qemu": RUNC})))["kata_handlers"]
    assert (found.status, found.found) == ("fail", "kata-qemu is declared with io.containerd.runc.v2, which doesn't start Kata")


@pytest.mark.parametrize(
    ("table", "shim_name", "shim"),
    [
        ({"runtime_type": "io.containerd.kata-qemu.v2"}, "containerd-shim-kata-qemu-v2", None),
        ({"runtime_type": "io.containerd.run.kata.v2"}, "containerd-shim-kata-v2", None),
        ({"runtime_type": "/opt/containerd-shim-kata-v2"}, "containerd-shim-kata-v2", "/opt/containerd-shim-kata-v2"),
        ({**RUNC, "runtime_path": "/opt/containerd-shim-kata-v2"}, "containerd-shim-kata-v2", "/opt/containerd-shim-kata-v2"),
    ],
)
def test_a_kata_handler_is_known_by_its_shim(table: dict[str, Any], shim_name: str, shim: str | None) -> None:
    (found,) = declared(handlers(any=table), Version(2, 3, 7))
    assert (found.shim_name, found.shim) == (shim_name, shim)


@pytest.mark.parametrize("kind", ["io.containerd.runc.v2", "io.containerd.runsc.v1", "io.containerd.katastrophe.runc.v2"])
def test_other_handlers_are_not_of_kata(kind: str) -> None:
    assert declared(handlers(any={"runtime_type": kind}), Version(2, 3, 7)) == []
