# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The change of a node to another version: planned with the programs of both versions before anything is touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.host.apply import ConfigApplication
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_needs, check_roots
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import (
    check_file_is_read,
    check_kill_mode,
    check_restart,
    check_snapshotters,
)
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import ConfigStage, plan_stage
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import missing_directories
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version, schema_support
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import opens
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import (
    ARCHIVE,
    PACKAGE,
    UPGRADED,
    Manifest,
    next_number,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import packages
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.proof import ended_by
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.switch import (
    ProgramSwitch,
    apply_switch,
    check_program,
    plan_switch,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.transaction import Change

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class NodeChange:
    """A change of a node with all that is reported of it. ``config`` is what the daemon makes of its files after it."""

    changed: bool
    version: Version
    to_version: Version
    files: tuple[FileChange, ...]
    diff: tuple[dict[str, str], ...]
    config: EffectiveConfig | None
    change: Change


def plan_upgraded(module: AnsibleModule, installed: Containerd, wanted: ConfigRequest, to_binary: str, lock: int) -> NodeChange:
    """Plan the change to the version of ``to_binary``. Raises ValueError or HostError if the node or the version refuses it."""
    params = module.params
    if not os.path.isfile(to_binary):
        raise ValueError(f"to_binary: there is no program {to_binary}: bring it to the node first, or name another")
    upgraded = installed.with_binary(to_binary)
    schema_support(upgraded.version)
    switch = plan_switch(installed.runner, params, wanted.unit, predicted=module.check_mode)
    if not module.check_mode:
        check_program(to_binary, switch, params["releases"], installed.program.require())
    before = ContainerdHost(installed, wanted.drop_in_file)
    after = ContainerdHost(upgraded, wanted.drop_in_file)
    found = after.found(upgraded.version)
    if found.record.pending:
        raise HostError("a change of the configuration was interrupted: run slipway.node.containerd_config first")
    final = plan_stage(after, wanted, found)
    changed = switch.changed or bool(final.changes) or final.record != found.record
    current = installed.config
    final = replace(final, reason=f"containerd {installed.version} becomes {upgraded.version}")
    if changed:
        # Checked first: the remedy of check_healthy is a restart, which would end containers or fail on such a node.
        check_stop(before, wanted, str(final.reason))
    check_healthy(before, current)
    ends = ended_by(installed, upgraded.version, forced=wanted.force_restart) if changed else ()
    change = replace(_change(installed, upgraded, final, switch, lock), ends=ends)
    if changed:
        store.check_writable((*change.paths, *(packages.WRITTEN if switch.package_changes else ())))
        for one in _check(before, final, current, predicted=module.check_mode):
            module.warn(f"{one}. This fails outside of check mode, unless another task creates what is missing first")
        for one in packages.warnings(installed.runner, switch.packages, switch.replaced):
            module.warn(one)
    return NodeChange(
        changed=changed,
        version=installed.version,
        to_version=upgraded.version,
        files=(*final.files, switch.unit),
        diff=(*switch.diff(), *(file.diff() for file in final.changes)),
        config=final.config,
        change=change,
    )


def check_healthy(node: ContainerdHost, config: EffectiveConfig) -> None:
    """Raise HostError if the daemon isn't healthy: the node couldn't go back to this state."""
    daemon = node.daemon.read_state()
    check_file_is_read(node, daemon)
    elsewhere = node.listens_elsewhere(daemon, config)
    if elsewhere:
        raise ValueError(f"the daemon listens at {elsewhere}, not at {node.address}: name that socket with address")
    problem = daemon.restart_reason([config.cri_snapshotter] if config.cri_snapshotter else [], cri=config.cri_enabled)
    if problem:
        raise HostError(
            f"the daemon isn't healthy, so the node could not go back to this state: {problem}: restart "
            f"{node.daemon.unit.name} first"
        )


def _check(node: ContainerdHost, final: ConfigStage, current: EffectiveConfig, *, predicted: bool) -> list[str]:
    """Raise ValueError or HostError if the change would harm the node; return the requirements that have to be created before.

    ``node`` is the node before the change.
    """
    reason = str(final.reason)
    daemon = node.daemon.read_state()
    if daemon.plugins is not None:
        check_snapshotters(node, final.wanted, daemon.plugins, final.config)
    check_restart(node, final.wanted, daemon, final.config, reason)
    check_roots(current, final.config)
    lacking = check_needs(node, final.wanted, final.config, predicted=predicted)
    old, new = current.default_snapshotter, final.config.default_snapshotter
    if old != new:
        raise ValueError(
            f"the default snapshotter would change from {old} to {new}: set snapshotter to {old}, and change it with "
            "slipway.node.containerd_config after the upgrade, which unpacks the images for it"
        )
    store.check_room(store.database_paths(current))
    return lacking


def check_stop(node: ContainerdHost, wanted: ConfigRequest, reason: str) -> None:
    """Raise ValueError if a stop of the daemon under its present unit would end containers, or if it couldn't start again."""
    unit = node.daemon.unit.status()
    if unit.masked:
        raise ValueError(f"{wanted.unit} is masked, so systemd doesn't start it: run 'systemctl unmask {wanted.unit}'")
    check_kill_mode(node, wanted, unit.kill_mode, reason)


def _change(installed: Containerd, upgraded: Containerd, final: ConfigStage, switch: ProgramSwitch, lock: int) -> Change:
    runner = installed.runner
    files = store.followed([installed.config_file, *(file.path for file in final.files), record_path(installed.config_file)])
    paths = (*switch.paths, *files)
    keeps = _keeper(runner, switch) if switch.package_changes else None
    return Change(
        manifest=new_manifest(installed, installed.version, str(upgraded.version), UPGRADED, paths),
        paths=paths,
        databases=store.database_paths(installed.config),
        databases_go_back=not opens(installed.version, upgraded.version),
        keep_packages=keeps,
        switch=lambda: apply_switch(runner, switch),
        start=lambda: _start(installed, upgraded, final, switch, lock),
    )


def _keeper(runner: Any, switch: ProgramSwitch) -> Callable[[str], None]:
    return lambda directory: packages.keep_packages(runner, switch.packages, directory, switch.replaced)


def new_manifest(installed: Containerd, version: Version, to_version: str, state: str, paths: Iterable[str]) -> Manifest:
    """Return the manifest of a new generation of the node as it is. ``version`` is that of the program, which may be missing."""
    program = os.path.realpath(installed.program.path or "")
    return Manifest(
        number=next_number(store.numbers()),
        unit=installed.unit.name,
        version=str(version),
        to_version=to_version,
        state=state,
        created_at=time.time(),
        boot=(read_bytes(_BOOT_ID) or b"").decode().strip(),
        runc_version=runc_version(installed),
        origin=PACKAGE if program.startswith("/usr/bin/") else ARCHIVE,
        units=installed.unit.stopped_with(),
        directories=tuple(sorted(missing_directories(paths))),
    )


def runc_version(containerd: Containerd) -> str:
    """Return the version of runc that is found in the usual directories; empty if there is none."""
    program = containerd.runner.find("runc")
    said = containerd.runner.try_run(program, "--version").stdout.split() if program else []
    return said[2] if len(said) > 2 else ""


def _start(installed: Containerd, upgraded: Containerd, final: ConfigStage, switch: ProgramSwitch, lock: int) -> Containerd:
    """Configure and start the other version; return the client for it. Raises HostError or ValueError."""
    # A package has its program in another place than the copy with which the change was planned.
    client = installed.with_binary("/usr/bin/containerd") if switch.packages else upgraded.renewed()
    if str(client.version) != str(upgraded.version):
        raise HostError(f"{client.program.path} is containerd {client.version}, not {upgraded.version} as to_binary")
    node = ContainerdHost(client, final.wanted.drop_in_file)
    ConfigApplication(node, final, None, proven=False, lock=lock, rolls_back=False).apply()
    return client
