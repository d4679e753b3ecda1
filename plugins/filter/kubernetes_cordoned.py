# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_cordoned
short_description: Whether a Node is cordoned by an upgrade
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - An upgrade cordons a Node and sets its annotation C(slipway.node/cordoned) in one request. The annotation stays when another
    client uncordons the Node, and when it cordons the Node again. C(metadata.managedFields) of the Node says which client set
    which fields, so the cordon is the upgrade's only if one client set both.
  - Without C(metadata.managedFields), the annotation alone decides.
positional: _input
options:
  _input:
    description: A Node, as one of those that M(kubernetes.core.k8s_info) returns.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print the Nodes that interrupted upgrades have left cordoned
  ansible.builtin.debug:
    msg: "{{ answer.resources | select('slipway.node.kubernetes_cordoned') | map(attribute='metadata.name') }}"
"""

RETURN = r"""
_value:
  description: Whether it is.
  type: bool
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

ANNOTATION = "slipway.node/cordoned"


def kubernetes_cordoned(node: Any) -> bool:
    """Return whether the Node is cordoned by an upgrade. Raises AnsibleFilterError for what is not a Node."""
    try:
        metadata = node["metadata"]
        if ANNOTATION not in (metadata.get("annotations") or {}) or not node["spec"].get("unschedulable"):
            return False
        fields = [one.get("fieldsV1") or {} for one in metadata.get("managedFields") or ()]
        owners = [one for one in fields if "f:unschedulable" in _below(one, "f:spec")]
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"kubernetes_cordoned takes a Node, not {node!r}") from error
    return all(f"f:{ANNOTATION}" in _below(one, "f:metadata", "f:annotations") for one in owners)


def _below(fields: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        fields = fields.get(name) or {}
    return fields


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"kubernetes_cordoned": kubernetes_cordoned}
