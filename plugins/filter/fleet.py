# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: The findings of node_verify on many nodes, worst first
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Gathers the variable C(verify_node), which the role P(slipway.node.verify#role) registers, from the hosts of a play.
positional: _input, hosts
options:
  _input:
    description: The variables of all hosts (C(hostvars)).
    type: dict
    required: true
  hosts:
    description: Names of the hosts that were to be read. Those without C(verify_node) count as unreachable.
    type: list
    elements: str
    required: true
  query:
    description:
      - A JMESPath expression. The filter then returns what the expression selects, instead of the fleet.
      - Needs the Python library C(jmespath) on the controller.
    type: str
"""

EXAMPLES = r"""
- name: Count the nodes by their worst finding
  ansible.builtin.debug:
    msg: "{{ (hostvars | slipway.node.fleet(ansible_play_hosts_all)).summary }}"
  run_once: true

- name: Print the names of the nodes that fail
  ansible.builtin.debug:
    msg: "{{ hostvars | slipway.node.fleet(ansible_play_hosts_all, query='nodes[?worst==`fail`].name') }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(date), the time of the report in UTC, and C(seconds), the duration of the run; V(null) if it is unknown.
    - C(summary), how many nodes have which worst status.
    - C(checks), the ids of the checks that ran on any node, in the order of the checks.
    - C(groups), the findings that are not V(ok), worst first. Findings of one check are in one group if their status and their
      remedy are the same. A group has C(check), C(status), C(count), the C(nodes), and C(found), C(expected) and C(remedy) of its
      most frequent text. C(texts) are C(found) and C(count) of all texts. Texts that differ only in numbers count as one. Nodes
      that were not read are in groups with the check and the status V(unreachable).
    - C(nodes), worst first. A node has C(name), C(version), C(worst), C(summary), and C(findings) by check. C(reason) is why the
      node was not read, and C(reached) whether the connection worked.
    - With O(query), what the expression selects.
  type: raw
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def fleet(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], query: str | None = None) -> Any:
    """Return the fleet, or what the query selects from it. Raises AnsibleFilterError for a query that can't be used."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet, select  # noqa: PLC0415

    found = read_fleet(variables, hosts, time.time())
    if query is None:
        return found
    try:
        return select(found, query)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The collection's view of a fleet."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"fleet": fleet}
