#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_upgrade_info
short_description: Report what a node would lose with another version of containerd
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Compares the meaning of the node's configuration files to the installed containerd and to another version, whose programs are
    on the node. The programs of both versions read the files, with C(config dump).
  - Files of other tools and of administrators are read as they are. The files of this collection are read as it would write them
    for the other version, so that the report doesn't list these changes.
  - Also reports snapshotters that the other version lacks, deprecated features in use, missing programs and lack of disk space.
  - Works for upgrades and downgrades. Nothing on the node is changed.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  to_binary:
    description:
      - Path of the containerd executable of the other version on the node. C(ctr) and C(containerd-shim-runc-v2) are expected
        beside it.
      - M(slipway.node.release_install) with O(slipway.node.release_install#module:state=staged) installs a release without
        linking it.
    type: path
    required: true
  enable_cri:
    description: See O(slipway.node.containerd_config#module:enable_cri).
    type: bool
    default: false
  drop_in_file:
    description: See O(slipway.node.containerd_config#module:drop_in_file).
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.settings
requirements:
  - tomlkit, to edit an existing file, and on Python older than 3.11
notes:
  - Pass the same settings as to M(slipway.node.containerd_config). Without O(settings) and O(enable_cri), all files are compared as
    they are, including those of this collection.
  - O(http_proxy) has no effect, because the environment of the unit doesn't depend on the version. It is accepted so that all
    modules take the same options.
  - The module asks the daemon for deprecated features. At the first such request, the daemon writes its UUID to its directory, as it
    does for C(ctr version).
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.release_install
"""

EXAMPLES = r"""
- name: Install the next version of containerd beside the linked one
  slipway.node.release_install:
    name: containerd
    version: 2.3.7
    src: https://github.com/containerd/containerd/releases/download/v2.3.7/containerd-2.3.7-linux-amd64.tar.gz
    sha256: "{{ containerd_next_sha256 }}"
    state: staged
  register: next_containerd

- name: Report what the node would lose with it
  slipway.node.containerd_upgrade_info:
    to_binary: "{{ next_containerd.path }}/bin/containerd"
    settings:
      systemd_cgroup: true
      sandbox_image: registry.k8s.io/pause:3.10
  register: upgrade

- name: Stop if anything is lost
  ansible.builtin.assert:
    that: upgrade.summary.fail == 0
"""

RETURN = r"""
version:
  description: Version of the installed containerd.
  type: str
  returned: success
  sample: 1.7.24
to_version:
  description: Version of O(to_binary).
  type: str
  returned: success
  sample: 2.3.7
summary:
  description: Number of entries of each status.
  type: dict
  returned: success
  contains:
    fail:
      description: A setting or an object is lost, or stops working.
      type: int
      sample: 1
    warn:
      description: A default changes, a setting without effect takes effect, or a feature in use is deprecated.
      type: int
      sample: 2
    unknown:
      description: The state can't be determined.
      type: int
      sample: 0
    info:
      description: No action is needed.
      type: int
      sample: 4
entries:
  description: The differences, the worst first. Secrets are not shown.
  type: list
  elements: dict
  returned: success
  contains:
    kind:
      description: Kind of the entry, such as V(lost_key). The page C(docs/upgrade.md) lists the kinds.
      type: str
      sample: lost_key
    status:
      description: V(fail), V(warn), V(unknown) or V(info).
      type: str
      sample: fail
    what:
      description: The setting or the object.
      type: str
      sample: plugins."io.containerd.grpc.v1.cri".containerd.snapshotter
    now:
      description: Its value today. Null if there is none.
      type: raw
      sample: native
    then:
      description: Its value with the other version. Null if there is none.
      type: raw
      sample: overlayfs
    source:
      description: The file of an administrator or another tool that contains the setting. Empty if no such file does.
      type: str
      sample: /etc/containerd/config.toml
    remedy:
      description: The action to take. Empty if no action is needed.
      type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.read import Inventory, read_upgrade
from ansible_collections.slipway.node.plugins.module_utils.upgrade.report import report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import summarize

# The limit of each command to the daemon.
CTR_SECONDS = 120


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    inventory = Inventory(
        settings=Settings.from_params(params["settings"]),
        enable_cri=params["enable_cri"],
        drop_in_file=absolute_path("drop_in_file", params["drop_in_file"]),
    )
    to_binary = absolute_path("to_binary", params["to_binary"])
    installed = Containerd.from_module(module, timeout=CTR_SECONDS)
    if not os.path.isfile(to_binary):
        raise ValueError(f"to_binary: there is no program {to_binary}: bring it to the node first, or name another")
    if os.geteuid() != 0:
        raise HostError("only root can read the state of the node")
    state = read_upgrade(installed, installed.with_binary(to_binary), inventory)
    entries = report(state)
    return {
        "changed": False,
        "version": str(state.now),
        "to_version": str(state.then),
        "summary": summarize(entries),
        "entries": [entry.to_dict() for entry in entries],
    }


def main() -> None:
    run_module(
        run,
        {
            **SHARED_OPTIONS,
            "to_binary": {"type": "path", "required": True},
            "enable_cri": {"type": "bool", "default": False},
            **Containerd.OPTIONS,
            "drop_in_file": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
        },
        module_type=SecretParamsModule,
    )


if __name__ == "__main__":
    main()
