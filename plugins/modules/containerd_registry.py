#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_registry
short_description: Configure containerd registry hosts and mirrors
version_added: 0.1.0
description:
  - Manages the registry host configuration of a node, the directory C(certs.d).
  - Each registry gets a directory with a C(hosts.toml), together with its certificates and keys.
  - containerd reads C(hosts.toml) for each pull, so no restart is needed. Set O(config_path) in containerd's configuration too. C(ctr)
    reads the directory with C(--hosts-dir).
  - Files that this module didn't create are never changed, unless O(adopt) is V(true).
author:
  - the slipway.node authors (@slipway)
options:
  registries:
    description:
      - The registries of this node.
      - With O(state=absent), only the names are used. An empty list then removes all files that this module created.
    type: list
    elements: dict
    default: []
  config_path:
    description: Directory of the registry host configuration.
    type: path
    default: /etc/containerd/certs.d
  purge:
    description: Remove registries that this module configured and that aren't listed in O(registries).
    type: bool
    default: true
  adopt:
    description: Replace the existing C(hosts.toml) of a listed registry that this module didn't create.
    type: bool
    default: false
  unit:
    description: The systemd service that runs the daemon. Its containerd is asked for its version if a mirror has an IPv6 address.
    type: str
    default: containerd.service
  binary:
    description: Path of the containerd executable. Default is the one that O(unit) runs, or the one in a standard directory.
    type: path
  assume_version:
    description: Version of containerd that will be installed. Used only on a node without containerd.
    type: str
  state:
    description:
      - V(present) configures the registries.
      - V(absent) removes the files that this module created for them.
      - Directories that this module created for O(config_path) are removed with the last registry, if they are empty. The file
        C(.slipway) in O(config_path) names them.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.registries
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: HTTP header values and private keys are not shown.
  idempotent:
    support: full
notes:
  - containerd 1.x drops a whole C(hosts.toml) with an IPv6 address as a mirror. The module refuses such a mirror there.
  - Private keys, and each C(hosts.toml) with HTTP headers, are readable by root only.
seealso:
  - name: Registry configuration of containerd
    description: The format of hosts.toml.
    link: https://github.com/containerd/containerd/blob/main/docs/hosts.md
"""

EXAMPLES = r"""
- name: Pull Docker Hub images through a mirror
  slipway.node.containerd_registry:
    registries:
      - name: docker.io
        server: https://registry-1.docker.io
        mirrors:
          - url: https://mirror.example.com
            ca: ["{{ lookup('ansible.builtin.file', 'mirror-ca.pem') }}"]

- name: Authenticate at a private registry
  slipway.node.containerd_registry:
    registries:
      - name: registry.example.com:5000
        username: node
        password: "{{ registry_password }}"

- name: Remove all configuration that this module created
  slipway.node.containerd_registry:
    state: absent
"""

RETURN = r"""
files:
  description: Paths of the files that were written, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [/etc/containerd/certs.d/docker.io/hosts.toml]
removed:
  description: Paths of the files that were removed, or would be in check mode.
  type: list
  elements: str
  returned: success
foreign:
  description: Names of the directories in O(config_path) that this module didn't create. They aren't changed.
  type: list
  elements: str
  returned: success
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.containerd_registry import OPTIONS, run
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
