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
    suboptions:
      name:
        description: Host name and optional port of the registry, as in image references; V(_default) for all unlisted registries.
        type: str
        required: true
      server:
        description:
          - URL of the registry, used after the mirrors. Default is the registry's own address.
          - Set it to the URL of a mirror to never contact the registry itself.
        type: str
      mirrors:
        description: Mirrors to try first, in this order.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: URL of the mirror. The path V(/v2) is appended unless O(registries[].mirrors[].override_path) is V(true).
            type: str
            required: true
          capabilities:
            description: Operations of the mirror. Use V(resolve) only for a mirror that you trust to map tags to digests.
            type: list
            elements: str
            choices: [pull, resolve, push]
            default: [pull, resolve]
          ca:
            description: PEM certificates of trusted certificate authorities, in addition to the node's own.
            type: list
            elements: str
            default: []
          client_cert:
            description: PEM client certificate.
            type: str
          client_key:
            description: PEM private key of O(registries[].mirrors[].client_cert), without a passphrase.
            type: str
          skip_verify:
            description: Accept any server certificate.
            type: bool
          override_path:
            description: Use the path of the URL as the API path, without appending V(/v2).
            type: bool
            default: false
          headers:
            description: HTTP headers of each request.
            type: dict
          username:
            description: User name for basic authentication, sent as an HTTP header.
            type: str
          password:
            description: Password of O(registries[].mirrors[].username).
            type: str
      capabilities:
        description: Operations of O(registries[].server). Default is all.
        type: list
        elements: str
        choices: [pull, resolve, push]
      ca:
        description: PEM certificates of trusted certificate authorities, in addition to the node's own.
        type: list
        elements: str
        default: []
      client_cert:
        description: PEM client certificate.
        type: str
      client_key:
        description: PEM private key of O(registries[].client_cert), without a passphrase.
        type: str
      skip_verify:
        description: Accept any server certificate.
        type: bool
      override_path:
        description: Use the path of O(registries[].server) as the API path, without appending V(/v2).
        type: bool
        default: false
      headers:
        description: HTTP headers of each request to O(registries[].server).
        type: dict
      username:
        description: User name for basic authentication, sent as an HTTP header.
        type: str
      password:
        description: Password of O(registries[].username).
        type: str
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.bytecode  # noqa: F401
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import ContainerdBinary, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, unit_name
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.files import apply_plan, read_hosts
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import (
    CAPABILITIES,
    ipv6_mirror,
    parse_config_path,
    parse_names,
    parse_registries,
)
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import plan_absent, plan_present
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
        "unit": {"type": "str", "default": "containerd.service"},
        "binary": {"type": "path"},
        "assume_version": {"type": "str"},
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
        check_ipv6(module, ipv6_mirror(wanted))
        found = read_hosts(config_path)
        plan = plan_present(found, wanted, config_path=config_path, purge=params["purge"], adopt=params["adopt"])
    if plan.changed and not module.check_mode:
        apply_plan(plan)
    return plan.result()


def check_ipv6(module: AnsibleModule, url: str | None) -> None:
    """Raise ValueError if the node's containerd can't read a mirror with an IPv6 address."""
    version = installed_or_assumed(module) if url else None
    if version is not None and version.major == 1:
        raise ValueError(
            f"registries: containerd {version} ignores a hosts.toml with the IPv6 address of {url}: give the mirror a name in "
            "the DNS or in /etc/hosts, or upgrade to containerd 2"
        )


def installed_or_assumed(module: AnsibleModule) -> Version | None:
    """Return the version of the node's containerd, or the assumed one if it has none."""
    runner, named = Runner(module), module.params["binary"]
    path = find_containerd(
        runner, Unit(runner, unit_name(module.params["unit"])), absolute_path("binary", named) if named else None
    )
    if path is not None:
        return ContainerdBinary(runner, path).version()
    return Version.parse(module.params["assume_version"]) if module.params["assume_version"] else None


def main() -> None:
    run_module(run, argument_spec())


if __name__ == "__main__":
    main()
