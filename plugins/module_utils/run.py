# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that ends a module."""

from __future__ import annotations

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
        module.fail_json(msg=missing_required_lib(str(error)), **values)
    except HostError as error:
        module.fail_json(msg=str(error), **{**values, **error.values})
    except ValueError as error:
        module.fail_json(msg=str(error), **values)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
