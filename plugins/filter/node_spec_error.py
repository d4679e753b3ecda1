# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node_spec_error
short_description: The first error in the variables of an inventory
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Checks the same variables as P(slipway.node.node_spec#filter), and returns its error instead of failing.
positional: _input
options:
  _input:
    description: The variables by name, as the role C(node_spec) passes them. Variables that aren't set are empty.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the variables
  ansible.builtin.assert:
    that: __node_spec_variables | slipway.node.node_spec_error | length == 0
"""

RETURN = r"""
_value:
  description: One sentence that names the variable at fault; empty if there is none.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import resolve


def node_spec_error(variables: Mapping[str, Any]) -> str:
    """Return the error as one sentence, empty if there is none."""
    try:
        resolve(variables)
    except ValueError as error:
        return str(error)
    return ""


class FilterModule:
    """The filter node_spec_error."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"node_spec_error": node_spec_error}
