# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the daemon's surroundings: disks, its unit, the kubelet, the network of pods, and registries."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.handler_checks import is_runc
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    KUBELET_CONFIG,
    Room,
    harmful_directives,
    overridden_directives,
)

# A file system with less room counts as full: a container needs a few files and some megabytes to start.
FULL_BYTES = 16 * 1024 * 1024
FULL_INODES = 100
# Below so many percent of free space or inodes a file system will soon be full.
LOW_PERCENT = 5
# Without each of these CRI or ctr starts no container, or pulls no image. Measured with containerd 1.7.24 and 2.3.7.
_REQUIRED = (
    "containers-service",
    "content-service",
    "diff-service",
    "images-service",
    "namespaces-service",
    "snapshots-service",
    "tasks-service",
)
REQUIRED_PLUGINS = (
    *(f"io.containerd.service.v1.{name}" for name in _REQUIRED),
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.gc.v1.scheduler",
    "io.containerd.event.v1.exchange",
    "io.containerd.runtime.v2.task",
    "io.containerd.runtime.v2.shim",
    "io.containerd.shim.v1.manager",
    "io.containerd.differ.v1.walking",
)
# What serves clients such as ctr and this collection. CRI does without, so it may be disabled on purpose.
REQUIRED_BY_CLIENTS = (
    *(f"io.containerd.grpc.v1.{name.partition('-')[0]}" for name in _REQUIRED),
    "io.containerd.grpc.v1.leases",
)
REQUIRED_BY_CRI = (
    "io.containerd.sandbox.store.v1.local",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
)
# CRI of 1.x doesn't use it.
TRANSFER = "io.containerd.transfer.v1.local"


@check
def storage_space(state: NodeState, expectation: Expectation) -> Finding:
    """The file systems of the daemon's directories can be written to, and have room and inodes."""
    expected = f"writable, with more than {LOW_PERCENT} % of space and inodes free"
    if state.room is None:
        return unread(expected, state, "config", "room", "version")
    full = [fault for room in state.room for fault in _full(room)]
    if full:
        return fail(expected, "; ".join(full), "free space on the file system, enlarge it, or mount it writable")
    low = [fault for room in state.room for fault in _low(room)]
    if low:
        return warn(expected, "; ".join(low), "free space on the file system, or enlarge it")
    return ok(expected, {room.directory: f"{_percent(room.free, room.size)} % free" for room in state.room})


def _full(room: Room) -> Iterator[str]:
    if room.read_only:
        yield f"{room.directory} is on a read-only file system"
    if room.free < min(FULL_BYTES, room.size // 100):
        yield f"{room.directory} is on a full file system"
    if room.inodes and room.inodes_free < min(FULL_INODES, room.inodes // 100):
        yield f"{room.directory} is on a file system without free inodes"


def _low(room: Room) -> Iterator[str]:
    for free, size, what in ((room.free, room.size, "space"), (room.inodes_free, room.inodes, "inodes")):
        if size and _percent(free, size) < LOW_PERCENT:
            yield f"{room.directory} is on a file system with {_percent(free, size)} % of its {what} free"


def _percent(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 100


@check
def unit_directives(state: NodeState, expectation: Expectation) -> Finding:
    """systemd reads every line of the unit's files, none is overridden that the inventory asks for, and containers can start."""
    expected = "systemd applies every directive of the unit, and none keeps containers from working"
    if state.unit_files is None or "ignored_directives" in state.trouble:
        return unread(expected, state, "unit_files", "ignored_directives", "daemon")
    harmful = harmful_directives(state.unit_files)
    if harmful:
        remedy = f"remove the directives, run 'systemctl daemon-reload', and restart {state.unit}"
        return fail(expected, f"containers don't work with {'; '.join(harmful)}", remedy)
    own = drop_in_path(state.unit)
    overridden = overridden_directives(state.unit_files, own)
    if overridden:
        return fail(expected, "; ".join(overridden), "remove the directives from the named file, which systemd reads later")
    ignored = [line for line in state.ignored_directives if line.startswith(f"{own}:")]
    if ignored:
        return fail(expected, "; ".join(ignored), f"correct containerd_service_directives, then {CONFIGURE}")
    if state.ignored_directives:
        return warn(expected, "; ".join(state.ignored_directives), "correct or remove the named lines: systemd ignores them")
    return ok(expected, f"{len(state.unit_files)} files")


@check
def required_plugins(state: NodeState, expectation: Expectation) -> Finding:
    """disabled_plugins leaves on what containers need."""
    expected = "no plugin that containers need is disabled"
    if state.config is None or state.version is None:
        return unread(expected, state, "config", "version")
    required = REQUIRED_PLUGINS
    if state.config.cri_enabled:
        required += (*REQUIRED_BY_CRI, TRANSFER) if state.version.at_least("2.0.0") else REQUIRED_BY_CRI
    disabled = [name for name in state.config.disabled_plugins if name in required]
    if disabled:
        return fail(expected, f"disabled: {', '.join(disabled)}", "remove them from disabled_plugins, and restart the daemon")
    for_clients = [name for name in state.config.disabled_plugins if name in REQUIRED_BY_CLIENTS]
    if for_clients:
        remedy = "remove them from disabled_plugins, and restart the daemon: ctr and slipway.node need them"
        found = f"disabled, so that clients of the daemon's own API don't work: {', '.join(for_clients)}"
        return (warn if state.config.cri_enabled else fail)(expected, found, remedy)
    return ok(expected, "none")


@check
def cgroup_driver(state: NodeState, expectation: Expectation) -> Finding | None:
    """The handlers of runc use the kubelet's cgroup driver."""
    if "kubelet" in state.trouble:
        return unread(f"as in {KUBELET_CONFIG}", state, "kubelet")
    driver = state.kubelet.cgroup_driver if state.kubelet is not None else None
    if driver is None:
        return None
    expected = f"{driver}, as in {KUBELET_CONFIG}"
    if state.config is None or state.version is None:
        return unread(expected, state, "config", "version")
    found = {
        name: "systemd" if state.config.handler_options(name).get("SystemdCgroup") else "cgroupfs"
        for name, handler in state.config.handlers.items()
        if is_runc(handler.type or "")
    }
    if all(one == driver for one in found.values()):
        return ok(expected, found)
    remedy = "set SystemdCgroup of these handlers (containerd_systemd_cgroup) to the kubelet's driver, or the kubelet's to theirs"
    # From 2.0 on CRI tells the driver to a kubelet of 1.31 or newer, which follows it.
    return (warn if state.version.at_least("2.0.0") else fail)(expected, found, remedy)


@check
def sandbox_image(state: NodeState, expectation: Expectation) -> Finding | None:
    """The image that pods start with is on a node that runs pods, and the kubelet will not remove it."""
    expected = "on the node, and pinned"
    if state.config is not None and not (state.config.cri_enabled and state.config.sandbox_image):
        return None
    if state.sandbox is None or state.version is None:
        return unread(expected, state, "config", "version", "sandbox", "daemon")
    name, pods = state.sandbox.name, state.sandbox.used or state.kubelet is not None
    pull = f"pull it through CRI, such as with 'crictl pull {name}'"
    if not state.sandbox.present:
        return warn(expected, f"{name} is not on the node", pull) if pods else ok(expected, f"{name} comes with the first pod")
    # containerd 1.7 pins only what CRI pulls; the kubelet collects the image otherwise. 1.6 pins nothing.
    unpinned = state.version.at_least("1.7.0") and not state.version.at_least("2.0.0") and not state.sandbox.pinned
    if unpinned and state.kubelet is not None:
        label = f"ctr --namespace k8s.io images label {name} io.cri-containerd.pinned=pinned"
        return warn(expected, f"{name} is not pinned, and the kubelet may remove it", f"run '{label}'")
    return ok(expected, name)


@check
def pod_network(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI can set up the network of pods, or has no configuration for it yet."""
    expected = "a usable CNI configuration, whose plugins are installed"
    if state.config is not None and not state.config.cri_enabled:
        return None
    if state.network is None:
        return unread(expected, state, "config", "network", "version")
    network = state.network
    if network.problems:
        remedy = f"repair the files in {network.directory}, or install the named CNI plugins"
        return warn(expected, "; ".join(network.problems), remedy)
    if not network.files and state.kubelet is not None:
        return warn(expected, f"no file in {network.directory}", "install the network plugin of the cluster")
    return ok(expected, ", ".join(network.files) or f"no file in {network.directory} yet")


@check
def registry_files(state: NodeState, expectation: Expectation) -> Finding | None:
    """containerd can read the hosts.toml files, and other users can't read the secrets in them."""
    expected = "readable hosts.toml files with all their certificates, and private secrets"
    if state.config is not None and not state.config.cri_enabled:
        return None
    if state.registry_files is None:
        return unread(expected, state, "config", "version", "registry_files")
    broken = [f"{one.path} {problem}" for one in state.registry_files for problem in one.problems]
    if broken:
        return fail(expected, "; ".join(broken), f"repair or remove the named files, or {CONFIGURE}")
    exposed = [path for one in state.registry_files for path in one.exposed]
    if exposed:
        remedy = f"run 'chmod o-r' on the named files: {', '.join(exposed)}"
        return warn(expected, f"secrets that every user can read: {', '.join(exposed)}", remedy)
    return ok(expected, f"{len(state.registry_files)} files")
