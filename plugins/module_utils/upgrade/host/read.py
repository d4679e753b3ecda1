# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the state on which an upgrade depends. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_effective
from ansible_collections.slipway.node.plugins.module_utils.config.losses import own_places
from ansible_collections.slipway.node.plugins.module_utils.config.mismatches import wanted_leaves
from ansible_collections.slipway.node.plugins.module_utils.config.plan import is_foreign, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.request import NEVER, ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import Service
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import broken_imports, read_sources
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import image_verifiers
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import schema_support
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import GENERATIONS
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import lost_snapshots
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import parse_snapshots
from ansible_collections.slipway.node.plugins.module_utils.upgrade.deprecations import Deprecation, parse_deprecations
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.generation import (
    copies_bytes,
    database_paths,
    room_in,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.meanings import CDI_DIRECTORIES, NRI_PLUGINS
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import Room, UpgradeState
from ansible_collections.slipway.node.plugins.module_utils.verify.host.surroundings import read_network, read_sandbox

_CGROUP_V2 = "/sys/fs/cgroup/cgroup.controllers"
# Programs that each release has beside the daemon.
_PROGRAMS = ("ctr", "containerd-shim-runc-v2")
# The release of each line that has ``ctr deprecations``.
_DEPRECATIONS_SINCE = ("1.6.27", "1.7.12", "2.0.0")


@dataclass(frozen=True)
class Inventory:
    """The wanted configuration, as containerd_config takes it. Without settings, no file would be written."""

    settings: Settings
    enable_cri: bool
    drop_in_file: str

    @property
    def writes(self) -> bool:
        """Return whether the collection would write files."""
        return self.enable_cri or self.settings != Settings()


def read_upgrade(installed: Containerd, upgraded: Containerd, inventory: Inventory) -> UpgradeState:
    """Return the state for the report. Raises HostError, or ValueError, if there is nothing to compare."""
    schema_support(upgraded.version)
    sources = read_sources(installed.config_file)
    state = UpgradeState(
        config_file=installed.config_file,
        now=installed.version,
        then=upgraded.version,
        default_before=installed.default_config,
        default_after=upgraded.default_config,
        others=_others(sources, inventory),
        broken_imports=tuple(broken_imports(sources)),
        unread=_unread(upgraded.default_config, {one.path for one in sources} | {inventory.drop_in_file}),
        cgroup_v1=os.path.isdir("/sys/fs/cgroup") and not os.path.exists(_CGROUP_V2),
        missing_programs=_missing_programs(upgraded.program.require()),
    )
    try:
        state = replace(state, before=installed.config)
    except (HostError, ValueError) as error:
        state = replace(state, refused_now=str(error))
    try:
        after, wanted = _planned(upgraded, inventory)
        record = read_record(installed.config_file)
        own = own_places(wanted, record, after.schema) if inventory.writes else frozenset()
        state = replace(state, after=after, wanted=wanted, own=own)
    except (HostError, ValueError) as error:
        state = replace(state, refused=str(error))
    return _with_daemon(_with_surroundings(state, installed, upgraded), installed)


def _others(sources: Sequence[Source], inventory: Inventory) -> tuple[Source, ...]:
    """Return the files that the collection would not write; the keys that it set in the root file are known by its record."""
    ours = inventory.drop_in_file if inventory.writes else None
    return tuple(one for one in sources if one.path != ours or is_foreign(one.text))


def _planned(upgraded: Containerd, inventory: Inventory) -> tuple[EffectiveConfig, Mapping[Path, Any]]:
    """Return the new version's configuration from the files that the collection would write, and the settings as leaves."""
    if not inventory.writes:
        return upgraded.config, {}
    node = ContainerdHost(upgraded, inventory.drop_in_file)
    found = node.found(upgraded.version)
    plan = plan_config(found, inventory.settings, enable_cri=inventory.enable_cri)
    config = node.planned_config(plan)
    wanted = ConfigRequest(
        present=True,
        enable_cri=inventory.enable_cri,
        drop_in_file=inventory.drop_in_file,
        settings=inventory.settings,
        service=Service.from_params({}, {}),
        unit=upgraded.unit.name,
        restart=NEVER,
        unit_enabled=False,
        timeout=1,
    )
    check_effective(node, wanted, plan, found, config)
    return config, wanted_leaves(inventory.settings, upgraded.version, upgraded.architecture, config)


def _unread(defaults: EffectiveConfig, known: set[str]) -> tuple[str, ...]:
    """Return the files in the directories of the default imports that no file imports."""
    directories = {os.path.dirname(str(pattern)) for pattern in defaults.lookup(("imports",)) or ()}
    files = [os.path.join(directory, name) for directory in directories for name in _names(directory)]
    return tuple(sorted(path for path in files if path.endswith(".toml") and path not in known))


def _names(directory: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(directory)))
    except OSError:
        return ()


def _missing_programs(binary: str) -> tuple[str, ...]:
    paths = [os.path.join(os.path.dirname(binary), name) for name in _PROGRAMS]
    return tuple(path for path in paths if not os.access(path, os.X_OK))


def _with_surroundings(state: UpgradeState, installed: Containerd, upgraded: Containerd) -> UpgradeState:
    """Add the content of the directories that the two configurations name."""
    room = _room(state, installed.program.require(), upgraded.program.require())
    if state.before is None or state.after is None:
        return replace(state, room=room)
    registries = {*state.before.hosts_dirs(state.now), *state.after.hosts_dirs(state.then)}
    known = read_network(state.before, installed.architecture).problems
    problems = read_network(state.after, installed.architecture).problems if state.after.cri_enabled else ()
    return replace(
        state,
        room=room,
        directories={path: _names(path) for path in (*registries, *CDI_DIRECTORIES, NRI_PLUGINS)},
        verifiers=tuple(dict.fromkeys((*image_verifiers(state.before), *image_verifiers(state.after)))),
        network_problems=tuple(one for one in problems if one not in known),
        moved_snapshots=lost_snapshots(state.before, state.after),
    )


def _room(state: UpgradeState, old: str, new: str) -> tuple[Room, ...]:
    """Return the room for the new programs beside the old ones, for copies of the databases, and for putting them back."""
    new_directory = os.path.dirname(new)
    programs = sum(_size(os.path.join(new_directory, name)) for name in _names(new_directory))
    needs = [(os.path.dirname(os.path.realpath(old)), programs)]
    if state.before is not None:
        databases = database_paths(state.before)
        needs.append((GENERATIONS, copies_bytes(databases)))
        # A database is written beside the present one before it takes its place.
        needs += [(os.path.dirname(path), _size(path)) for path in databases]
    return rooms(needs)


def rooms(needs: Iterable[tuple[str, int]]) -> tuple[Room, ...]:
    """Return the room on each file system for all bytes that go to it. ``needs`` are directories with the bytes for them."""
    found: dict[int, Room] = {}
    for wanted, needed in needs:
        directory, free = room_in(wanted)
        device = os.stat(directory).st_dev
        known = found.get(device, Room((), 0, free))
        directories = tuple(dict.fromkeys((*known.directories, directory)))
        found[device] = Room(directories, known.needed + needed, free)
    return tuple(found.values())


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _with_daemon(state: UpgradeState, installed: Containerd) -> UpgradeState:
    """Add the parts of the state that only the running daemon has."""
    if not answers(installed.address):
        silent = f"the containerd daemon doesn't answer at {installed.address}"
        return replace(state, held=None, deprecations=None, trouble={"held": silent, "deprecations": silent})
    trouble: dict[str, str] = {}

    def try_read(name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (HostError, ValueError) as error:
            trouble[name] = str(error)
            return None

    held = try_read("held", lambda: _held(state, installed))
    deprecations = try_read("deprecations", lambda: _deprecations(state, installed))
    sandbox = state.after.sandbox_image if state.after is not None else None
    present = try_read("sandbox", lambda: read_sandbox(installed.ctr, sandbox).present) if sandbox else False
    return replace(state, held=held, deprecations=deprecations, sandbox_present=bool(present), trouble=trouble)


def _deprecations(state: UpgradeState, installed: Containerd) -> tuple[Deprecation, ...]:
    if not state.now.at_least(*_DEPRECATIONS_SINCE):
        raise HostError(f"containerd {state.now} doesn't record them, as 1.6.27, 1.7.12 and newer releases do")
    command = installed.ctr.command("deprecations", "list", "--format", "json")
    return parse_deprecations(installed.runner.run(*command, doing="ask containerd for deprecated features in use"))


def _held(state: UpgradeState, installed: Containerd) -> dict[str, tuple[str, ...]]:
    """Return the snapshotters with snapshots that the new version lacks, with the number of snapshots in each namespace."""
    defaults = state.default_after.plugins if state.default_after is not None else frozenset()
    proxies = state.after.proxy_snapshotters if state.after is not None else installed.config.proxy_snapshotters
    lacking = [
        name for name in installed.loaded_snapshotters if SNAPSHOTTER_PREFIX + name not in defaults and name not in proxies
    ]
    found = {name: tuple(_holders(installed, name)) for name in lacking}
    return {name: holders for name, holders in found.items() if holders}


def _holders(installed: Containerd, snapshotter: str) -> Iterable[str]:
    for namespace in installed.namespaces:
        doing = f"ask containerd for the snapshots of {snapshotter}"
        stdout = installed.ctr.in_namespace(namespace, "snapshots", "--snapshotter", snapshotter, "ls", doing=doing)
        snapshots = parse_snapshots(stdout).values()
        layers = sum(one.is_layer for one in snapshots)
        if snapshots:
            yield f"{namespace}: {layers} layers, {len(snapshots) - layers} other snapshots"
