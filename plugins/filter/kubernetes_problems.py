# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_problems
short_description: The reasons for which a Node must not get pods
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Compares the status that the kubelet reports with the expected container runtime.
positional: _input
options:
  _input:
    description: A Node, as one of those that M(kubernetes.core.k8s_info) returns.
    type: dict
    required: true
  version:
    description:
      - The version of containerd that the kubelet must be connected to. Not compared if empty.
      - Without it, a status from before a restart of containerd is taken for the present one.
    type: str
    default: ""
  handlers:
    description: The names of runtime handlers that the kubelet must offer. Not compared if the kubelet does not report handlers.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Wait until the kubelet is ready with containerd 2.3.7
  kubernetes.core.k8s_info:
    kind: Node
    name: "{{ inventory_hostname }}"
  register: answer
  until: answer.resources | map('slipway.node.kubernetes_problems', version='2.3.7') | flatten | length == 0
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: One sentence for each reason, without a final full stop. Empty if there is none.
  type: list
  elements: str
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def kubernetes_problems(node: Any, version: str = "", handlers: Sequence[str] = ()) -> list[str]:
    """Return what keeps the Node from getting pods. Raises AnsibleFilterError for what is not a Node."""
    try:
        status = node["status"]
        conditions = [one for one in status.get("conditions") or () if one["type"] == "Ready"]
        reported = status.get("nodeInfo", {}).get("containerRuntimeVersion", "")
        offered = {one.get("name", "") for one in status.get("runtimeHandlers") or ()}
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"kubernetes_problems takes a Node, not {node!r}") from error
    problems = ["the kubelet has not reported yet whether it is ready"] if not conditions else []
    problems += [
        f"the Node's condition Ready is {one['status']}: {one.get('message') or one.get('reason') or 'no reason is given'}"
        for one in conditions
        if one["status"] != "True"
    ]
    if version and _number(reported) != _number(version):
        problems.append(f"the kubelet reports the container runtime {reported or 'nothing'} instead of containerd {version}")
    missing = [name for name in handlers if name not in offered] if offered else []
    if missing:
        problems.append(f"the kubelet does not report the runtime handlers {', '.join(missing)}")
    return problems


def _number(version: str) -> str:
    """Return the number in a version, such as 1.7.24 in ``containerd://1.7.24~ds1``; the text itself if there is none."""
    found = re.search(r"\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?", version)
    return found.group() if found else version


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"kubernetes_problems": kubernetes_problems}
