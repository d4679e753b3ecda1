# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_query_error
short_description: The error in a query over a fleet
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Tries a JMESPath expression before the nodes are read, so that the run does not fail after it.
positional: _input
options:
  _input:
    description: The expression.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Check the query
  ansible.builtin.assert:
    that: verify_query | slipway.node.fleet_query_error | length == 0
"""

RETURN = r"""
_value:
  description: One sentence with the reason; empty if the expression can be used.
  type: str
"""

from collections.abc import Callable
from typing import Any


def fleet_query_error(expression: Any) -> str:
    """Return why the query can't be used as one sentence, empty if it can."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.fleet import query_error  # noqa: PLC0415

    return query_error(expression)


class FilterModule:
    """The filter fleet_query_error."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"fleet_query_error": fleet_query_error}
