# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of control groups, the kernel's device and limits, the sandbox image, and the network of pods."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unread,
    unread_of_process,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.handler_checks import is_runc
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    KUBELET_CONFIG,
    NULL,
    KernelLimits,
    views_of,
)

# A shim has about a dozen threads, and runc as many while a container starts.
FEWEST_TASKS = 32
# A pod has one namespace of each kind, and its containers some.
FEWEST_NAMESPACES = 8
FEWEST_KEYS = 8
# A container begins with the mounts of the daemon, and adds its own.
FEWEST_MOUNTS = 64


@check
def cgroups(state: NodeState, expectation: Expectation) -> Finding:
    """runc can create control groups for containers."""
    expected = "control groups that the daemon can write to"
    if state.cgroups_problem is None:
        return unread_of_process(expected, state, "cgroups_problem")
    if state.cgroups_problem:
        remedy = "unmount what hides /sys/fs/cgroup, or remount it writable; a reboot mounts it again"
        return fail(expected, state.cgroups_problem, remedy)
    if state.missing_controllers:
        names = ", ".join(state.missing_controllers)
        found = f"the kernel has no controller {names}, which pods with limits and the kubelet need"
        return warn(expected, found, "enable it on the kernel's command line, such as with cgroup_enable=memory, and reboot")
    return unread(expected, state, "missing_controllers") if "missing_controllers" in state.trouble else ok(expected, "writable")


@check
def null_device(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon and its shims can use /dev/null."""
    expected = "the kernel's /dev/null"
    if state.null_problem is None:
        return unread_of_process(expected, state, "null_problem")
    hidden = views_of(state.unit_files or (), [NULL])
    if state.null_problem and hidden:
        remedy = f"remove the directive, run 'systemctl daemon-reload', and restart {state.unit}"
        return fail(expected, f"{state.null_problem} ({hidden})", remedy)
    if state.null_problem:
        remedy = f"unmount what may hide it, and create it with 'rm -rf {NULL} && mknod -m 666 {NULL} c 1 3'"
        return fail(expected, state.null_problem, remedy)
    return ok(expected, NULL)


@check
def kernel_limits(state: NodeState, expectation: Expectation) -> Finding:
    """The kernel's limits leave room for containers."""
    expected = "limits of the kernel that leave namespaces, tasks, keys and mounts for containers"
    if state.kernel_limits is None:
        return unread_of_process(expected, state, "kernel_limits")
    low = list(_low_limits(state.kernel_limits))
    if low:
        remedy = "raise the named sysctls (sysctl(8), and a file in /etc/sysctl.d), or end what uses them up"
        return fail(expected, "; ".join(low), remedy)
    return ok(expected, "enough")


def _low_limits(limits: KernelLimits) -> Iterator[str]:
    for kind, left in limits.namespaces.items():
        if left < FEWEST_NAMESPACES:
            yield f"root can create {max(left, 0)} more namespaces of the kind {kind} (user.max_{kind}_namespaces)"
    for number, fewest, words in (
        (limits.tasks, FEWEST_TASKS, "the node can start {} more tasks (kernel.pid_max, kernel.threads-max)"),
        (limits.keys, FEWEST_KEYS, "root can have {} more keys, one of which each container needs (kernel.keys.root_maxkeys)"),
        (limits.mounts, FEWEST_MOUNTS, "the daemon and its containers can make {} more mounts (fs.mount-max)"),
    ):
        if number is not None and number < fewest:
            yield words.format(max(number, 0))


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
def pod_files(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI can copy the node's files that each pod gets."""
    expected = "readable /etc/hosts and /etc/resolv.conf, which pods get"
    if state.config is not None and not state.config.cri_enabled:
        return None
    if state.config is None or state.pod_files is None:
        return unread(expected, state, "config", "pod_files", "version")
    if state.pod_files:
        remedy = "restore the named files; a link has to lead to a file, such as that of a resolver that runs"
        return fail(expected, f"CRI starts no pod: {'; '.join(state.pod_files)}", remedy)
    return ok(expected, "readable")


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
