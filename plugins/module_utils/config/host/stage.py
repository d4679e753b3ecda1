# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A planned configuration, validated by the daemon's own program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_effective, check_kept
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import directories_of, missing_directories
from ansible_collections.slipway.node.plugins.module_utils.config.host.unit_files import check_last_word
from ansible_collections.slipway.node.plugins.module_utils.config.plan import ConfigPlan, CurrentConfig, own_text, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.request import ALWAYS, CHANGED, ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import check_imports
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


@dataclass(frozen=True)
class ConfigStage:
    """Files, and what the daemon makes of them. ``reason`` says why it has to be restarted, None if it needn't."""

    wanted: ConfigRequest
    found: CurrentConfig
    plan: ConfigPlan
    files: tuple[FileChange, ...]
    config: EffectiveConfig
    reason: str | None = None

    @property
    def record(self) -> Record:
        """Return what is remembered of the files."""
        return self.plan.record

    @property
    def changes(self) -> tuple[FileChange, ...]:
        """Return the files that change."""
        return tuple(change for change in self.files if change.changed)

    @property
    def probes(self) -> bool:
        """Return whether a container has to be seen to start with the default handler."""
        changed = self.reason is not None or self.found.record.unstarted
        return self.wanted.may_restart and (self.wanted.probe == ALWAYS or (self.wanted.probe == CHANGED and changed))

    def prove(self, node: ContainerdHost) -> None:
        """Raise ValueError if what the daemon makes of the written files isn't what is wanted."""
        check_effective(node, self.wanted, self.plan, self.found, node.read_config())


def plan_files(wanted: ConfigRequest, found: CurrentConfig) -> tuple[ConfigPlan, tuple[FileChange, ...]]:
    """Plan the configuration files and the drop-in of the unit.

    Raises ValueError, naming file or option, if it can't be done, and HostError if the daemon would not start with an import.
    """
    if os.path.realpath(found.drop_in_file) == os.path.realpath(found.config_file):
        raise ValueError(f"drop_in_file: {found.drop_in_file} is the root file: name another file")
    plan = plan_config(found, wanted.settings, present=wanted.present, enable_cri=wanted.enable_cri)
    check_imports(found.config_file, {change.path: change.after for change in plan.changes})
    path = drop_in_path(wanted.unit)
    before = read_text(path)
    after = own_text("service_directives", path, before, wanted.service.text() if wanted.present else None)
    service = FileChange(path, before, after, 0o600 if wanted.service.environment() else 0o644)
    files = (*plan.files, service)
    return replace(plan, record=_with_directories(plan.record, found, files)), files


def _with_directories(record: Record, found: CurrentConfig, files: Sequence[FileChange]) -> Record:
    """Return the record with the directories that the collection created, or is going to, for files that stay."""
    kept = [file.path for file in files if file.after is not None]

    def created() -> frozenset[str]:
        needed = {directory for path in kept for directory in directories_of(path)}
        return (found.record.directories & needed) | missing_directories(kept)

    if replace(record, directories=created()) != Record():
        kept.append(record_path(found.config_file))
    return replace(record, directories=created())


def plan_stage(node: ContainerdHost, wanted: ConfigRequest, found: CurrentConfig) -> ConfigStage:
    """Plan the files and validate them with the daemon's program. Raises ValueError or HostError if they are refused."""
    plan, files = plan_files(wanted, found)
    check_last_word(node, wanted)
    config = node.planned_config(plan)
    check_effective(node, wanted, plan, found, config)
    if plan.changes and wanted.present:
        check_kept(node, wanted, found, config)
    return ConfigStage(wanted, found, plan, files, config)
