#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kata_host_info
short_description: Look whether a machine can start Kata's guests
version_added: 0.1.0
description:
  - Looks at the CPU's flags, KVM, the vhost devices and the kernel modules for them, and says in a sentence for each what keeps
    Kata's guests from starting.
  - A device that is missing is no problem if the kernel has a module for it that can be loaded; RV(to_load) has its name.
  - Nothing is changed, and no module is loaded, as C(kata-runtime check) does.
author:
  - the slipway.node authors (@slipway)
options:
  modules:
    description: The kernel modules that have to be there, beside KVM's. The snapshotter devmapper needs V(dm_thin_pool) as well.
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
- name: Can this machine start guests?
  slipway.node.kata_host_info:
    modules: [vhost, vhost_net, vhost_vsock, dm_thin_pool]
  register: machine
  failed_when: machine.problems | length > 0
"""

RETURN = r"""
problems:
  description: One sentence for each thing that keeps guests from starting, with what to do.
  returned: success
  type: list
  elements: str
  sample:
    - "the CPU has neither vmx nor svm: enable virtualisation in the firmware, or take another machine"
to_load:
  description: The kernel modules that have to be loaded now, and can be.
  returned: success
  type: list
  elements: str
guest:
  description: Whether the machine is itself a guest, so that Kata's are nested.
  returned: success
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.kata_machine import read_machine
from ansible_collections.slipway.node.plugins.module_utils.model.kata_host import MODULES, parse_modules, problems, to_load
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
