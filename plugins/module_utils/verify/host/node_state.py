# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the checks of a node look at, read without changing anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.config.host.unit_files import read_environment_files, read_unit_files
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import broken_imports, read_sources
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.daemon import RunningDaemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import (
    image_verifiers,
    unread_hosts_dirs,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.uuid import uuid_problem
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import interrupted_upgrade
from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_mounts
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import read_environment
from ansible_collections.slipway.node.plugins.module_utils.core.host.reader import Reader, read_in_process
from ansible_collections.slipway.node.plugins.module_utils.core.host.shutdown import last_shutdown
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.core.process import Process
from ansible_collections.slipway.node.plugins.module_utils.images.expected import ExpectedImage
from ansible_collections.slipway.node.plugins.module_utils.images.host.compare_all import compare_all
from ansible_collections.slipway.node.plugins.module_utils.images.host.expected import ExpectedImages
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import boot_id, read_pulls
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import AUTO, INTEGRITY_NONE, METADATA
from ansible_collections.slipway.node.plugins.module_utils.kata.host.state import read_kata
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.files import read_hosts
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import missing_requirement_reasons
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.state import plugin_reasons, stranded
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.thin_pool import read_pool
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import PoolState
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import (
    content_root,
    read_overlay,
    snapshot_ids,
    snapshotter_root,
)
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import Overlay, headroom, next_id
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.state import loaded_snapshotters, read_toolboxes
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import DAEMON_UNREACHABLE, Expectation, NodeState
from ansible_collections.slipway.node.plugins.module_utils.verify.host.kernel import read_kernel_limits, read_null_problem
from ansible_collections.slipway.node.plugins.module_utils.verify.host.programs import (
    base_spec_problems,
    kata_file_problems,
    read_programs,
    root_problems,
    stream_processor_problems,
    with_answers,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.host.surroundings import (
    AUTHORITIES,
    POD_FILES,
    created_at_start,
    read_cgroups_problem,
    read_confinement,
    read_kubelet,
    read_listener,
    read_lost_databases,
    read_missing_controllers,
    read_network,
    read_pod_files,
    read_registry_files,
    read_room,
    read_sandbox,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import has_conditions, ignored_lines
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings_checks import (
    CRI_PLUGINS,
    REQUIRED_PLUGINS,
    TRANSFER,
    failed_plugins,
)

# A file or a directory that isn't read by then is on a file system that hangs.
PART_SECONDS = 30
# CRI makes the namespaces of pods there, which it finds as /var/run/netns.
NETWORK_NAMESPACES = "/run/netns"


class _Probe:
    """Parts of a node by name, and why those are missing that couldn't be read."""

    def __init__(self, reader: Reader) -> None:
        self.parts: dict[str, Any] = {}
        self.trouble: dict[str, str] = {}
        self.reader = reader

    def try_read(self, name: str, read: Callable[[], Any] | None = None, *, patient: bool = False) -> Any:
        """Read a part. ``read`` None: it was begun. ``patient``: it asks the daemon or runs programs, which have a limit."""
        try:
            self.parts[name] = self.reader.read(name, read, patient=patient)
        except HostError as error:
            self.trouble[name] = str(error)
        return self.parts.get(name)


def read_node(
    containerd: Containerd,
    *,
    expectation: Expectation,
    integrity: str = INTEGRITY_NONE,
    writable: bool = False,
    timeout: float = 120,
    part_timeout: float = PART_SECONDS,
) -> NodeState:
    """Each part that can't be read is left None, and ``trouble`` has the reason under its name.

    ``integrity``: how closely images are compared with their layers; AUTO, by metadata unless the last shutdown was clean.
    ``writable``: whether to look at writable snapshots, such as toolboxes. ``timeout``: seconds after which nothing more is read;
    the comparison of images isn't counted. ``part_timeout``: the limit of one part.
    """

    def read(reader: Reader) -> tuple[NodeState, str | None]:
        return _read(reader, containerd, expectation, writable=writable)

    state, content = read_in_process(read, timeout=timeout, part_timeout=part_timeout)
    return _compared(state, containerd, content, integrity) if content and state.config is not None else state


def _read(reader: Reader, containerd: Containerd, expectation: Expectation, *, writable: bool) -> tuple[NodeState, str | None]:
    """Return the state of the node, and the directory of the content store if images can be compared."""
    chosen = expectation.settings.chosen_snapshotters()
    probe = _Probe(reader)
    _read_daemon(probe, containerd)
    daemon, config = probe.parts.get("daemon"), probe.parts.get("config")
    if daemon is None or daemon.plugins is None or config is None:
        return _silent(_with_hosts(reader, _without_asking_the_daemon(probe, containerd, chosen), expectation)), None
    # The answers come while files are read.
    questions = _questions(containerd, config, loaded_snapshotters(daemon.plugins), expectation.toolboxes, writable=writable)
    reader.begin(questions)
    state = _with_hosts(reader, _without_asking_the_daemon(probe, containerd, chosen), expectation)
    state = _with_snapshotters(reader, state, containerd.ctr, config, chosen)
    state = _with_images(reader, state, containerd, config, expectation.images)
    probe = _Probe(reader)
    for name in questions:
        probe.try_read(name, patient=True)
    return _with_shutdown(reader, _with(state, probe))


def _read_daemon(probe: _Probe, containerd: Containerd) -> None:
    """Read the program's version and configurations, the daemon's process and plugins, and where it keeps its data."""
    probe.reader.begin(
        {
            "version": lambda: containerd.version,
            "config": lambda: containerd.config,
            "defaults": lambda: containerd.default_config,
            "daemon": lambda: RunningDaemon(containerd).read_state(),
            "content": lambda: content_root(containerd.ctr),
        },
        first=lambda: containerd.program,
    )
    if probe.try_read("version"):
        probe.try_read("config")
        probe.try_read("defaults")
    daemon = probe.try_read("daemon")
    if daemon is not None and daemon.plugins is not None:
        # The same answer has the directories of snapshotters, so no question may come before it.
        _Probe(probe.reader).try_read("content", patient=True)


def _questions(
    containerd: Containerd,
    config: EffectiveConfig,
    loaded: Sequence[str],
    toolboxes: Sequence[ExpectedToolbox] | None,
    *,
    writable: bool,
) -> dict[str, Callable[[], Any]]:
    """Return the parts that ask the daemon, and depend on no other part than its configuration and plugins."""
    ctr, sandbox = containerd.ctr, config.sandbox_image if config.cri_enabled else None
    found: dict[str, Callable[[], Any]] = {"stranded": lambda: stranded(ctr, config, loaded)}
    if sandbox:
        found["sandbox"] = lambda: read_sandbox(ctr, sandbox)
    if writable:
        found["toolboxes"] = lambda: read_toolboxes(containerd, loaded, config.own_snapshotters[0], toolboxes)
    return found


def _with(state: NodeState, probe: _Probe) -> NodeState:
    return replace(state, trouble={**state.trouble, **probe.trouble}, **probe.parts)


def _without_asking_the_daemon(probe: _Probe, containerd: Containerd, chosen: Iterable[str]) -> NodeState:
    """Read the files, and what the daemon's configuration needs of the node."""
    runner, config_file = containerd.runner, containerd.config_file
    probe.try_read("kubelet", read_kubelet)
    daemon = probe.parts.get("daemon")
    process = daemon.process if daemon is not None else None
    if process is not None:
        probe.try_read("environment", lambda: read_environment(process.pid))
        probe.try_read("listener", lambda: read_listener(containerd.address, process.pid))
        probe.try_read("cgroups_problem", lambda: read_cgroups_problem(process.pid))
        probe.try_read("missing_controllers", lambda: read_missing_controllers(process.pid))
        probe.try_read("null_problem", lambda: read_null_problem(process.pid))
        probe.try_read("kernel_limits", lambda: read_kernel_limits(process.pid))
        probe.try_read("lost_databases", lambda: read_lost_databases(process.pid))
    if "config" in probe.parts:
        config, version, environment = probe.parts["config"], probe.parts["version"], probe.parts.get("environment")
        probe.try_read("thin_pool", lambda: _thin_pool(runner, config, process.started if process is not None else None))
        probe.try_read(
            "missing_requirements", lambda: missing_requirement_reasons(runner, config, (*config.used_snapshotters, *chosen))
        )
        probe.try_read("unread_hosts_dirs", lambda: unread_hosts_dirs(config, version))
        probe.try_read("verifiers", lambda: image_verifiers(config))
        kata = probe.try_read("kata", lambda: read_kata(config, version, environment))
        if kata is not None:
            probe.try_read("kata_file_problems", lambda: kata_file_problems(kata, containerd.architecture))
        _read_surroundings(probe, containerd, config, version, process)
    if daemon is not None and daemon.unit.loaded:
        files = daemon.unit.files
        texts = probe.try_read("unit_files", lambda: read_unit_files(files)) or ()
        probe.try_read("environment_files", lambda: read_environment_files(texts))
        if daemon.unit.enabled == "enabled":
            probe.try_read("starts_at_boot", containerd.unit.starts_at_boot)
        _read_analysis(probe, containerd, files, texts)
    sources = probe.try_read("sources", lambda: tuple(read_sources(config_file)))
    if process is not None and sources is not None and "config" in probe.parts:
        directories = [one for one in (containerd.config.root, containerd.config.state) if one]
        paths = [one.path for one in sources]
        config, version = containerd.config, containerd.version
        needed = (
            [*config.hosts_dirs(version), config.cni.conf_dir, *config.cni.bin_dirs, *POD_FILES] if config.cri_enabled else []
        )
        probe.try_read("confinement", lambda: read_confinement(process.pid, paths, directories, [*AUTHORITIES, *needed]))
    if sources:
        probe.parts["broken_imports"] = tuple(broken_imports(probe.parts["sources"]))
    record = probe.try_read("record", lambda: read_record(config_file))
    probe.parts.pop("record", None)
    return NodeState(
        config_file=config_file,
        unit=containerd.unit.name,
        now=time.time(),
        architecture=containerd.architecture,
        pending=tuple(sorted(record.pending)) if record is not None else (),
        interrupted_upgrade=bool(interrupted_upgrade()),
        trouble=probe.trouble,
        **probe.parts,
    )


def _read_analysis(probe: _Probe, containerd: Containerd, files: Sequence[str], texts: Iterable[Source]) -> None:
    """Read what systemd says of the unit's lines, and of its start at boot."""
    said = probe.try_read("analysis", containerd.unit.analysis, patient=True)
    if said is None:
        trouble = probe.trouble.pop("analysis")
        probe.trouble.update(dict.fromkeys(("ignored_directives", "boot_complaints"), trouble))
        return
    del probe.parts["analysis"]
    probe.parts["ignored_directives"] = ignored_lines(said, files)
    conditional = has_conditions(texts)
    probe.try_read("boot_complaints", lambda: containerd.unit.boot_complaints(said, conditional=conditional), patient=True)


def _read_surroundings(
    probe: _Probe, containerd: Containerd, config: EffectiveConfig, version: Version, process: Process | None
) -> None:
    """Read what the daemon's configuration needs of the node: programs, room on disks, networks and registries."""
    architecture, environment = containerd.architecture, probe.parts.get("environment")
    if process is not None and environment is not None:
        # Two parts: files have a limit of their own, programs theirs.
        found = probe.try_read("files", lambda: read_programs(config, environment, process.executable, architecture))
        probe.parts.pop("files", None)
        if found is None:
            probe.trouble["programs"] = probe.trouble.pop("files")
        else:
            probe.try_read("programs", lambda: with_answers(containerd.runner, config, found), patient=True)
        probe.try_read("stream_processor_problems", lambda: stream_processor_problems(config, environment, architecture))
    elif "daemon" not in probe.trouble:
        probe.trouble["programs"] = DAEMON_UNREACHABLE
    probe.try_read("base_spec_problems", lambda: base_spec_problems(config, architecture))
    probe.try_read("runtime_root_problems", lambda: root_problems(config))
    _read_room(probe, config, process.pid if process is not None else None)
    probe.try_read("pod_files", read_pod_files)
    probe.try_read("network", lambda: read_network(config, architecture))
    probe.try_read("registry_files", lambda: read_registry_files(config, version))


def _read_room(probe: _Probe, config: EffectiveConfig, pid: int | None) -> None:
    snapshotters = {name: config.snapshotter_root(name) for name in config.own_snapshotters if name in BUILTIN_SNAPSHOTTERS}
    temporary = config.temporary or (probe.parts.get("environment") or {}).get("TMPDIR") or "/tmp"  # noqa: S108
    kubelet = probe.parts.get("kubelet")
    logs = kubelet.log_dir if kubelet is not None else None
    states = [str(config.handler_options(name).get("Root") or "") for name in config.handlers]
    needed = created_at_start(config.root, snapshotters.values(), pid) if config.root and pid is not None else []
    written = (config.root, config.state, *snapshotters.values(), *needed, *states, temporary, logs, NETWORK_NAMESPACES)
    directories = [one for one in written if one]
    # Mounts of the other snapshotters have flags of their own; a bind mount has those of the directory.
    bound = [root for name, root in snapshotters.items() if name == "native"]
    probe.try_read("room", lambda: read_room(directories, pid, with_programs=bound, temporary=temporary, needed=needed))


def _silent(state: NodeState) -> NodeState:
    """With the reason why nothing is known that only the daemon knows, such as where its images are."""
    parts = ("sandbox", "stranded", "overlay", "pulls", "mounts", "images", "judged", "uuid_problem", "toolboxes")
    causes = ("version", "daemon", "config") if state.daemon is None or state.daemon.plugins is not None else ("version",)
    why = next((state.trouble[name] for name in causes if name in state.trouble), DAEMON_UNREACHABLE)
    return replace(state, trouble={**dict.fromkeys(parts, why), **state.trouble})


def _with_snapshotters(reader: Reader, state: NodeState, ctr: Ctr, config: EffectiveConfig, expected: Sequence[str]) -> NodeState:
    probe = _Probe(reader)
    plugins = (state.daemon.plugins if state.daemon is not None else None) or ()
    states = {plugin.id: plugin.status for plugin in plugins if plugin.is_snapshotter}
    names = dict.fromkeys((*config.used_snapshotters, *expected))
    required = (*REQUIRED_PLUGINS, TRANSFER, *CRI_PLUGINS)
    failed = failed_plugins(state.daemon, required)
    probe.try_read(
        "plugin_reasons",
        lambda: {**plugin_reasons(ctr, states, names), **{name: ctr.plugin_reason(name.split(".")[-1]) for name in failed}},
        patient=True,
    )
    return _with(state, probe)


def _with_hosts(reader: Reader, state: NodeState, expectation: Expectation) -> NodeState:
    """Read the directories of registries, if there are any to compare them with."""
    probe = _Probe(reader)
    if expectation.registries is not None:
        probe.try_read("hosts", lambda: read_hosts(expectation.hosts_dir))
    return _with(state, probe)


def _thin_pool(runner: Runner, config: EffectiveConfig, started: float | None) -> PoolState | None:
    """Read the thin pool. ``started`` is the daemon's start, in seconds since the epoch."""
    if config.thin_pool is None:
        return None
    since_boot = None if started is None else started - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    return read_pool(runner, config.thin_pool, config.snapshotter_root("devmapper"), since_boot)


def _with_images(
    reader: Reader, state: NodeState, containerd: Containerd, config: EffectiveConfig, images: Sequence[ExpectedImage]
) -> NodeState:
    """Read the images of a daemon that answers."""
    probe, ctr = _Probe(reader), containerd.ctr
    own = config.own_snapshotters
    default = own[0]
    named = dict.fromkeys([*own, *(image.snapshotter for image in images if image.snapshotter)])
    # Where proxies keep what they have, containerd doesn't know.
    snapshotters = [name for name in named if name in BUILTIN_SNAPSHOTTERS]
    overlay, ids = None, ()
    if "overlayfs" in snapshotters:
        overlay, ids = probe.try_read("overlay", lambda: _overlay(ctr, config)) or (None, ())
    content = probe.try_read("content", patient=True)
    if content:
        root = os.path.dirname(content)
        probe.try_read("pulls", lambda: read_pulls(root))
        mounts, trouble = probe.try_read("mounts", lambda: _mounts(root, ctr, snapshotters, overlay)) or ({}, "")
        probe.trouble.update({"mounts": trouble} if trouble else {})
        devices = tuple(dict.fromkeys(mount.device for mount in mounts.values()))
        reader.begin({"shutdown": lambda: last_shutdown(containerd.runner, root, devices)})
    else:
        mounts = {}
        probe.trouble.update(dict.fromkeys(("pulls", "mounts"), probe.trouble["content"]))
    expected = ExpectedImages(ctr, default, f"linux/{state.architecture}", overlay, ids)
    return replace(
        state,
        images=probe.try_read("images", lambda: expected.read_state(images), patient=True),
        headroom=headroom(overlay, next_id(ids)) if overlay else None,
        pulls=probe.parts.get("pulls"),
        boot=probe.try_read("boot", boot_id),
        mounts=mounts,
        trouble={**state.trouble, **probe.trouble},
    )


def _with_shutdown(reader: Reader, state: NodeState) -> tuple[NodeState, str | None]:
    """Read how the boot before ended, and what a power cut may have left; with the directory of the content store."""
    probe = _Probe(reader)
    content = probe.try_read("content", patient=True)
    if not content:
        trouble = dict.fromkeys(("judged", "shutdown", "uuid_problem"), probe.trouble["content"])
        return replace(state, trouble={**state.trouble, **trouble}), None
    root = os.path.dirname(content)
    probe.try_read("shutdown", patient=True)
    probe.try_read("uuid_problem", lambda: uuid_problem(root, state.version))
    probe.parts.pop("content")
    return _with(state, probe), content


def _compared(state: NodeState, containerd: Containerd, content: str, level: str) -> NodeState:
    """Return whether images are as their layers, as far as that is to be looked at."""
    if level == AUTO:
        level = INTEGRITY_NONE if state.shutdown is None or state.shutdown.clean else METADATA
    if level == INTEGRITY_NONE or state.config is None:
        return state
    platform, snapshotters = f"linux/{state.architecture}", state.config.own_snapshotters
    try:
        judged = compare_all(containerd.ctr, content, snapshotters, platform, level)
    except HostError as error:
        return replace(state, compared=level, trouble={**state.trouble, "judged": str(error)})
    return replace(state, compared=level, judged=judged)


def _overlay(ctr: Ctr, config: EffectiveConfig) -> tuple[Overlay, tuple[int, ...]]:
    overlay = read_overlay(ctr, config)
    return overlay, snapshot_ids(overlay)


def _mounts(root: str, ctr: Ctr, snapshotters: Iterable[str], overlay: Overlay | None) -> tuple[dict[str, Mount], str]:
    """Return the file systems of the daemon's directory and of those of the snapshotters, and why some couldn't be read."""
    directories, troubles = [root], []
    for name in snapshotters:
        try:
            # overlayfs has been asked already.
            directories.append(overlay.root if overlay and name == "overlayfs" else snapshotter_root(ctr, name))
        except HostError as error:
            troubles.append(str(error))
    mounts, trouble = read_mounts(directories)
    return mounts, "; ".join(filter(None, (*troubles, trouble)))
