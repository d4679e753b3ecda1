# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that stages run. A module is imported when a stage needs it, because most nodes need few modules."""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.stage_module import StageModule


@cache
def stage_module(name: str) -> StageModule | None:
    """Return the module with this name, None if no stage runs it."""
    load = LOADERS.get(name)
    return load() if load is not None else None


def _blockfile_scratch() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.blockfile_scratch import OPTIONS, run

    return StageModule(run, OPTIONS)


def _containerd_config() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.config.host.containerd_config import OPTIONS, run

    return StageModule(run, OPTIONS)


def _containerd_image() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.images.host.containerd_image import OPTIONS, run

    return StageModule(run, OPTIONS)


def _containerd_registry() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.containerd_registry import OPTIONS, run

    return StageModule(run, OPTIONS)


def _containerd_unused_snapshots() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.containerd_unused_snapshots import OPTIONS, run

    return StageModule(run, OPTIONS)


def _kata_config() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.kata.host.kata_config import OPTIONS, run

    return StageModule(run, OPTIONS)


def _release_install() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.release.host.release_install import OPTIONS, RULES, run

    return StageModule(run, OPTIONS, RULES)


def _toolbox_snapshot() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox_snapshot import OPTIONS, run

    return StageModule(run, OPTIONS)


def _toolbox_snapshot_info() -> StageModule:
    from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox_snapshot_info import OPTIONS, RULES, run

    return StageModule(run, OPTIONS, RULES)


LOADERS: Mapping[str, Callable[[], StageModule]] = {
    "blockfile_scratch": _blockfile_scratch,
    "containerd_config": _containerd_config,
    "containerd_image": _containerd_image,
    "containerd_registry": _containerd_registry,
    "containerd_unused_snapshots": _containerd_unused_snapshots,
    "kata_config": _kata_config,
    "release_install": _release_install,
    "toolbox_snapshot": _toolbox_snapshot,
    "toolbox_snapshot_info": _toolbox_snapshot_info,
}
