# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the requirements of the snapshotters on the node."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import requirements as needs
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import read_scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.requirements import MissingRequirement
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import ids_in


def missing_requirements(runner: Runner, config: EffectiveConfig, names: Iterable[str]) -> dict[str, MissingRequirement]:
    """Return by the names of snapshotters why the daemon could not use them as they are configured; changes nothing."""
    found = {name: _unmet(runner, config, name) for name in dict.fromkeys(names)}
    return {name: problem for name, problem in found.items() if problem is not None}


def missing_requirement_reasons(runner: Runner, config: EffectiveConfig, names: Iterable[str]) -> dict[str, str]:
    """Return the sentences of ``missing_requirements``."""
    return {name: problem.reason for name, problem in missing_requirements(runner, config, names).items()}


def _unmet(runner: Runner, config: EffectiveConfig, name: str) -> MissingRequirement | None:
    address = config.proxy_address(name)
    if address is not None:
        path = address.removeprefix("unix://")
        there = not path.startswith("/") or os.path.exists(path)
        return needs.proxy_problem(name, address, there=there, answers=answers(address))
    table = config.snapshotter_table(name)
    if name == "devmapper":
        pool = os.path.join(needs.DEVICES, str(table.get("pool_name") or ""))
        return needs.devmapper_problem(table, pool_there=os.path.exists(pool))
    if name == "blockfile":
        file = table.get("scratch_file")
        loop = os.path.exists("/dev/loop-control")
        copy = read_scratch(blockfile_copy(config))
        return needs.blockfile_problem(table, read_scratch(file) if file else None, copy, loop=loop)
    if name == "erofs":
        known = needs.file_systems((read_bytes("/proc/filesystems") or b"").decode())
        program = runner.find(needs.MKFS_EROFS)
        verity = not needs.needs_verity(config) or os.path.exists(needs.DM_VERITY)
        return needs.erofs_problem(known, _version(runner, program) if program else None, verity=verity)
    return None


def _version(runner: Runner, program: str) -> str:
    result = runner.try_run(program, "-V")
    return result.stdout + result.stderr


def blockfile_copy(config: EffectiveConfig) -> str:
    """Return where the snapshotter keeps its own copy of the scratch file."""
    return os.path.join(config.snapshotter_root("blockfile"), "scratch")


def lost_snapshots(current: EffectiveConfig, wanted: EffectiveConfig) -> str:
    """Return why the daemon would not find the snapshots any more that it knows; empty if it would. Raises HostError.

    Its own database goes on to list them, and so nothing can be unpacked for that snapshotter again.
    """
    for name, (old, new) in needs.moved_roots(current, wanted).items():
        held = os.path.join(old, "snapshots")
        if os.path.isdir(held) and ids_in(held) and not os.path.exists(os.path.join(new, "metadata.db")):
            return (
                f"snapshotters.{name}.root_path: {old} holds snapshots, and in {new} the daemon would find none: stop the "
                f"daemon and move everything there, or remove first what is unpacked for {name}"
            )
    return ""
