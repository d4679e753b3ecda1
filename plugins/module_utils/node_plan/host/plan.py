# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the stages of a provisioning run that have work on this node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.core.controller_file import NEEDS_FILE
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError, MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.files import secret_values
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host import node_files
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.modules import stage_module


@dataclass(frozen=True)
class Work:
    """The first stage that has work, and the reason. Later stages aren't planned, because the work can change what they find."""

    part: str
    stage: str
    reason: str


def first_work(module: AnsibleModule, stages: Sequence[Mapping[str, Any]]) -> tuple[Work | None, list[str]]:
    """Return the first stage with work, None if there is none, and the warnings of the parts that aren't entered."""
    warnings: list[tuple[str, str]] = []
    clients: dict[Any, Any] = {}
    for stage in stages:
        try:
            reason, new = plan_stage(module, stage["module"], stage["arguments"], clients)
        except MissingLibrary as error:
            reason, new = f"the Python library {error} is missing", []
        except (HostError, ValueError) as error:
            # The role fails with the same sentence.
            reason, new = str(error), []
        if reason:
            shown = [warning for part, warning in warnings if part != stage["part"]]
            return Work(stage["part"], stage["stage"], reason), shown
        warnings += [(stage["part"], warning) for warning in new]
    return None, [warning for _part, warning in warnings]


def plan_stage(module: AnsibleModule, name: str, arguments: Mapping[str, Any], clients: dict[Any, Any]) -> tuple[str, list[str]]:
    """Return why the stage has work, empty if it has none, and its warnings. Raises the errors of its module."""
    own = node_files.CHECKS.get(name)
    if own is not None:
        return own(module, arguments), []
    if name == "release":
        name, arguments = "release_install", node_files.release_of(arguments)
    known = stage_module(name)
    if known is None:
        return "it can't be planned", []
    result, warnings = known.predict(module, arguments, clients)
    return _work(name, arguments, result, warnings), warnings


def _work(name: str, arguments: Mapping[str, Any], result: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """Return why there is work, from a module's result in check mode and from changes that it can't predict; empty if none."""
    if NEEDS_FILE in result:
        return "a file of the controller is needed"
    if result.get("failed"):
        return str(result.get("msg") or "the module fails")
    if result["changed"]:
        return str(result.get("restart_reason") or "it would change")
    if name == "containerd_config":
        return _work_of_settings(arguments, result, warnings)
    others = {"kata_config": _work_of_handlers, "toolbox_snapshot_info": _work_of_toolboxes}
    return others[name](result) if name in others else ""


def _work_of_handlers(result: Mapping[str, Any]) -> str:
    return "handlers differ" if result["files"] or result["deferred"] or result["unlisted"] else ""


def _work_of_toolboxes(result: Mapping[str, Any]) -> str:
    return "there are unlisted toolboxes to remove" if any(one["prunable"] for one in result["toolboxes"]) else ""


def _work_of_settings(arguments: Mapping[str, Any], result: Mapping[str, Any], warnings: Sequence[str]) -> str:
    if warnings:
        # Some of these warnings are errors outside of check mode.
        return warnings[0]
    record = read_record(arguments["config_file"])
    if record.pending or record.unstarted:
        return "an earlier run was interrupted, or no container started since"
    before, after = result["previous_snapshotter"], result["effective"].get("snapshotter") or "overlayfs"
    return "the default snapshotter changes" if before is not None and before != after else ""


class PlanModule(SecretParamsModule):
    """An AnsibleModule that hides the secrets in the options of the stages."""

    def _secrets(self) -> set[str]:
        found: set[str] = set()
        for stage in self.params["stages"] or ():
            known = stage_module(stage["module"])
            found |= known.secrets(stage["arguments"]) if known is not None else secret_values(stage["arguments"])
        return found


def run(module: AnsibleModule) -> dict[str, Any]:
    """Plan the stages."""
    stages = module.params["stages"] or []
    work, warnings = first_work(module, stages)
    parts = list(dict.fromkeys(stage["part"] for stage in stages))
    for warning in warnings:
        module.warn(warning)
    return {
        "changed": False,
        "parts": parts[parts.index(work.part) :] if work is not None else [],
        "stage": work.stage if work is not None else None,
        "reason": work.reason if work is not None else "",
    }


OPTIONS: Mapping[str, Any] = {
    "stages": {
        "type": "list",
        "elements": "dict",
        "options": {
            "part": {"type": "str", "required": True},
            "stage": {"type": "str", "required": True},
            "module": {"type": "str", "required": True},
            "arguments": {"type": "dict", "default": {}},
        },
    },
}
