#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_registry
short_description: Configure the registry hosts that containerd pulls from
version_added: 0.1.0
description:
  - Brings the whole registry host configuration of a node, the directory C(certs.d), into a known state in one run.
  - Each registry gets a directory with a C(hosts.toml), and its certificates and keys beside it.
  - containerd reads C(hosts.toml) at each pull, so no restart is needed. It must be configured with O(config_path);
    C(ctr) takes it as C(--hosts-dir).
  - Files that others made are never touched, unless O(adopt) says so.
author:
  - the slipway.node authors (@slipway)
options:
  registries:
    description:
      - The registries of this node.
      - With O(state=absent) only the names matter; without any, everything that this module made is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The registry's host, with its port if it has one, as in image references; or V(_default), for registries not listed.
        type: str
        required: true
      server:
        description:
          - URL of the registry itself, asked after the mirrors. By default the registry's own address.
          - Set it to a mirror's URL to never ask the registry itself.
        type: str
      mirrors:
        description: Servers to ask first, in this order.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: URL of the mirror. The path V(/v2) is added unless O(registries[].mirrors[].override_path).
            type: str
            required: true
          capabilities:
            description: What the mirror is asked for. Give V(resolve) only to a mirror that you trust to map tags to digests.
            type: list
            elements: str
            choices: [pull, resolve, push]
            default: [pull, resolve]
          ca:
            description: Certificates of the authorities to trust, beside the node's own, as PEM text.
            type: list
            elements: str
            default: []
          client_cert:
            description: Certificate to show to the server, as PEM text.
            type: str
          client_key:
            description: Private key of O(registries[].mirrors[].client_cert), as PEM text without a passphrase.
            type: str
          skip_verify:
            description: Whether to accept any certificate.
            type: bool
          override_path:
            description: Whether the URL's path is the whole path of the API.
            type: bool
            default: false
          headers:
            description: Header fields to send with each request.
            type: dict
          username:
            description: User for basic authentication, sent as a header field.
            type: str
          password:
            description: Password of O(registries[].mirrors[].username).
            type: str
      capabilities:
        description: What O(registries[].server) is asked for; everything by default.
        type: list
        elements: str
        choices: [pull, resolve, push]
      ca:
        description: Certificates of the authorities to trust, beside the node's own, as PEM text.
        type: list
        elements: str
        default: []
      client_cert:
        description: Certificate to show to the server, as PEM text.
        type: str
      client_key:
        description: Private key of O(registries[].client_cert), as PEM text without a passphrase.
        type: str
      skip_verify:
        description: Whether to accept any certificate.
        type: bool
      override_path:
        description: Whether the path of O(registries[].server) is the whole path of the API.
        type: bool
        default: false
      headers:
        description: Header fields to send with each request to the registry's own server.
        type: dict
      username:
        description: User for basic authentication, sent as a header field.
        type: str
      password:
        description: Password of O(registries[].username).
        type: str
  config_path:
    description: The directory of the registry host configuration.
    type: path
    default: /etc/containerd/certs.d
  purge:
    description: Whether registries that this module configured and that are no longer listed are removed.
    type: bool
    default: true
  adopt:
    description: Whether to take the place of a configuration that others made for a listed registry. Its C(hosts.toml) is replaced.
    type: bool
    default: false
  state:
    description: Whether the registries are configured, or what this module made for them is removed.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Header values and private keys are not shown.
  idempotent:
    support: full
notes:
  - A C(hosts.toml) with header fields and all private keys are readable by root only.
seealso:
  - name: Registry configuration of containerd
    description: What a hosts.toml means.
    link: https://github.com/containerd/containerd/blob/main/docs/hosts.md
"""

EXAMPLES = r"""
- name: Pull images of Docker Hub through a mirror
  slipway.node.containerd_registry:
    registries:
      - name: docker.io
        server: https://registry-1.docker.io
        mirrors:
          - url: https://mirror.example.com
            ca: ["{{ lookup('ansible.builtin.file', 'mirror-ca.pem') }}"]

- name: Log in to a private registry
  slipway.node.containerd_registry:
    registries:
      - name: registry.example.com:5000
        username: node
        password: "{{ registry_password }}"

- name: Remove everything that this module made
  slipway.node.containerd_registry:
    state: absent
"""

RETURN = r"""
files:
  description: Paths of the files written, or in check mode to be written.
  type: list
  elements: str
  returned: success
  sample: [/etc/containerd/certs.d/docker.io/hosts.toml]
removed:
  description: Paths of the files removed, or in check mode to be removed.
  type: list
  elements: str
  returned: success
foreign:
  description: Names of the directories in O(config_path) that others made. They are not touched.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.registry_hosts import apply_plan, read_hosts
from ansible_collections.slipway.node.plugins.module_utils.model.registry import (
    CAPABILITIES,
    parse_config_path,
    parse_names,
    parse_registries,
)
from ansible_collections.slipway.node.plugins.module_utils.model.registry_plan import plan_absent, plan_present
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def endpoint_spec() -> dict[str, Any]:
    """Options that a registry and each of its mirrors have in common."""
    return {
        "capabilities": {"type": "list", "elements": "str", "choices": list(CAPABILITIES)},
        "ca": {"type": "list", "elements": "str", "default": []},
        "client_cert": {"type": "str"},
        "client_key": {"type": "str", "no_log": True},
        "skip_verify": {"type": "bool"},
        "override_path": {"type": "bool", "default": False},
        "headers": {"type": "dict", "no_log": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
    }


def argument_spec() -> dict[str, Any]:
    mirror = {"url": {"type": "str", "required": True}, **endpoint_spec()}
    mirror["capabilities"]["default"] = ["pull", "resolve"]
    registry = {
        "name": {"type": "str", "required": True},
        "server": {"type": "str"},
        "mirrors": {"type": "list", "elements": "dict", "default": [], "options": mirror},
        **endpoint_spec(),
    }
    return {
        "registries": {"type": "list", "elements": "dict", "default": [], "options": registry},
        "config_path": {"type": "path", "default": "/etc/containerd/certs.d"},
        "purge": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    config_path = parse_config_path(params["config_path"])
    if params["state"] == "absent":
        names = parse_names(params["registries"])
        plan = plan_absent(read_hosts(config_path), names, config_path=config_path)
    else:
        wanted = parse_registries(params["registries"])
        found = read_hosts(config_path)
        plan = plan_present(found, wanted, config_path=config_path, purge=params["purge"], adopt=params["adopt"])
    if plan.changed and not module.check_mode:
        apply_plan(plan)
    return plan.result()


def main() -> None:
    run_module(run, argument_spec())


if __name__ == "__main__":
    main()
