# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run another module inside of node_plan, with its own options and in check mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator, ValidationResult

from ansible_collections.slipway.node.plugins.module_utils.core.files import secret_values
from ansible_collections.slipway.node.plugins.module_utils.core.host.plain_programs import PlainPrograms

Run = Callable[[AnsibleModule], dict[str, Any]]


@dataclass(frozen=True)
class StageModule:
    """A module: its ``run``, its options, and the other arguments of its AnsibleModule, such as ``required_if``."""

    run: Run
    options: Mapping[str, Any]
    rules: Mapping[str, Any] = field(default_factory=dict)

    def validate(self, arguments: Mapping[str, Any]) -> ValidationResult:
        """Validate the arguments as AnsibleModule does."""
        return ArgumentSpecValidator(dict(self.options), **self.rules).validate(dict(arguments))

    def secrets(self, arguments: Mapping[str, Any]) -> set[str]:
        """Return the values that must not be shown: those of ``no_log`` options, and secrets inside of dictionaries."""
        hidden: set[str] = self.validate(arguments)._no_log_values
        return {str(value) for value in hidden} | secret_values(arguments)

    def predict(
        self, module: AnsibleModule, arguments: Mapping[str, Any], clients: dict[Any, Any] | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the module's result in check mode, and its warnings. ``clients`` are kept for the next module.

        Raises ValueError and HostError as the module does; ValueError also for arguments that the module refuses.
        """
        validated = self.validate(arguments)
        if validated.error_messages:
            raise ValueError("; ".join(validated.error_messages))
        view = _View(module, validated.validated_parameters, {} if clients is None else clients)
        return self.run(cast(AnsibleModule, view)), view.warnings


class _View:
    """The AnsibleModule of the run of another module. It delegates to node_plan's, but runs programs by itself."""

    check_mode = True

    def __init__(self, module: AnsibleModule, params: Mapping[str, Any], clients: dict[Any, Any]) -> None:
        self._module = module
        self.params = dict(params)
        # Of Containerd.from_module: the modules share the state of the daemon that one has read, because nothing is changed.
        self.clients = clients
        self.warnings: list[str] = []
        self._answers: dict[tuple[str, ...], tuple[int, str, str]] = {}

    def run_command(self, args: list[str], **options: Any) -> tuple[int, str, str]:
        """Run a program, but once: as nothing is changed, it would answer the same. AnsibleModule forks the interpreter."""
        question = tuple(args)
        if question not in self._answers:
            self._answers[question] = PlainPrograms().run_command(args, **options)
        return self._answers[question]

    def warn(self, warning: str) -> None:
        """Keep a warning. It is shown only if its part isn't entered: otherwise the role shows it."""
        self.warnings.append(warning)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
