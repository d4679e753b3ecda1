# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reasons to refuse a configuration."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.config import mismatches
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.losses import lost_by_change
from ansible_collections.slipway.node.plugins.module_utils.config.plan import ConfigPlan, CurrentConfig, disabled_in, is_foreign
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import read_sources
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import image_verifiers
from ansible_collections.slipway.node.plugins.module_utils.core.toml import parse
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import (
    lost_snapshots,
    missing_requirements,
)


def check_effective(
    node: ContainerdHost, wanted: ConfigRequest, plan: ConfigPlan, found: CurrentConfig, config: EffectiveConfig
) -> None:
    """Raise ValueError for a setting that the daemon would not have, or that CRI would fail on."""
    ours = {change.path for change in plan.files}
    theirs = (node.config_file, *(change.path for change in plan.files if not change.changed and is_foreign(change.before)))
    sources = [one for one in read_sources(node.config_file) if one.path not in ours or one.path in theirs]
    if wanted.present and not config.cri_enabled and mismatches.needs_cri(wanted.settings):
        trees = {one.path: parse(one.text) for one in sources}
        where = disabled_in(trees) or node.config_file
        remedy = "set enable_cri to true" if where == node.config_file else "remove it there"
        raise ValueError(f"the CRI plugin is disabled by disabled_plugins in {where}: {remedy}, or leave out its settings")
    if wanted.present:
        known = node.containerd.known_plugins if "plugins" in wanted.settings.extra_config else None
        others = [one for one in sources if not (one.path == node.config_file and found.version.major == 1)]
        wrong = mismatches.mismatches(wanted.settings, found.version, found.architecture, config, known, others)
        # 2.3 and newer migrate each file by itself.
        odd = mismatches.other_schema(sources, plan.schema) if config.schema < 4 else None
        if odd and any(one.culprit is None and one.known for one in wrong):
            raise ValueError(
                f"{odd} is written in another schema than {node.config_file} ({plan.schema}), and containerd {found.version} "
                f"then drops settings ({dotted(wrong[0].path)}): migrate both to one version"
            )
        if wrong:
            raise ValueError("; ".join(one.sentence(found.version) for one in wrong))
    trouble = config.cri_config_error()
    if trouble and not wanted.present:
        # No setting can be added to what is taken back.
        cause = trouble.partition(": ")[0]
        raise ValueError(f"CRI fails on {node.config_file} without the settings of this module: {cause}; repair it by hand first")
    if trouble:
        raise ValueError(f"CRI would fail on this configuration: {trouble}")
    if wanted.present and config.cri_enabled:
        trouble = mismatches.pull_conflict(wanted.settings, found.version, found.architecture, config, image_verifiers(config))
        if trouble:
            raise ValueError(trouble)


def unverified_pulls(wanted: ConfigRequest, found: CurrentConfig, config: EffectiveConfig) -> str:
    """Return why CRI doesn't ask the node's image verifiers; empty if it asks them, or if that is allowed."""
    verifiers = image_verifiers(config) if wanted.present and config.cri_enabled else ()
    return config.unverified_pulls(found.version, verifiers) if not wanted.settings.allow_unverified_pulls else ""


def check_kept(node: ContainerdHost, wanted: ConfigRequest, found: CurrentConfig, config: EffectiveConfig) -> None:
    """Raise ValueError if the planned files would take a setting from the daemon that others made and this run doesn't."""
    current = node.try_read_config()
    if current is None:
        return  # The daemon can't start on these files, so it has no settings.
    others = [one for one in read_sources(node.config_file) if one.path != node.drop_in_file]
    leaves = mismatches.wanted_leaves(wanted.settings, found.version, found.architecture, config)
    lost = lost_by_change(others, current, config, leaves, found.record)
    if lost:
        raise ValueError(
            f"containerd {found.version} would lose settings that it has from other files ({', '.join(map(str, lost))}): "
            "add them to settings, or migrate those files with 'containerd config migrate' first"
        )


def check_roots(current: EffectiveConfig | None, config: EffectiveConfig) -> None:
    """Raise ValueError if the daemon would not find the snapshots any more that it knows."""
    lost = lost_snapshots(current, config) if current is not None else ""
    if lost:
        raise ValueError(lost)


def check_needs(node: ContainerdHost, wanted: ConfigRequest, config: EffectiveConfig, *, predicted: bool) -> list[str]:
    """Refuse a snapshotter whose requirements the node doesn't meet: the daemon would start without it. Raises ValueError.

    ``predicted``: what a role creates may be missing; such sentences are returned.
    """
    names = [*wanted.settings.chosen_snapshotters(), *wanted.settings.snapshotters]
    lacking = missing_requirements(node.runner, config, names).values()
    refused = [one.reason for one in lacking if not (predicted and one.creatable)]
    if refused:
        raise ValueError("; ".join(refused))
    return [one.reason for one in lacking]
