# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a daemon: it is healthy, a container starts with each handler, and earlier containers keep running."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress

from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import named
from ansible_collections.slipway.node.plugins.module_utils.config.host.start import check_container_starts
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.daemon import RunningDaemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import shim_processes
from ansible_collections.slipway.node.plugins.module_utils.kata.host.state import read_kata
from ansible_collections.slipway.node.plugins.module_utils.probe.host.probe import probe
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import CONTAINER, NAME, Report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.containers import (
    Fate,
    broken_handlers,
    fate,
    parse_tasks,
    unproven_handlers,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import BUNDLES, adopts
from ansible_collections.slipway.node.plugins.module_utils.verify.probe_checks import unsafe_handlers

_STATE = "/run/containerd"
Warn = Callable[[str], None]


def running_containers(containerd: Containerd) -> dict[str, int]:
    """Return the process ids of the containers that run, by NAMESPACE/ID. Raises HostError."""
    found: dict[str, int] = {}
    for namespace in containerd.namespaces:
        doing = f"ask containerd for the containers that run in {namespace}"
        found |= parse_tasks(containerd.ctr.in_namespace(namespace, "tasks", "ls", doing=doing), namespace)
    return found


def readable_config(containerd: Containerd) -> EffectiveConfig:
    """Return the configuration; the one without any file if the daemon can't read its files, or if its program doesn't run."""
    try:
        return containerd.config
    except HostError:
        with suppress(HostError):
            return containerd.default_config
        return EffectiveConfig({})


def unadopted(containerd: Containerd, version: Version) -> list[str]:
    """Return the containers that a version ends when it starts, because it doesn't find their shims, as NAMESPACE/ID."""
    bundles = f"{readable_config(containerd).state or _STATE}/{BUNDLES}"
    found = []
    for name in shim_processes(containerd.address).values():
        try:
            files = os.listdir(f"{bundles}/{name}")
        except OSError:
            continue
        if not (name.startswith(f"{NAME}/") or adopts(version, files)):
            found.append(name)
    return sorted(found)


def ended_by(containerd: Containerd, version: Version, *, forced: bool) -> tuple[str, ...]:
    """Return the containers that a version ends when it starts. Raises ValueError if it does, unless ``forced``."""
    ended = unadopted(containerd, version)
    if ended and not forced:
        raise ValueError(
            f"containerd {version} would end containers that a newer version started, {named(ended)}: "
            "drain the node, or set restart to force"
        )
    return tuple(ended)


def check_containers(containerd: Containerd, before: dict[str, int], ends: Collection[str]) -> Fate:
    """Compare the containers with the earlier ones. Raises HostError if the daemon doesn't list one whose process runs.

    Processes of the containers in ``ends`` may take a while to end.
    """
    alive = {pid for name, pid in before.items() if name not in ends and os.path.exists(f"/proc/{pid}")}
    found = fate(before, running_containers(containerd), alive)
    if found.lost:
        raise HostError(f"the daemon no longer lists containers whose processes run: {', '.join(found.lost)}")
    return found


def probe_handlers(containerd: Containerd) -> Report:
    """Start a container with each handler. Raises HostError if nothing can be started."""
    config = containerd.config
    kata = read_kata(config, containerd.version, None)
    return probe(containerd, CONTAINER, unsafe=unsafe_handlers(kata, config))


def try_handlers(containerd: Containerd, warn: Warn) -> Report | None:
    """Start a container with each handler before an upgrade; None with a warning if this can't be tried.

    Raises HostError if none starts with the default handler.
    """
    try:
        report = probe_handlers(containerd)
    except HostError as error:
        warn(f"no container could be started before the upgrade, so none is started after it: {error}")
        return None
    default = containerd.config.default_runtime
    why = broken_handlers(None, report).get(default or "")
    if why:
        raise HostError(f"no container starts with the default runtime handler {default}: {why}; repair it before the upgrade")
    return report


def check_handlers(containerd: Containerd, before: Report, warn: Warn) -> None:
    """Start a container with each handler. Raises HostError if one doesn't start, unless it didn't before either."""
    report = probe_handlers(containerd)
    broken = broken_handlers(before, report)
    if broken:
        shown = "; ".join(f"{name}: {why}" for name, why in broken.items())
        raise HostError(f"no container starts with the runtime handler {shown}")
    unproven = "; ".join(f"{name}: {why}" for name, why in unproven_handlers(before, report).items())
    if unproven:
        warn(f"no container was started with these runtime handlers: {unproven}")
    if report.left:
        warn(f"the probe left {report.left}: the next probe removes it")


def check_answers(containerd: Containerd) -> None:
    """Raise HostError if the daemon doesn't answer: ctr would wait forever for one that hangs."""
    problem = RunningDaemon(containerd).read_state().liveness_problem()
    if problem:
        raise HostError(problem)


def check_version(containerd: Containerd, wanted: str) -> None:
    """Raise HostError if the program is another version than the wanted one."""
    if str(containerd.version) != wanted:
        raise HostError(f"the daemon is containerd {containerd.version}, not {wanted}")


def check_well(containerd: Containerd) -> None:
    """Raise HostError if the daemon isn't well on the files that are there."""
    problem = _problem(RunningDaemon(containerd), containerd.config)
    if problem:
        raise HostError(problem)


def prove(containerd: Containerd, timeout: float) -> None:
    """Start the daemon on the files that are there, unless it is well already. Raises HostError that says what is wrong."""
    config = containerd.config
    daemon = RunningDaemon(containerd)
    if _problem(daemon, config) is not None:
        daemon.restart(_snapshotters(config), cri=config.cri_enabled, timeout=timeout)


def _problem(daemon: RunningDaemon, config: EffectiveConfig) -> str | None:
    return daemon.read_state().restart_reason(_snapshotters(config), cri=config.cri_enabled)


def _snapshotters(config: EffectiveConfig) -> list[str]:
    return [config.cri_snapshotter] if config.cri_snapshotter else []


def check_default_handler(containerd: Containerd) -> None:
    """Start a container with the default handler, if that can be tried. Raises HostError if it doesn't start."""
    check_container_starts(containerd)
