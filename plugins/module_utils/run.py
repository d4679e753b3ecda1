# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that ends a module."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError, MissingLibrary


def run_module(
    run: Callable[[AnsibleModule], dict[str, Any]],
    argument_spec: Mapping[str, Any],
    *,
    module_type: type[AnsibleModule] = AnsibleModule,
    on_failure: Mapping[str, Any] | None = None,
    **rules: Any,
) -> None:
    """Run a module and end it with its result, or with one sentence that says why it failed.

    A true ``failed`` in the result makes the module fail. ``on_failure`` are return values of a failed module, unless the
    error has its own. ``rules`` are AnsibleModule's, such as ``required_if``.
    """
    module = module_type(argument_spec=dict(argument_spec), supports_check_mode=True, **rules)
    values = dict(on_failure or {})
    try:
        result = run(module)
    except MissingLibrary as error:
        remedy = "The role slipway.node.bootstrap installs it, and so does the playbook slipway.node.provision."
        module.fail_json(msg=f"{missing_required_lib(str(error))} {remedy}", **values)
    except HostError as error:
        module.fail_json(msg=f"{error}{_ask_for_root()}", **{**values, **error.values})
    except ValueError as error:
        module.fail_json(msg=str(error), **values)
    if result.pop("failed", False):
        if "msg" in result:
            result["msg"] += _ask_for_root()
        module.fail_json(**result)
    module.exit_json(**result)


def _ask_for_root() -> str:
    """Return the most likely remedy for an ordinary user; nothing for root."""
    return "" if os.geteuid() == 0 else "; the task runs as an ordinary user: set become"
