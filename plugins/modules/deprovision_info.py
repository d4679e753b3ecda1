#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deprovision_info
short_description: List what this collection put on a node
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Finds the files, settings and objects of this collection by records and marks on the node.
  - Lists the objects that stay on the node unless O(remove) names them, and the reasons to refuse a removal.
  - Changes nothing. The role P(slipway.node.deprovision#role) uses it.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  remove:
    description: Objects to remove in addition to settings and files. See O(slipway.node.deprovision#role:main:deprovision_remove).
    type: list
    elements: str
    choices: [images, toolboxes, kata, thin_pool, scratch_files, containerd]
    default: []
  force:
    description: Objects of O(remove) to remove even if containers run.
    type: list
    elements: str
    choices: [containerd]
    default: []
  registry_config_path:
    description: Directories of registry hosts to search, separated by colons. Those of the daemon's configuration are searched too.
    type: str
    default: /etc/containerd/certs.d
  kata_config_dir:
    description: Parent directory of the Kata handlers' directories. Those of the daemon's configuration are searched too.
    type: path
    default: /etc/kata-containers
  blockfile_scratch_file:
    description:
      - Scratch file of the snapshotter blockfile, besides the one of the daemon's configuration.
      - A file that the configuration of others names is never listed.
    type: path
  drop_in_file:
    description: See O(slipway.node.containerd_config#module:drop_in_file).
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
seealso:
  - module: slipway.node.containerd_config
"""

EXAMPLES = r"""
- name: List what the collection put on the node
  slipway.node.deprovision_info:
  register: traces

- name: Print the objects that stay
  ansible.builtin.debug:
    var: traces.left
"""

RETURN = r"""
found:
  description: Whether the node has anything to take back.
  type: bool
  returned: success
problems:
  description: Reasons to refuse the removal, one sentence each.
  type: list
  elements: str
  returned: success
left:
  description: Objects that stay on the node. The name in brackets removes the object if O(remove) lists it.
  type: list
  elements: str
  returned: success
  sample: ["images: 12 in k8s.io [images]"]
unknown:
  description: Parts of the node that couldn't be read, with the reason.
  type: list
  elements: str
  returned: success
settings:
  description: Files that M(slipway.node.containerd_config) wrote, and its record.
  type: list
  elements: str
  returned: success
  sample: [/etc/containerd/config.toml.slipway.json]
registries:
  description: Directories with registry hosts that M(slipway.node.containerd_registry) configured.
  type: list
  elements: str
  returned: success
kata_handlers:
  description: Directories with handlers that M(slipway.node.kata_config) configured.
  type: list
  elements: str
  returned: success
files:
  description: Files that the roles wrote.
  type: list
  elements: str
  returned: success
  sample: [/etc/modules-load.d/slipway-kata.conf]
caches:
  description: Directories with expected trees of images.
  type: list
  elements: str
  returned: success
restore:
  description: The unit and the files with which a node goes back after an upgrade.
  type: list
  elements: str
  returned: success
releases:
  description: Versions of the installed releases by name.
  type: dict
  returned: success
  sample: {"kata": "3.26.0"}
unit_file:
  description: The unit file of containerd, if the role C(containerd) wrote it; null otherwise.
  type: str
  returned: success
package:
  description: The package that contains containerd's program; null if there is none.
  type: str
  returned: success
toolboxes:
  description: The toolboxes that M(slipway.node.toolbox_snapshot) manages.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: Mount point.
      type: str
    namespace:
      description: containerd namespace of the snapshot.
      type: str
    snapshotter:
      description: Snapshotter.
      type: str
    size_bytes:
      description: Bytes that were written to the toolbox; null if unknown.
      type: int
thin_pool:
  description: The thin pool of the role C(devmapper); null if there is none.
  type: dict
  returned: success
  contains:
    volume_group:
      description: Volume group.
      type: str
    pool:
      description: Name of the pool.
      type: str
    mapper_name:
      description: Name of the pool in the device mapper.
      type: str
    present:
      description: Whether the pool exists.
      type: bool
    group_present:
      description: Whether the volume group exists.
      type: bool
    devices:
      description: Devices of the group.
      type: list
      elements: str
    others:
      description: Other volumes of the group.
      type: list
      elements: str
    loop_file:
      description: File that is used as a device; null if there is none.
      type: str
    loop_device:
      description: Loop device that the file is attached to; null if there is none.
      type: str
scratch_files:
  description: Scratch files of the snapshotter blockfile.
  type: list
  elements: str
  returned: success
places:
  description:
    - Paths that only the settings to take back name. The role writes them to a file on the node, so that the next run can finish a
      killed one.
  type: dict
  returned: success
  contains:
    registries:
      description: Directories of registry hosts.
      type: list
      elements: str
    kata:
      description: Directories of Kata's handlers.
      type: list
      elements: str
    caches:
      description: Directories of expected trees.
      type: list
      elements: str
    scratch_files:
      description: Scratch files.
      type: list
      elements: str
    directories:
      description: Directories that the collection created.
      type: list
      elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path
from ansible_collections.slipway.node.plugins.module_utils.deprovision.host.read import NodeTraces
from ansible_collections.slipway.node.plugins.module_utils.deprovision.places import Places
from ansible_collections.slipway.node.plugins.module_utils.deprovision.traces import FORCIBLE, REMOVABLE
from ansible_collections.slipway.node.plugins.module_utils.run import run_module

OPTIONS = {
    "remove": {"type": "list", "elements": "str", "choices": list(REMOVABLE), "default": []},
    "force": {"type": "list", "elements": "str", "choices": list(FORCIBLE), "default": []},
    "registry_config_path": {"type": "str", "default": "/etc/containerd/certs.d"},
    "kata_config_dir": {"type": "path", "default": "/etc/kata-containers"},
    "blockfile_scratch_file": {"type": "path"},
    "drop_in_file": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
    **Containerd.OPTIONS,
}


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    registries = [absolute_path("registry_config_path", one) for one in params["registry_config_path"].split(":")]
    scratch = params["blockfile_scratch_file"]
    known = Places(
        registries=tuple(registries),
        kata=(absolute_path("kata_config_dir", params["kata_config_dir"]),),
        scratch_files=(absolute_path("blockfile_scratch_file", scratch),) if scratch else (),
    )
    traces = NodeTraces(Containerd.from_module(module), absolute_path("drop_in_file", params["drop_in_file"]), known).read()
    return {"changed": False, **traces.to_dict(params["remove"], params["force"])}


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
