# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.verify import surroundings_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import checks_in, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation, Finding, NodeState
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    Kubelet,
    PodNetwork,
    RegistryFile,
    Room,
    SandboxImage,
)

CHECKS = checks_in(surroundings_checks)
RUNTIME, IMAGES = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
OWN = "/etc/systemd/system/containerd.service.d/60-slipway.conf"
GIGABYTE = 2**30
PAUSE = "registry.k8s.io/pause:3.10"
SANDBOX = SandboxImage(PAUSE, present=True, pinned=True, used=True)
ROOM = Room("/var/lib/containerd", 100 * GIGABYTE, 50 * GIGABYTE, 1000000, 500000)
DUMP: dict[str, Any] = {
    "version": 3,
    "plugins": {
        RUNTIME: {"containerd": {"runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2"}}}},
        IMAGES: {"pinned_images": {"sandbox": PAUSE}},
    },
}
UNIT_FILES = (Source("/usr/lib/systemd/system/containerd.service", "[Service]\n"), Source(OWN, "[Service]\nTasksMax=5\n"))


def state(**changes: Any) -> NodeState:
    options: dict[str, Any] = {
        "version": Version(2, 3, 7),
        "config": EffectiveConfig(DUMP),
        "room": (ROOM,),
        "kubelet": Kubelet("cgroupfs"),
        "sandbox": SANDBOX,
        "network": PodNetwork("/etc/cni/net.d", ("/etc/cni/net.d/10.conflist",)),
        "unit_files": UNIT_FILES,
        "registry_files": (RegistryFile("/certs.d/a/hosts.toml"),),
        **changes,
    }
    return NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, **options)


def finding(name: str, node: NodeState) -> Finding | None:
    return next(iter(run_checks(node, Expectation(), only=[name])), None)


@pytest.mark.parametrize("name", CHECKS)
def test_all_is_well(name: str) -> None:
    found = finding(name, state())
    assert found is not None and found.status == "ok" and not found.remedy


@pytest.mark.parametrize("name", CHECKS)
def test_a_node_that_could_not_be_read_is_unknown(name: str) -> None:
    unread = dict.fromkeys(("config", "room", "sandbox", "network", "unit_files", "registry_files", "version"))
    found = finding(name, state(**unread, trouble={"config": "bad TOML", "unit_files": "bad TOML"}))
    assert found is not None and (found.status, found.found) == ("unknown", "bad TOML")


@pytest.mark.parametrize("name", CHECKS)
def test_a_node_without_kubernetes_is_well(name: str) -> None:
    absent = SandboxImage(PAUSE, present=False, pinned=False, used=False)
    fresh = state(kubelet=None, sandbox=absent, network=PodNetwork("/etc/cni/net.d", ()), registry_files=())
    found = finding(name, fresh)
    assert found is None or found.status == "ok"


@pytest.mark.parametrize(("name", "part"), [("unit_directives", "ignored_directives"), ("cgroup_driver", "kubelet")])
def test_a_part_that_could_not_be_read_is_unknown(name: str, part: str) -> None:
    found = finding(name, state(kubelet=None, trouble={part: "it took too long"}))
    assert found is not None and (found.status, found.found) == ("unknown", "it took too long")


def room(**changes: Any) -> dict[str, Any]:
    return {"room": (ROOM, Room(**{**vars(ROOM), "directory": "/run/containerd", **changes}))}


def sandbox(**changes: bool) -> SandboxImage:
    return SandboxImage(**{**vars(SANDBOX), **changes})


def overriding(value: str) -> Source:
    return Source(f"{OWN[:-15]}http-proxy.conf", f"[Service]\nTasksMax={value}\n")


OLD = Version(1, 7, 24)
FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("storage_space", "fail", room(read_only=True), "/run/containerd is on a read-only file system"),
    ("storage_space", "fail", room(free=0), "/run/containerd is on a full file system"),
    ("storage_space", "fail", room(inodes_free=0), "without free inodes"),
    ("storage_space", "warn", room(free=4 * GIGABYTE), "/run/containerd is on a file system with 4 % of its space free"),
    ("storage_space", "warn", room(inodes_free=40000), "4 % of its inodes free"),
    ("unit_directives", "fail", {"unit_files": (*UNIT_FILES, overriding("4"))}, "TasksMax=5 of "),
    (
        "unit_directives",
        "fail",
        {"unit_files": (Source("/a.conf", "[Service]\nPrivateDevices=yes\n"),)},
        "containers don't work with PrivateDevices=yes in /a.conf",
    ),
    ("unit_directives", "fail", {"ignored_directives": (f"{OWN}:2: Failed to parse",)}, "Failed to parse"),
    ("unit_directives", "warn", {"ignored_directives": ("/a.conf:2: Unknown key",)}, "/a.conf:2"),
    (
        "required_plugins",
        "fail",
        {"config": EffectiveConfig({"disabled_plugins": ["io.containerd.service.v1.tasks-service"]})},
        "disabled: io.containerd.service.v1.tasks-service",
    ),
    (
        "required_plugins",
        "fail",
        {"config": EffectiveConfig({"disabled_plugins": ["io.containerd.transfer.v1.local"]})},
        "disabled: io.containerd.transfer.v1.local",
    ),
    (
        "required_plugins",
        "warn",
        {"config": EffectiveConfig({"disabled_plugins": ["io.containerd.grpc.v1.images"]})},
        "clients of the daemon's own API don't work: io.containerd.grpc.v1.images",
    ),
    (
        "required_plugins",
        "fail",
        {"config": EffectiveConfig({"disabled_plugins": ["cri", "io.containerd.grpc.v1.images"]})},
        "clients of the daemon's own API don't work",
    ),
    ("cgroup_driver", "warn", {"kubelet": Kubelet("systemd")}, "{'runc': 'cgroupfs'}"),
    ("cgroup_driver", "fail", {"kubelet": Kubelet("systemd"), "version": OLD}, "cgroupfs"),
    ("sandbox_image", "warn", {"sandbox": sandbox(present=False)}, f"{PAUSE} is not on the node"),
    ("sandbox_image", "warn", {"sandbox": sandbox(present=False), "kubelet": None}, "is not on the node"),
    ("sandbox_image", "warn", {"sandbox": sandbox(pinned=False), "version": OLD}, "is not pinned"),
    ("pod_network", "warn", {"network": PodNetwork("/etc/cni/net.d", (), ("/a is no CNI configuration",))}, "/a is no CNI"),
    ("pod_network", "warn", {"network": PodNetwork("/etc/cni/net.d", ())}, "no file in /etc/cni/net.d"),
    ("registry_files", "fail", {"registry_files": (RegistryFile("/a", ("is a FIFO",)),)}, "/a is a FIFO"),
    ("registry_files", "warn", {"registry_files": (RegistryFile("/a", (), ("/a",)),)}, "every user can read: /a"),
]


@pytest.mark.parametrize(("name", "status", "changes", "words"), FAULTS)
def test_each_fault_is_found(name: str, status: str, changes: dict[str, Any], words: str) -> None:
    found = finding(name, state(**changes))
    assert found is not None and found.status == status and found.remedy
    assert words in str(found.found)


def test_every_check_can_be_other_than_ok() -> None:
    assert {one[0] for one in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # btrfs has no fixed number of inodes; a small file system in memory may have few.
        ("storage_space", room(inodes=0, inodes_free=0)),
        ("storage_space", room(size=8 * 2**20, free=8 * 2**20, inodes=60, inodes_free=50)),
        ("unit_directives", {"unit_files": (*UNIT_FILES, overriding("5"))}),
        ("required_plugins", {"config": EffectiveConfig({"disabled_plugins": ["io.containerd.snapshotter.v1.zfs", "cri"]})}),
        (
            "required_plugins",
            {"config": EffectiveConfig({"disabled_plugins": ["io.containerd.transfer.v1.local"]}), "version": Version(1, 7, 24)},
        ),
        ("required_plugins", {"config": EffectiveConfig({"disabled_plugins": ["cri", "io.containerd.cri.v1.images"]})}),
        ("sandbox_image", {"sandbox": sandbox(pinned=False)}),
        ("sandbox_image", {"sandbox": sandbox(pinned=False), "version": OLD, "kubelet": None}),
        ("sandbox_image", {"sandbox": sandbox(pinned=False), "version": Version(1, 6, 20)}),
    ],
)
def test_a_healthy_node_is_not_reported(name: str, changes: dict[str, Any]) -> None:
    found = finding(name, state(**changes))
    assert found is not None and found.status == "ok"


@pytest.mark.parametrize("name", ["sandbox_image", "pod_network", "registry_files"])
def test_without_cri_nothing_is_said_of_pods(name: str) -> None:
    assert finding(name, state(config=EffectiveConfig({**DUMP, "disabled_plugins": ["cri"]}))) is None
