# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs slipway.node.node_plan with the stages that follow from the variables of the roles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import OPTIONAL, resolve
from ansible_collections.slipway.node.plugins.module_utils.node_spec.stages import PARTS, TOOLBOX_MARK, stages
from ansible_collections.slipway.node.plugins.plugin_utils.fact_uses import lacks_facts, uses
from ansible_collections.slipway.node.plugins.plugin_utils.payload import without_garbage_collection
from ansible_collections.slipway.node.plugins.plugin_utils.role_files import (
    ARGUMENT_SPECS,
    CONSTANTS,
    DEFAULTS,
    VARIABLES,
    RoleFiles,
)


class ActionModule(ActionBase):
    """Computes the stages on the controller. What can't be planned has to be entered, so that its role reports why."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; all parts if the variables are refused, or if no module can run on the node."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        arguments = dict(self._task.args)
        if "stages" not in arguments:
            try:
                arguments["stages"] = self._stages(variables)
            except (AnsibleError, ValueError, TypeError, AttributeError, LookupError) as error:
                return {**result, **_unplanned("inventory", str(error))}
        configured = str(constants.config.get_config_value("INTERPRETER_PYTHON"))
        if "ansible_python_interpreter" not in variables and configured.startswith("auto"):
            # A node without Python is no reason for a warning: the role bootstrap installs it.
            variables["ansible_python_interpreter"] = "auto_silent"
        with without_garbage_collection():
            answer = self._execute_module(module_args=arguments, task_vars=variables)
        if "parts" not in answer:
            # Without the facts, so that the Python that bootstrap installs is searched for again.
            return {**result, **_unplanned("requirements", str(answer.get("msg") or "the module doesn't run"))}
        # It repeats the specification, for every host of the run.
        answer.pop("invocation", None)
        # Ansible masks every value that contains a password, also these.
        answer["changed"] = False
        if "stages" not in self._task.args and not set(answer["parts"]) <= set(PARTS):
            answer["parts"] = list(PARTS)
        return {**result, **answer}

    def _stages(self, task_vars: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the stages. Raises ValueError and AnsibleError for variables that a role refuses."""
        given = self._given(task_vars)
        # As for the filter node_spec, an empty variable without a default isn't set.
        set_ones = {name: value for name, value in given.items() if value != "" or name in DEFAULTS}
        variables = {**dict.fromkeys(VARIABLES), **DEFAULTS, **set_ones}
        spec = resolve(variables)
        files = RoleFiles({**variables, "node_spec": spec, "__toolbox_mark": TOOLBOX_MARK})
        found = stages(spec, variables, files)
        for batch in spec["image_batches"]:
            archive = batch.get("archive")
            if archive and not batch.get("remote_src") and not os.path.isfile(archive):
                raise ValueError(f"the controller has no file {archive}")
        return found

    def _given(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables that the inventory sets.

        Raises ValueError if the options of a role don't allow them, or if they may have other values once its role runs.
        """
        if lacks_facts(VARIABLES, task_vars):
            raise ValueError("the inventory uses facts, which aren't gathered yet")
        replaced = [name for name, value in CONSTANTS.items() if task_vars.get(name, value) != value]
        if replaced or uses(VARIABLES, task_vars, CONSTANTS):
            raise ValueError("the inventory uses or replaces variables that the roles derive")
        templar = self._templar.copy_with_new_env(available_variables={**DEFAULTS, **task_vars})
        given = {name: templar.template(task_vars[name]) for name in VARIABLES if name in task_vars}
        empty = [name for name, value in given.items() if value is None and name in DEFAULTS and name not in OPTIONAL]
        if empty:
            raise ValueError(f"{', '.join(sorted(empty))}: a role may need a value")
        for options in ARGUMENT_SPECS.values():
            own = {name: option for name, option in options.items() if name in given}
            refused = ArgumentSpecValidator(own).validate({name: given[name] for name in own}).error_messages
            if refused:
                raise ValueError("; ".join(refused))
        return given


def _unplanned(stage: str, reason: str) -> dict[str, Any]:
    return {"changed": False, "parts": list(PARTS), "stage": stage, "reason": reason}
