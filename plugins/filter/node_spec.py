# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node_spec
short_description: The specification of a node from the variables of an inventory
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Checks the variables that several roles share, completes them, and returns them in the form that the modules take.
  - The role C(node_spec) applies it, so that every other role reads the variable C(node_spec).
  - Fails with one sentence that names the variable at fault.
positional: _input
options:
  _input:
    description: The variables by name, as the role C(node_spec) passes them. Variables that aren't set are empty.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Resolve the specification of the node
  ansible.builtin.import_role:
    name: slipway.node.node_spec

- name: Print the snapshotters in use
  ansible.builtin.debug:
    msg: "{{ node_spec.snapshotters_used }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), for M(slipway.node.containerd_config) and M(slipway.node.node_verify).
    - C(http_proxy), null if there is none, and C(snapshotters_used), the snapshotters that settings or handlers name.
    - C(images), for M(slipway.node.node_verify), and C(image_batches), each one run of M(slipway.node.containerd_image).
    - C(kata), with C(managed), C(enabled), C(install_root), C(handlers) for M(slipway.node.kata_config), and C(kernel_modules).
    - C(thin_pool), with C(enabled), C(name) of the device mapper's, and C(root_path) of the snapshotter.
    - C(toolboxes), with C(managed), C(pruned), C(entries) for M(slipway.node.toolbox_snapshot), C(listed) for
      M(slipway.node.node_verify), and C(default), the toolbox that the command enters.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import resolve


def node_spec(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification. Raises AnsibleFilterError that names the variable at fault, but no credentials."""
    try:
        return resolve(variables)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter node_spec."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"node_spec": node_spec}
