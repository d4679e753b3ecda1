# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_fleet
short_description: What an upgrade has made of the nodes of a fleet
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Gathers what the playbook C(slipway.node.upgrade) remembers of each host.
positional: _input, hosts
options:
  _input:
    description: The variables of all hosts (C(hostvars)).
    type: dict
    required: true
  hosts:
    description: Names of the hosts. Those that are no part of the run are left out.
    type: list
    elements: str
    required: true
  predicted:
    description: Whether the run only predicts.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Print what became of the nodes
  ansible.builtin.debug:
    msg: "{{ (hostvars | slipway.node.upgrade_fleet(ansible_play_hosts_all)).lines }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(nodes), the names of the nodes by what became of them. V(pending) has not been upgraded, and V(current) needs no upgrade.
      The others are V(upgraded), V(rolled_back), V(failed), V(refused) and V(unreachable).
    - C(bad), the names of the nodes that count for C(upgrade_max_failed).
    - C(wave), the number of the next wave.
    - C(lines), the same for people, with the reasons and what to do. A prediction also has the entries of the reports that need
      attention, each once with the names of its nodes.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def upgrade_fleet(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], *, predicted: bool = False) -> dict[str, Any]:
    """Return ``nodes``, ``bad``, ``wave`` and ``lines``."""
    # Ansible loads every filter of the collection in each worker: only the one that needs the checks imports them.
    from ansible_collections.slipway.node.plugins.plugin_utils.upgrade_fleet import (  # noqa: PLC0415
        attention,
        progress,
        read_nodes,
        summary,
    )

    outcomes = read_nodes(variables, hosts)
    noted = attention(variables, outcomes) if predicted else []
    return {**progress(outcomes), "lines": [*summary(outcomes, predicted=predicted), *noted]}


class FilterModule:
    """The filter upgrade_fleet."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"upgrade_fleet": upgrade_fleet}
