# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_line
short_description: What an upgrade has made of a node as one line for people
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Turns what the playbook C(slipway.node.upgrade) remembers of a host into a line for people and logs.
positional: _input
options:
  _input:
    description: The outcome, with C(status), C(version), C(to_version), C(containers) and C(reason).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print what became of the node
  ansible.builtin.debug:
    msg: "{{ {'status': 'upgraded', 'version': '1.7.24', 'to_version': '2.3.7'} | slipway.node.upgrade_line }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any


def upgrade_line(outcome: Mapping[str, Any]) -> str:
    """Return the line."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.upgrade_fleet import line_of  # noqa: PLC0415

    return line_of(outcome)


class FilterModule:
    """The filter upgrade_line."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"upgrade_line": upgrade_line}
