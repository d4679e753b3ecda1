#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_plan
short_description: Plan which parts of a provisioning run have work on a node
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Compares the node with the inventory, and changes nothing. The playbook C(slipway.node.provision) runs it first, and enters
    only the parts that have work. On a node that is already in its expected state, the playbook runs nothing else.
  - Each stage of the run is planned by the module that would do it, in check mode. The module returns the first stage that has
    work, and its part with all later parts, because the work can change the state that later stages find.
  - A stage that cannot be planned exactly or cheaply counts as work. So does a stage whose module refuses its options or fails. On a
    node without Python, no module runs, and all parts have work. The roles then report the error, or install Python.
options:
  stages:
    description:
      - The stages of the run.
      - Default is the list that follows from the variables of the roles in the inventory.
    type: list
    elements: dict
    suboptions:
      part:
        description: The part of the run. Parts of one run are listed in their order.
        type: str
        required: true
      stage:
        description: The name of the stage in the result.
        type: str
        required: true
      module:
        description: The name of the module without the collection, or the name of a check of files or packages.
        type: str
        required: true
      arguments:
        description: The options of the module.
        type: dict
        default: {}
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The modules of the stages show differences when their roles are entered.
  idempotent:
    support: full
  action:
    description: Runs an action on the controller.
    support: full
seealso:
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
- name: Plan the run from the inventory
  slipway.node.node_plan:
  register: plan

- name: Report the first stage that has work
  ansible.builtin.debug:
    msg: "{{ plan.stage }}: {{ plan.reason }}"
  when: plan.parts | length > 0
"""

RETURN = r"""
parts:
  description:
    - The parts of the run that have to be entered, in their order. These are the first part that has work, and all later parts.
      Empty if the node is in its expected state.
    - C(containerd) is everything up to the running daemon, including Kata Containers. C(images) and C(toolboxes) follow.
  type: list
  elements: str
  returned: always
stage:
  description: The first stage that has work, or null.
  type: str
  returned: always
reason:
  description: Why the stage has work, or why it could not be planned; empty if there is no work.
  type: str
  returned: always
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.plan import OPTIONS, PlanModule, run
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS, module_type=PlanModule)


if __name__ == "__main__":
    main()
