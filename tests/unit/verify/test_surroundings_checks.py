# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import files_of, parse_registries
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import CurrentFile
from ansible_collections.slipway.node.plugins.module_utils.verify import pod_checks, registry_checks, surroundings_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import checks_in, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation, Finding, NodeState
from ansible_collections.slipway.node.plugins.module_utils.verify.registry_files import RegistryFile
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    Confinement,
    KernelLimits,
    Kubelet,
    PodNetwork,
    Room,
    SandboxImage,
)

CHECKS = {**checks_in(surroundings_checks), **checks_in(pod_checks), **checks_in(registry_checks)}
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
REGISTRIES = parse_registries([{"name": "a.example", "username": "node", "password": "never-shown"}])
HOSTS_TOML = CurrentFile(files_of(REGISTRIES[0])["hosts.toml"].content, 0o600)
HOSTS = {"a.example": {"hosts.toml": HOSTS_TOML}}
UNIT_FILES = (Source("/usr/lib/systemd/system/containerd.service", "[Service]\n"), Source(OWN, "[Service]\nTasksMax=5\n"))


def state(**changes: Any) -> NodeState:
    options: dict[str, Any] = {
        "version": Version(2, 3, 7),
        "config": EffectiveConfig(DUMP),
        "room": (ROOM,),
        "kubelet": Kubelet("cgroupfs"),
        "sandbox": SANDBOX,
        "network": PodNetwork("/etc/cni/net.d", ("/etc/cni/net.d/10.conflist",)),
        "cgroups_problem": "",
        "null_problem": "",
        "kernel_limits": KernelLimits({"mnt": 500}, tasks=30000, keys=199, mounts=90000),
        "pod_files": (),
        "unit_files": UNIT_FILES,
        "registry_files": (RegistryFile("/certs.d/a/hosts.toml"),),
        "hosts": HOSTS,
        **changes,
    }
    return NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, **options)


def finding(name: str, node: NodeState) -> Finding | None:
    return next(iter(run_checks(node, Expectation(registries=REGISTRIES), only=[name])), None)


@pytest.mark.parametrize("name", CHECKS)
def test_all_is_well(name: str) -> None:
    found = finding(name, state())
    assert found is not None and found.status == "ok" and not found.remedy


@pytest.mark.parametrize("name", [one for one in CHECKS if one not in ("cgroups", "null_device", "kernel_limits")])
def test_a_node_that_could_not_be_read_is_unknown(name: str) -> None:
    unread = dict.fromkeys(("config", "room", "sandbox", "network", "unit_files", "registry_files", "hosts", "version"))
    found = finding(name, state(**unread, trouble=dict.fromkeys(("config", "unit_files", "hosts"), "bad TOML")))
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


def hosts(**changes: Any) -> dict[str, Any]:
    return {"hosts": {"a.example": {"hosts.toml": replace(HOSTS_TOML, **changes)}}}


def sandbox(**changes: bool) -> SandboxImage:
    return SandboxImage(**{**vars(SANDBOX), **changes})


def overriding(value: str) -> Source:
    return Source(f"{OWN[:-15]}http-proxy.conf", f"[Service]\nTasksMax={value}\n")


def confined(**changes: Any) -> dict[str, Any]:
    return {"confinement": Confinement(**changes)}


def message_size(size: int, direction: str = "recv") -> dict[str, Any]:
    return {"config": EffectiveConfig({"version": 3, "grpc": {f"max_{direction}_message_size": size}})}


def failed_plugin(kind: str, name: str) -> dict[str, Any]:
    unit = UnitStatus(True, "active", "running", 5, 0, "process", "enabled", (), False, "success")
    daemon = Daemon(unit, None, (Plugin(kind, name, "error"), Plugin("io.containerd.snapshotter.v1", "zfs", "error")))
    return {"daemon": daemon, "plugin_reasons": {f"{kind}.{name}": "no such differ"}}


OLD = Version(1, 7, 24)
FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("storage_space", "fail", room(read_only=True), "/run/containerd is on a read-only file system"),
    ("storage_space", "fail", room(immutable=True), "/run/containerd is immutable"),
    ("storage_space", "fail", room(free=0), "/run/containerd is on a full file system"),
    ("storage_space", "fail", room(inodes_free=0), "without free inodes"),
    ("storage_space", "warn", room(free=4 * GIGABYTE), "/run/containerd is on a file system with 4 % of its space free"),
    ("storage_space", "warn", room(inodes_free=40000), "4 % of its inodes free"),
    ("storage_space", "warn", room(available=0), "/run/containerd is on a file system with 0 % of its space free"),
    ("storage_space", "fail", room(missing=True, size=0, free=0, inodes=0), "/run/containerd isn't there"),
    ("storage_space", "fail", room(directory="/a/snapshots", missing=True), "/a/snapshots isn't there"),
    ("storage_space", "fail", room(noexec=True, runs_programs=True), "mounted noexec"),
    ("storage_space", "warn", room(free=0, available=0, directories_only=True), "0 % of its space free"),
    ("unit_directives", "fail", {"unit_files": (*UNIT_FILES, overriding("4"))}, "TasksMax=5 of "),
    (
        "unit_directives",
        "fail",
        {"unit_files": (Source("/a.conf", "[Service]\nPrivateDevices=yes\n"),)},
        "containers don't work with PrivateDevices=yes in /a.conf",
    ),
    ("unit_directives", "fail", confined(missing=("CAP_MKNOD",)), "a daemon without CAP_MKNOD"),
    ("unit_directives", "fail", confined(tasks_left=4), "4 tasks left for the daemon and its shims (TasksMax=5 in "),
    ("unit_directives", "fail", confined(memory=2**25), "at most 33554432 bytes of memory"),
    ("unit_directives", "fail", confined(file_size=2**20), "files of at most 1048576 bytes"),
    ("unit_directives", "fail", confined(files=64), "at most 64 open files"),
    ("unit_directives", "fail", confined(cpu_seconds=9), "at most 9 seconds of CPU time"),
    ("unit_directives", "fail", confined(stack=16384), "a stack of at most 16384 bytes"),
    ("unit_directives", "fail", confined(no_mounts_in=True), "mounts of the node, such as volumes, that don't reach containers"),
    ("unit_directives", "warn", confined(no_mounts_out=True), "don't reach the node"),
    (
        "unit_directives",
        "warn",
        {"unit_files": (Source("/a.conf", "[Service]\nMemoryDenyWriteExecute=yes\n"),), **confined()},
        "make memory executable, as Java and Node.js do (MemoryDenyWriteExecute=yes in /a.conf)",
    ),
    ("unit_directives", "warn", confined(filtered=True), "system calls are filtered, also in containers"),
    (
        "unit_directives",
        "warn",
        {"unit_files": (Source("/a.conf", "[Service]\nIPAddressDeny=any\n"),), **confined(filters_addresses=True)},
        "the daemon reaches no registry but those of the node itself (IPAddressDeny=any in /a.conf)",
    ),
    ("unit_directives", "warn", confined(address_space=2**33), "can address at most 8589934592 bytes"),
    ("unit_directives", "fail", confined(hidden=("/a.toml",)), "a configuration that the daemon doesn't see: /a.toml"),
    ("unit_directives", "fail", confined(moved=("/a",), in_memory=("/a",)), "in memory for it alone: /a"),
    ("unit_directives", "warn", confined(moved=("/a",)), "other directories than the node: /a"),
    ("unit_directives", "warn", confined(no_new_privileges=True), "gain privileges"),
    ("unit_directives", "warn", confined(processes=50), "50 processes in all containers"),
    ("message_size", "fail", message_size(500), "is 500: no image can be imported"),
    ("message_size", "fail", {**message_size(262144), "version": OLD}, "no image can be imported"),
    ("message_size", "warn", message_size(262144), "with --local fails"),
    ("message_size", "fail", message_size(500, "send"), "max_send_message_size is 500: images can't be listed or exported"),
    ("message_size", "warn", message_size(262144, "send"), "'ctr content get' fails"),
    ("required_plugins", "fail", failed_plugin("io.containerd.service.v1", "diff-service"), "error: no such differ"),
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
    ("pod_files", "fail", {"pod_files": ("/etc/resolv.conf isn't there",)}, "starts no pod: /etc/resolv.conf isn't there"),
    ("cgroups", "fail", {"cgroups_problem": "/sys/fs/cgroup is mounted read-only"}, "mounted read-only"),
    ("cgroups", "warn", {"missing_controllers": ("memory",)}, "the kernel has no controller memory, which pods with limits"),
    ("cgroups", "unknown", {"cgroups_problem": None}, "not read"),
    ("null_device", "fail", {"null_problem": "/dev/null isn't there"}, "/dev/null isn't there"),
    (
        "null_device",
        "fail",
        {
            "null_problem": "/dev/null is not the kernel's null device",
            "unit_files": (Source("/a.conf", "[Service]\nInaccessiblePaths=/dev/null\n"),),
        },
        "device (InaccessiblePaths=/dev/null in /a.conf)",
    ),
    ("null_device", "unknown", {"null_problem": None}, "not read"),
    ("kernel_limits", "unknown", {"kernel_limits": None}, "not read"),
    (
        "kernel_limits",
        "fail",
        {"kernel_limits": KernelLimits({"mnt": -2, "net": 900})},
        "root can create 0 more namespaces of the kind mnt (user.max_mnt_namespaces)",
    ),
    ("kernel_limits", "fail", {"kernel_limits": KernelLimits(tasks=5)}, "the node can start 5 more tasks"),
    ("kernel_limits", "fail", {"kernel_limits": KernelLimits(keys=0)}, "root can have 0 more keys"),
    ("kernel_limits", "fail", {"kernel_limits": KernelLimits(mounts=3)}, "can make 3 more mounts (fs.mount-max)"),
    ("pod_files", "unknown", {"pod_files": None}, "not read"),
    ("pod_network", "warn", {"network": PodNetwork("/etc/cni/net.d", ())}, "no file in /etc/cni/net.d"),
    ("registry_files", "fail", {"registry_files": (RegistryFile("/a", ("is a FIFO",)),)}, "/a is a FIFO"),
    ("registry_files", "warn", {"registry_files": (RegistryFile("/a", (), ("/a",)),)}, "every user can read: /a"),
    ("registry_hosts", "fail", {"hosts": {}}, "a.example/hosts.toml is missing"),
    ("registry_hosts", "fail", hosts(content=b"# Managed by slipway.node\n"), "a.example/hosts.toml has another content"),
    ("registry_hosts", "fail", hosts(mode=0o644), "a.example/hosts.toml has the mode 0644, not 0600"),
    ("registry_hosts", "fail", hosts(content=b"[host]"), "a.example configures a.example and was not created by this module"),
    ("registry_hosts", "fail", {"hosts": {**HOSTS, "b.example": HOSTS["a.example"]}}, "b.example/hosts.toml is there"),
]


@pytest.mark.parametrize(("name", "status", "changes", "words"), FAULTS)
def test_each_fault_is_found(name: str, status: str, changes: dict[str, Any], words: str) -> None:
    found = finding(name, state(**changes))
    assert found is not None and found.status == status and found.remedy
    assert words in str(found.found)
    assert "never-shown" not in str(found)


def test_every_check_can_be_other_than_ok() -> None:
    assert {one[0] for one in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # btrfs has no fixed number of inodes; a small file system in memory may have few.
        ("storage_space", room(inodes=0, inodes_free=0)),
        ("storage_space", room(noexec=True)),
        # Reserved blocks are no space in use.
        ("storage_space", room(size=100 * GIGABYTE, free=95 * GIGABYTE, available=20 * GIGABYTE)),
        ("storage_space", room(size=8 * 2**20, free=8 * 2**20, inodes=60, inodes_free=50)),
        ("unit_directives", {"unit_files": (*UNIT_FILES, overriding("5"))}),
        ("unit_directives", confined(tasks_left=4000, memory=2**30, files=1024, processes=30000)),
        ("kernel_limits", {"kernel_limits": KernelLimits()}),
        # With the first version of control groups, systemd filters no packets.
        ("unit_directives", {"unit_files": (Source("/a.conf", "[Service]\nIPAddressDeny=any\n"),), **confined()}),
        ("message_size", message_size(0)),
        ("message_size", message_size(2**21)),
        ("required_plugins", failed_plugin("io.containerd.snapshotter.v1", "btrfs")),
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


@pytest.mark.parametrize("name", ["sandbox_image", "pod_files", "pod_network", "registry_files"])
def test_without_cri_nothing_is_said_of_pods(name: str) -> None:
    assert finding(name, state(config=EffectiveConfig({**DUMP, "disabled_plugins": ["cri"]}))) is None


def test_registries_that_the_inventory_does_not_list_are_not_compared() -> None:
    assert run_checks(state(hosts={}), Expectation(), only=["registry_hosts"]) == []


def test_a_mirror_that_containerd_1_cannot_read_is_refused_as_provisioning_does() -> None:
    mirrors = parse_registries([{"name": "a.example", "mirrors": [{"url": "https://[::1]:5000"}]}])
    files = {name: CurrentFile(file.content, file.mode) for name, file in files_of(mirrors[0]).items()}
    expectation = Expectation(registries=mirrors)
    for version, status in ((OLD, "fail"), (Version(2, 3, 7), "ok")):
        (found,) = run_checks(state(version=version, hosts={"a.example": files}), expectation, only=["registry_hosts"])
        assert found.status == status
