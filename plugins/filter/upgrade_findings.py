# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_findings
short_description: What an upgrade has made of a node, in the shape of a result of node_verify
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Makes findings of what the playbook C(slipway.node.upgrade) remembers of a host, so that P(slipway.node.fleet#filter) and
    P(slipway.node.fleet_report#filter) can report on the upgrade of a fleet.
positional: _input
options:
  _input:
    description: The variables of the host.
    type: dict
    required: true
  predicted:
    description: Whether the run only predicts.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Count the losses of the node
  ansible.builtin.debug:
    msg: "{{ (hostvars[inventory_hostname] | slipway.node.upgrade_findings).summary.fail }}"
"""

RETURN = r"""
_value:
  description:
    - C(version), C(checks) and C(summary) as M(slipway.node.node_verify) returns them. The check V(upgrade) is what became of the
      node. The others are the kinds of entries in its report. Accepted entries are V(warn).
    - For a host that wasn't reached, C(unreachable) and C(msg).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any


def upgrade_findings(variables: Mapping[str, Any], *, predicted: bool = False) -> dict[str, Any]:
    """Return the result."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.upgrade_fleet import findings  # noqa: PLC0415

    return findings(variables, predicted=predicted)


class FilterModule:
    """The filter upgrade_findings."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"upgrade_findings": upgrade_findings}
