# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: finding_line
short_description: A finding of node_verify as one line for people
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Turns one of the RV(slipway.node.node_verify#module:checks) into a line for people and logs.
positional: _input
options:
  _input:
    description: One finding.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print what isn't ok
  ansible.builtin.debug:
    msg: "{{ node.checks | rejectattr('status', 'equalto', 'ok') | map('slipway.node.finding_line') }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def words(value: Any) -> str:
    """Return what a finding expected or found as one line."""
    if isinstance(value, Mapping):
        # A value that belongs to no single object has an empty key.
        return ", ".join(f"{key}: {one}" if key else str(one) for key, one in value.items())
    return ", ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)


def finding_line(finding: Any) -> str:
    """Return the line ``STATUS id: found -> remedy``. Raises AnsibleFilterError if the value is not a finding."""
    try:
        line = f"{finding['status'].upper()} {finding['id']}: {words(finding['found']) or 'none'}"
        return f"{line} -> {finding['remedy']}" if finding["remedy"] else line
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"finding_line takes a finding of node_verify, not {finding!r}") from error


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"finding_line": finding_line}
