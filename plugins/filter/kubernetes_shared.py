# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_shared
short_description: The hosts of an inventory that are the same Node of Kubernetes
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Compares C(upgrade_kubernetes_node) of the hosts with C(upgrade_drain), for each kubeconfig and context. If two hosts were one
    Node, one of them would be upgraded without a drain.
positional: _input, hosts
options:
  _input:
    description: The variables of all hosts (C(hostvars)).
    type: dict
    required: true
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Require that each host is a Node of its own
  ansible.builtin.assert:
    that: hostvars | slipway.node.kubernetes_shared(groups['nodes']) | length == 0
  run_once: true
"""

RETURN = r"""
_value:
  description: One sentence for each Node with several hosts, without a final full stop. Empty if there is none.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from jinja2 import UndefinedError

# With the name, they say which Node of which cluster it is.
ACCESS = ("upgrade_kubernetes_kubeconfig", "upgrade_kubernetes_context")


def kubernetes_shared(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> list[str]:
    """Return a sentence for each Node that several hosts have."""
    # To read variables without their templates is cheaper.
    read = getattr(variables, "raw_get", variables.__getitem__)
    nodes: dict[tuple[str, ...], list[str]] = {}
    for host in map(str, hosts):
        if "upgrade_drain" not in read(host):
            continue
        own = variables[host]
        try:
            if boolean(own["upgrade_drain"], strict=False):
                name = own.get("upgrade_kubernetes_node", host)
                access = (str(own.get(key, "")) for key in ACCESS)
                nodes.setdefault((str(name), *access), []).append(host)
        except (AnsibleError, UndefinedError):
            # The role refuses this host with the error.
            continue
    return [
        f"{', '.join(same[:-1])} and {same[-1]} use the same upgrade_kubernetes_node, {node[0]}"
        for node, same in nodes.items()
        if len(same) > 1
    ]


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"kubernetes_shared": kubernetes_shared}
