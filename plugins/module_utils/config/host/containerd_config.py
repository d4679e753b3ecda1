# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuring containerd: the run of the module containerd_config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.host.migration import (
    DefaultChange,
    Unpacked,
    plan_default_change,
    report_unpacked,
)
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_needs, check_roots, unverified_pulls
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import restart_decision
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import ConfigStage, plan_files, plan_stage
from ansible_collections.slipway.node.plugins.module_utils.config.plan import CurrentConfig
from ansible_collections.slipway.node.plugins.module_utils.config.request import (
    ALWAYS,
    AUTO,
    CHANGED,
    FORCE,
    NEVER,
    NONE,
    ConfigRequest,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import check_not_interrupted, exclusive

OPTIONS: Mapping[str, Any] = {
    **SHARED_OPTIONS,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "enable_cri": {"type": "bool", "default": False},
    "service_directives": {"type": "dict", "default": {}},
    **Containerd.OPTIONS,
    "drop_in_file": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
    "assume_version": {"type": "str"},
    "restart": {"type": "str", "choices": [AUTO, NEVER, FORCE], "default": AUTO},
    "unit_enabled": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "probe": {"type": "str", "choices": [NONE, CHANGED, ALWAYS], "default": NONE},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Configure containerd, one run at a time on a node."""
    if module.check_mode:
        check_not_interrupted()
    with exclusive(module.params["timeout"]) if not module.check_mode else nullcontext(-1) as lock:
        return configure(module, lock)


def configure(module: AnsibleModule, lock: int) -> dict[str, Any]:
    """Read, plan, validate, and apply unless it is check mode."""
    wanted = ConfigRequest.from_params(module.params)
    node = ContainerdHost(Containerd.from_module(module), wanted.drop_in_file)
    version = installed_or_assumed(module, node)
    if version is None:
        return unpredictable()
    found = node.found(version)
    if node.binary.path is None:
        module.warn(f"containerd isn't installed yet: its files are predicted as if {version} brought none of its own")
        return report_uninstalled(wanted, found)
    final = plan_stage(node, wanted, found)
    current = node.try_read_config() if final.changes else final.config
    check_roots(current, final.config)
    unverified = unverified_pulls(wanted, found, final.config)
    if unverified:
        module.warn(unverified)
    enable = False
    if wanted.may_restart:
        final, enable = decide_restart(module, node, final)
    before = node.proven_config(found.record, current)
    change = plan_change(module, node, final, before)
    changed = bool(final.changes or final.record != found.record or final.reason)
    unpacked = [Unpacked(change.plan)] if change is not None and change.plan is not None else []
    diff = [file.diff() for file in final.changes] + diff_of_images(change)
    if (changed or final.probes) and not module.check_mode:
        # Most runs change nothing, and need no probe.
        from ansible_collections.slipway.node.plugins.module_utils.config.host.apply import ConfigApplication  # noqa: PLC0415

        proven = bool(found.record.pending) and wanted.may_restart and node.is_well()
        application = ConfigApplication(node, final, change, proven=proven, lock=lock)
        unpacked = application.apply()
        if application.untried:
            module.warn(f"no container was started with the default runtime handler: {application.untried}")
    if enable and not module.check_mode:
        node.daemon.unit.enable()
    return {
        **report(found, final.plan.schema, final.files, final.config, final.reason, changed=changed or enable),
        "previous_snapshotter": before.default_snapshotter if before is not None else None,
        **report_unpacked(unpacked),
        "diff": diff,
    }


def installed_or_assumed(module: AnsibleModule, node: ContainerdHost) -> Version | None:
    """Return the installed version; in check mode the assumed one, or None, where nothing is installed yet."""
    assumed, named = module.params["assume_version"], module.params["binary"]
    if node.binary.path is None and named and not (module.check_mode and assumed):
        raise ValueError(f"binary: there is no program {named}: install it first, or name another")
    if node.binary.path is not None or not module.check_mode:
        return node.containerd.version
    return Version.parse(assumed) if assumed else None


def decide_restart(module: AnsibleModule, node: ContainerdHost, final: ConfigStage) -> tuple[ConfigStage, bool]:
    """Return the stage with the reason for a restart, and whether the unit has to be enabled."""
    pending = bool(final.found.record.pending)
    reason, enable = restart_decision(node, final.wanted, final.changes, final.config, node.daemon.read_state(), pending=pending)
    if final.wanted.present:
        for lacking in check_needs(node, final.wanted, final.config, predicted=module.check_mode):
            module.warn(f"{lacking}. This fails outside of check mode, unless another task creates what is missing first")
    return replace(final, reason=reason), enable


def plan_change(
    module: AnsibleModule, node: ContainerdHost, final: ConfigStage, before: EffectiveConfig | None
) -> DefaultChange | None:
    """Plan the change of the default snapshotter; None if it stays, or if the daemon is to be left alone."""
    new = final.config.default_snapshotter
    if final.wanted.may_restart:
        change = plan_default_change(node, final, before, watch=module.check_mode)
        if change is not None and change.plan is None and module.check_mode:
            module.warn(f"the daemon doesn't answer: which images have to be unpacked for {new} is known once it is started")
        return change
    if before is not None and before.default_snapshotter != new:
        module.warn(
            f"the default snapshotter changes from {before.default_snapshotter} to {new}, and with restart=never no image is "
            f"unpacked for it: unpack them with slipway.node.containerd_image (snapshotter: {new}) before the daemon is restarted"
        )
    return None


def diff_of_images(change: DefaultChange | None) -> list[dict[str, str]]:
    """Return what diff mode shows of images that have to be unpacked."""
    images = change.plan.images() if change is not None and change.plan is not None else []
    if change is None or not images:
        return []
    lines = "".join(f"{one['namespace']}/{one['name']}\n" for one in images)
    header = f"images unpacked for {change.new}"
    return [{"before_header": header, "after_header": header, "before": "", "after": lines}]


def unpredictable() -> dict[str, Any]:
    """Return the result of check mode on a node without containerd and without a version to assume."""
    return {
        "changed": True,
        "msg": "containerd isn't installed yet: what its files will be depends on its version",
        "restarted": True,
        "rolled_back": False,
        "files": [],
        "effective": {},
        "previous_snapshotter": None,
        "durability": {},
        "diff": [],
        **report_unpacked([]),
    }


def report_uninstalled(wanted: ConfigRequest, found: CurrentConfig) -> dict[str, Any]:
    """Return the result of check mode on a node without containerd."""
    plan, files = plan_files(wanted, found)
    changed = any(file.changed for file in files)
    # What the package brings is started by the package; new files make another start.
    return {
        **report(found, plan.schema, files, None, "it is new" if changed else None, changed=changed),
        "previous_snapshotter": None,
        **report_unpacked([]),
    }


def report(
    found: CurrentConfig,
    schema: int,
    files: Sequence[FileChange],
    config: EffectiveConfig | None,
    reason: str | None,
    *,
    changed: bool,
) -> dict[str, Any]:
    """Return what the module says of files and daemon."""
    result: dict[str, Any] = {
        "changed": changed,
        "version": str(found.version),
        "schema": schema,
        "files": [{"path": file.path, "changed": file.changed, "exists": file.after is not None} for file in files],
        "effective": config.to_dict() if config is not None else {},
        "durability": config.pull_durability(found.version) if config is not None else {},
        "restarted": reason is not None,
        "rolled_back": False,
        "diff": [file.diff() for file in files if file.changed],
    }
    if reason is not None:
        result["restart_reason"] = reason
    return result
