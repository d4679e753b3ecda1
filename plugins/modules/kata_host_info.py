#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kata_host_info
short_description: Check whether a machine can run Kata Containers guests
version_added: 0.1.0
description:
  - Reads the CPU flags, KVM, the vhost devices and their kernel modules, and reports each obstacle to Kata's guests.
  - A missing device isn't reported if the kernel has a loadable module for it. RV(to_load) lists these modules.
  - Unlike C(kata-runtime check), the module changes nothing and loads no kernel module.
author:
  - the slipway.node authors (@slipway)
options:
  modules:
    description: Required kernel modules, besides those of KVM. The devmapper snapshotter also needs V(dm_thin_pool).
    type: list
    elements: str
    default: [vhost, vhost_net, vhost_vsock]
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: slipway.node.kata_config
"""

EXAMPLES = r"""
- name: Check that this machine can run guests
  slipway.node.kata_host_info:
    modules: [vhost, vhost_net, vhost_vsock, dm_thin_pool]
  register: machine

- name: Stop if it can't
  ansible.builtin.assert:
    that: machine.problems | length == 0
    fail_msg: "{{ machine.problems | join('; ') }}"
"""

RETURN = r"""
problems:
  description: Obstacles to running guests, one sentence each, with the remedy.
  returned: success
  type: list
  elements: str
  sample:
    - "the CPU has neither vmx nor svm: enable virtualisation in the firmware, or use another machine"
to_load:
  description: Kernel modules that aren't loaded yet and can be loaded.
  returned: success
  type: list
  elements: str
guest:
  description: Whether the machine is a virtual machine, so that Kata's guests are nested.
  returned: success
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.kata.hardware import MODULES, parse_modules, problems, to_load
from ansible_collections.slipway.node.plugins.module_utils.kata.host.hardware import read_machine
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def run(module: AnsibleModule) -> dict[str, Any]:
    wanted = parse_modules(module.params["modules"])
    machine = read_machine()
    return {
        "changed": False,
        "problems": list(problems(machine, wanted)),
        "to_load": to_load(machine, wanted),
        "guest": machine.is_guest,
    }


def main() -> None:
    run_module(run, {"modules": {"type": "list", "elements": "str", "default": list(MODULES)}})


if __name__ == "__main__":
    main()
