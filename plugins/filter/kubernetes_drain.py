# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_drain
short_description: The pods that a drain of a node evicts, leaves and refuses
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Predicts M(kubernetes.core.k8s_drain), which does not support check mode, from the pods of a node.
  - Static pods and pods of a DaemonSet are left on the node. Pods that have ended are evicted without a condition.
positional: _input
options:
  _input:
    description: Pods, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
  force:
    description: Whether pods without a controller are evicted. Nothing creates them again.
    type: bool
    default: false
  delete_emptydir_data:
    description: Whether pods with a volume of the type C(emptyDir) are evicted. The data of the volume is lost.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Print the pods that a drain would evict
  ansible.builtin.debug:
    msg: "{{ (pods.resources | slipway.node.kubernetes_drain).evicted }}"
"""

RETURN = r"""
_value:
  description:
    - C(evicted) and C(left) are names of pods, C(NAMESPACE/NAME). C(refusals) are sentences, each with one pod that keeps the
      drain from starting. These pods are not in C(evicted).
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

MIRROR = "kubernetes.io/config.mirror"


def kubernetes_drain(pods: Any, force: bool = False, delete_emptydir_data: bool = False) -> dict[str, list[str]]:
    """Return what a drain does with each pod. Raises AnsibleFilterError for what is not a list of pods."""
    plan: dict[str, list[str]] = {"evicted": [], "left": [], "refusals": []}
    try:
        for pod in pods:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            place, text = _place(pod, name, force, delete_emptydir_data)
            plan[place].append(text)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"kubernetes_drain takes a list of pods, not {pods!r}") from error
    return {place: sorted(texts) for place, texts in plan.items()}


def _place(pod: Mapping[str, Any], name: str, force: bool, delete_emptydir_data: bool) -> tuple[str, str]:
    """Return the list for a pod and the line, as kubernetes.core k8s_drain.py (filter_pods) and kubectl drain decide."""
    metadata = pod["metadata"]
    owners: Sequence[Mapping[str, Any]] = metadata.get("ownerReferences") or ()
    if MIRROR in (metadata.get("annotations") or {}) or any(owner.get("kind") == "DaemonSet" for owner in owners):
        return "left", name
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return "evicted", name
    if not delete_emptydir_data and any("emptyDir" in volume for volume in pod["spec"].get("volumes") or ()):
        return (
            "refusals",
            f"the pod {name} has a volume of the type emptyDir, whose data is lost: allow it with delete_emptydir_data",
        )
    if not force and not owners:
        return "refusals", f"the pod {name} has no controller that would create it again: allow it with force"
    return "evicted", name


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"kubernetes_drain": kubernetes_drain}
