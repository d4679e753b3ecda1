# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The input and the result of a check of the node.

To add a check, write a function with the decorator ``@check`` in the file of its subject: daemon_checks.py, config_checks.py,
pull_checks.py, handler_checks.py (the chain below a handler), surroundings_checks.py (disks, limits, plugins), pod_checks.py,
registry_checks.py, snapshotter_checks.py, image_checks.py, toolbox_checks.py, kata_checks.py, thin_pool_checks.py or
probe_checks.py. The function's name is the check's id, its place in the file the place
of its finding. It gets the node's state and the expectation, and returns one Finding by ``ok``, ``fail``, ``warn`` or
``unknown``, or None if it doesn't apply. A state that can't be determined is ``unknown``, never None. verify/host/node_state.py
reads the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import BrokenImport
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE, NO_ANSWER
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.core.shutdown import Shutdown
from ansible_collections.slipway.node.plugins.module_utils.images.expected import ExpectedImage, FoundImage, JudgedImage
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import AUTO
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import Handler
from ansible_collections.slipway.node.plugins.module_utils.kata.state import KataState
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import NONE, Report
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import Registry
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import FoundDirectory
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.stranded import StrandedImage
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import PoolState
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import KERNEL_LAYERS, Headroom
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, Toolboxes
from ansible_collections.slipway.node.plugins.module_utils.verify.programs import Program
from ansible_collections.slipway.node.plugins.module_utils.verify.registry_files import RegistryFile
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    Confinement,
    KernelLimits,
    Kubelet,
    PodNetwork,
    Room,
    SandboxImage,
)

CONFIGURE = "run the playbook slipway.node.provision on this node"
REPAIR = "run the playbook slipway.node.repair on this node"
# The reason why the daemon's state is unknown if it doesn't run or doesn't answer.
DAEMON_UNREACHABLE = "the daemon doesn't answer"


@dataclass(frozen=True)
class NodeState:
    """What was read from the node. None stands for what couldn't be; ``trouble`` says why, by name.

    ``mounts`` are the file systems of the directories with images, by directory, ``boot`` the kernel's id of this boot.
    ``judged`` are images that were compared with their layers, ``compared`` how closely (``none``: not at all).
    ``defaults`` is the configuration that the program has without any file.
    ``plugin_reasons`` say by name why the daemon hasn't a snapshotter, ``missing_requirements`` what the node lacks for one.
    ``stranded`` are images of CRI's that no snapshotter in use has. ``unread_hosts_dirs`` are directories of registries that
    CRI doesn't read, ``verifiers`` the paths of the image verifiers. ``probe`` is what a container with each handler did.

    ``programs`` are those of each handler, the default handler first. ``runtime_root_problems``, ``base_spec_problems`` and
    ``kata_file_problems`` say by handler which of its directories and files are missing or wrong. ``kubelet`` is None on a
    node without one. ``unit_files`` are the files of the unit, ``environment_files`` those that its EnvironmentFile= names,
    ``ignored_directives`` the lines that systemd ignores, in its own words, ``starts_at_boot`` whether the default target
    starts the unit, ``boot_complaints`` why systemd may leave it out. ``listener`` is the process at the daemon's socket,
    ``cgroups_problem`` why the daemon can make no control groups, ``missing_controllers`` those that limits need,
    ``null_problem`` why it can't use /dev/null, ``kernel_limits`` what those leave, ``confinement`` is that of the daemon's
    process, ``lost_databases`` those that it has open and that were deleted, replaced, or hidden by a mount. ``pod_files`` says
    what is wrong with files that CRI copies for pods. ``hosts`` are the directories of registries that the inventory's are
    compared with.
    """

    config_file: str
    unit: str
    now: float
    architecture: str = "amd64"
    version: Version | None = None
    daemon: Daemon | None = None
    sources: tuple[Source, ...] = ()
    broken_imports: tuple[BrokenImport, ...] = ()
    config: EffectiveConfig | None = None
    defaults: EffectiveConfig | None = None
    pending: tuple[str, ...] = ()
    interrupted_upgrade: bool = False
    environment: Mapping[str, str] | None = None
    images: tuple[FoundImage, ...] | None = None
    headroom: Headroom | None = None
    pulls: tuple[Pull, ...] | None = None
    boot: str | None = None
    mounts: Mapping[str, Mount] | None = None
    shutdown: Shutdown | None = None
    compared: str = "none"
    judged: tuple[JudgedImage, ...] | None = None
    uuid_problem: str | None = None
    toolboxes: Toolboxes | None = None
    kata: KataState | None = None
    plugin_reasons: Mapping[str, str] = field(default_factory=dict)
    missing_requirements: Mapping[str, str] | None = None
    stranded: tuple[StrandedImage, ...] | None = None
    thin_pool: PoolState | None = None
    unread_hosts_dirs: tuple[str, ...] | None = None
    verifiers: tuple[str, ...] | None = None
    probe: Report | None = None
    programs: Mapping[str, tuple[Program, ...]] | None = None
    runtime_root_problems: Mapping[str, str] = field(default_factory=dict)
    base_spec_problems: Mapping[str, str] = field(default_factory=dict)
    stream_processor_problems: Mapping[str, str] | None = None
    kata_file_problems: Mapping[str, str] = field(default_factory=dict)
    room: tuple[Room, ...] | None = None
    sandbox: SandboxImage | None = None
    network: PodNetwork | None = None
    pod_files: tuple[str, ...] | None = None
    kubelet: Kubelet | None = None
    unit_files: tuple[Source, ...] | None = None
    environment_files: tuple[Source, ...] = ()
    ignored_directives: tuple[str, ...] = ()
    starts_at_boot: bool | None = None
    boot_complaints: tuple[str, ...] = ()
    confinement: Confinement | None = None
    lost_databases: tuple[str, ...] | None = None
    cgroups_problem: str | None = None
    missing_controllers: tuple[str, ...] = ()
    null_problem: str | None = None
    kernel_limits: KernelLimits | None = None
    listener: int | None = None
    registry_files: tuple[RegistryFile, ...] | None = None
    hosts: Mapping[str, FoundDirectory] | None = None
    trouble: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One check's result. ``expected`` and ``found`` are shown as they are; the check that ran sets ``id``.

    ``cause`` is the id of the check that reports why this one can't be ``ok``, or the reason itself if no check reports it.
    """

    status: str
    expected: Any
    found: Any
    remedy: str = ""
    id: str = ""
    cause: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Expectation:
    """The expected state of the node.

    ``environment`` are the proxy variables of the daemon's environment; ``toolboxes`` None: the toolboxes aren't listed.
    ``min_layers`` is the number of layers that an image must be able to have, ``integrity`` how closely images are compared
    with theirs, ``kata`` the Kata handlers. A thin pool that is used to ``thin_pool_warn_percent`` is warned of; at
    ``thin_pool_fail_percent`` it fails. ``probe`` is what is started with each handler. ``registries`` None: they aren't
    compared.
    """

    settings: Settings = field(default_factory=Settings)
    environment: Mapping[str, str] = field(default_factory=dict)
    images: tuple[ExpectedImage, ...] = ()
    min_layers: int = 128
    integrity: str = AUTO
    toolboxes: tuple[ExpectedToolbox, ...] | None = None
    kata: tuple[Handler, ...] = ()
    thin_pool_warn_percent: int = 80
    thin_pool_fail_percent: int = 95
    probe: str = NONE
    registries: tuple[Registry, ...] | None = None

    @property
    def hosts_dir(self) -> str:
        """The directory in which provisioning writes the files of registries."""
        paths: str = self.settings.scalars.get("registry_config_path") or "/etc/containerd/certs.d"
        return paths.split(":", maxsplit=1)[0].rstrip("/")

    def __post_init__(self) -> None:
        if not 0 <= self.min_layers <= KERNEL_LAYERS:
            raise ValueError(f"min_layers has to be between 0 and {KERNEL_LAYERS}, the kernel's limit, not {self.min_layers}")
        if not 1 <= self.thin_pool_warn_percent <= self.thin_pool_fail_percent <= 100:
            given = f"{self.thin_pool_warn_percent}, {self.thin_pool_fail_percent}"
            raise ValueError(f"thin_pool_warn_percent and thin_pool_fail_percent have to be 1 to 100 in this order, not {given}")


@dataclass(frozen=True)
class Check:
    """A check of the node. Its id is the name of its function, and the id of its finding."""

    id: str
    judge: Callable[[NodeState, Expectation], Finding | None]

    def run(self, state: NodeState, expectation: Expectation) -> Finding | None:
        """Return the finding, or None if the check doesn't apply."""
        finding = self.judge(state, expectation)
        if finding is None:
            return None
        remedy = finding.remedy
        first = _refusal(state) if CONFIGURE in remedy else ""
        if first and not remedy.startswith(first):
            remedy = f"{first}, then {remedy}"
        return replace(finding, id=self.id, remedy=remedy, cause=finding.cause if finding.cause != self.id else "")


def _refusal(state: NodeState) -> str:
    """Return what has to be done before a run of the playbook, which refuses the node otherwise; empty if nothing has to be."""
    if state.broken_imports:
        return "; ".join(broken.remedy() for broken in state.broken_imports)
    if state.version is not None and "config" in state.trouble:
        return f"repair {state.config_file}"
    if state.daemon is not None and state.daemon.unit.masked:
        return f"run 'systemctl unmask {state.unit}'"
    return ""


def check(judge: Callable[[NodeState, Expectation], Finding | None]) -> Check:
    """Turn a function into the check of its name."""
    return Check(judge.__name__, judge)


def ok(expected: Any, found: Any) -> Finding:
    """Report the expected state."""
    return Finding("ok", expected, found)


def fail(expected: Any, found: Any, remedy: str, cause: str = "") -> Finding:
    """Report another state than the expected one; ``remedy`` says how to correct it."""
    return Finding("fail", expected, found, remedy, cause=cause)


def warn(expected: Any, found: Any, remedy: str) -> Finding:
    """Report a risk to the expected state."""
    return Finding("warn", expected, found, remedy)


def unknown(expected: Any, found: Any, remedy: str, cause: str = "") -> Finding:
    """Report a state that can't be determined; ``found`` says why."""
    return Finding("unknown", expected, found, remedy, cause=cause)


def unread(expected: Any, state: NodeState, *parts: str) -> Finding:
    """Report that ``parts`` of the node, which the check needs, couldn't be read: ``unknown``, with the reason."""
    why = next((state.trouble[part] for part in parts if part in state.trouble), "")
    remedy = "check that containerd is installed, and run as root"
    if why.startswith((NO_ANSWER, LATE)):
        remedy = "find the file system or the service that hangs ('findmnt', 'journalctl -k'), or raise timeout"
    elif why == DAEMON_UNREACHABLE:
        remedy = "start the daemon"
    elif why == state.trouble.get("config"):
        broken = state.broken_imports
        remedy = broken[0].remedy() if broken else f"repair {state.config_file}, then {CONFIGURE}"
    return unknown(expected, why or "not read", remedy, cause_of(state, why))


def cause_of(state: NodeState, why: str) -> str:
    """Return the check that reports why a part of the node couldn't be read; the reason itself if none does."""
    if not why or why.startswith((NO_ANSWER, LATE)):
        return why
    if why == state.trouble.get("version"):
        return "containerd_version"
    if why == state.trouble.get("config"):
        return "config_loads"
    return daemon_cause(state) if why in (DAEMON_UNREACHABLE, state.trouble.get("daemon")) else why


def daemon_cause(state: NodeState) -> str:
    """Return the check that reports why the daemon can't be asked: a daemon without its program is no second fault."""
    running = state.daemon is not None and state.daemon.process is not None
    return "containerd_version" if state.version is None and not running else "daemon_running"


def not_answering(expected: Any, state: NodeState) -> Finding:
    """Report that the daemon, which the check needs, doesn't answer."""
    return unknown(expected, DAEMON_UNREACHABLE, "start the daemon", daemon_cause(state))


def not_running(expected: Any, state: NodeState) -> Finding:
    """Report that the daemon, which the check needs, doesn't run."""
    if state.daemon is None:
        return unread(expected, state, "daemon")
    why = "the daemon doesn't run" if state.daemon.unit.loaded else f"there is no unit {state.unit}"
    return unknown(expected, why, "start the daemon", daemon_cause(state))


def unread_of_process(expected: Any, state: NodeState, part: str) -> Finding:
    """Report that a part of the node, which is read from the daemon's process, is missing."""
    if state.daemon is None or state.daemon.process is None:
        return not_running(expected, state)
    return unread(expected, state, part)
