# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The change of the daemon's default snapshotter, as a part of the change of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import ConfigStage, plan_stage
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import Synced
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import missing_requirements
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import AFTER, BESIDE, moment

if TYPE_CHECKING:
    from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.migration import MigrationPlan


@dataclass(frozen=True)
class DefaultChange:
    """The default snapshotter changes from ``old`` to ``new``, and images are unpacked at the moment ``when``.

    ``plan`` None: the daemon can't be asked before it is started. ``beside`` is the configuration with which it loads the new
    one while the old one still is the default; None unless images are unpacked then.
    """

    old: str
    new: str
    when: str
    plan: MigrationPlan | None = None
    beside: ConfigStage | None = None


@dataclass(frozen=True)
class Unpacked:
    """The images that were unpacked, or would be, and the file systems that were synced."""

    plan: MigrationPlan
    synced: tuple[Synced, ...] = ()


def plan_default_change(
    node: ContainerdHost, final: ConfigStage, before: EffectiveConfig | None, *, watch: bool
) -> DefaultChange | None:
    """Return how images get to the default snapshotter of ``final``; None if it is the one of ``before``.

    ``watch``: leave nothing on the node, not even for a moment. Raises ValueError if an image can't be unpacked for it.
    """
    if before is None or before.default_snapshotter == final.config.default_snapshotter:
        return None
    # The default snapshotter rarely changes, and the code for that is most of what this module would import.
    from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.migration import Migration  # noqa: PLC0415

    old, new = before.default_snapshotter, final.config.default_snapshotter
    if not _answers(node.containerd):
        return DefaultChange(old, new, AFTER)
    loaded = node.containerd.loaded_snapshotters
    plan = Migration(node.containerd, old, new, final.config).plan(watch=watch)
    usable = final.wanted.present and old in loaded and _works(node, final.config, old)
    when = moment(new_loaded=new in loaded, old_usable=usable, images=bool(plan.tasks))
    beside = None
    if when == BESIDE:
        stage = plan_stage(node, final.wanted.beside(old, new), final.found)
        beside = replace(stage, reason=f"the daemon has to load the snapshotter {new}")
    return DefaultChange(old, new, when, plan, beside)


def _answers(containerd: Containerd) -> bool:
    try:
        return bool(containerd.plugins)
    except HostError:
        return False


def _works(node: ContainerdHost, config: EffectiveConfig, name: str) -> bool:
    """Return whether a snapshotter that works now does so with another configuration."""
    declared = name in BUILTIN_SNAPSHOTTERS or name in config.proxy_snapshotters
    return declared and not missing_requirements(node.runner, config, [name])


def report_unpacked(unpacked: Sequence[Unpacked]) -> dict[str, Any]:
    """Return the values of containerd_config about images."""
    plans = [one.plan for one in unpacked]
    return {
        "images": [image for plan in plans for image in plan.images()],
        "skipped_images": {name: reason for plan in plans for name, reason in plan.skipped.items()},
        "needed_bytes": sum(plan.needed for plan in plans),
        "free_bytes": plans[0].free if plans else 0,
        "synced": [synced.to_dict() for one in unpacked for synced in one.synced],
    }
