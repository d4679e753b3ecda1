# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: What node_verify found on every node, worst first
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Gathers the variable C(verify_node), which the role C(verify) registers, from the hosts of a play.
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
"""

EXAMPLES = r"""
- name: Count the nodes by their worst finding
  ansible.builtin.debug:
    msg: "{{ (hostvars | slipway.node.fleet(ansible_play_hosts_all)).summary }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(nodes), a list of C(name), C(version), C(worst), C(summary), C(findings) by check, and C(reason), why a node that was
      reached couldn't be read; C(checks), the ids in order; C(summary), how many nodes have which worst status.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Worst first; a node that couldn't be read may be anything.
_ORDER = ("fail", "unreachable", "unknown", "warn", "ok")


def fleet(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> dict[str, Any]:
    """Return the fleet as ``nodes`` (worst first, then by name), ``checks`` and ``summary``."""
    nodes = [_node(name, variables[name].get("verify_node") or {}) for name in hosts]
    nodes.sort(key=lambda node: (_ORDER.index(node["worst"]), -node["summary"].get("fail", 0), node["name"]))
    checks = dict.fromkeys(check for node in nodes for check in node["findings"])
    counts = {status: sum(node["worst"] == status for node in nodes) for status in _ORDER}
    return {"nodes": nodes, "checks": list(checks), "summary": {key: count for key, count in counts.items() if count}}


def _node(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    summary = dict(found.get("summary") or {})
    return {
        "name": name,
        "version": found.get("version"),
        "worst": summary.get("worst", "unreachable"),
        "summary": summary,
        "reason": "" if summary or found.get("unreachable") else str(found.get("msg") or ""),
        "findings": {finding["id"]: finding for finding in found.get("checks", [])},
    }


class FilterModule:
    """The collection's view of a fleet."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"fleet": fleet}
