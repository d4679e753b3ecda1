# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing registry hosts: the run of the module containerd_registry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import ContainerdBinary, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, unit_name
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.files import apply_plan, read_created, read_hosts
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import (
    ipv6_mirror,
    parse_config_path,
    parse_names,
    parse_registries,
    refuse_ipv6,
    registry_options,
)
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import plan_absent, plan_present


def argument_spec() -> dict[str, Any]:
    """Return the options of containerd_registry."""
    return {
        "registries": {"type": "list", "elements": "dict", "default": [], "options": registry_options()},
        "config_path": {"type": "path", "default": "/etc/containerd/certs.d"},
        "purge": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
        "unit": {"type": "str", "default": "containerd.service"},
        "binary": {"type": "path"},
        "assume_version": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Configure the registry hosts."""
    params = module.params
    config_path = parse_config_path(params["config_path"])
    if params["state"] == "absent":
        names = parse_names(params["registries"])
        found = read_hosts(config_path)
        plan = plan_absent(found, names, config_path=config_path, created=read_created(config_path))
    else:
        wanted = parse_registries(params["registries"])
        check_ipv6(module, ipv6_mirror(wanted))
        found, purge, adopt = read_hosts(config_path), params["purge"], params["adopt"]
        places: dict[str, Any] = {
            "config_path": config_path,
            "created": read_created(config_path),
            "exists": os.path.isdir(config_path),
        }
        plan = plan_present(found, wanted, purge=purge, adopt=adopt, **places)
    if plan.changed and not module.check_mode:
        apply_plan(plan)
    return plan.result()


def check_ipv6(module: AnsibleModule, url: str | None) -> None:
    """Raise ValueError if the node's containerd can't read a mirror with an IPv6 address."""
    version = installed_or_assumed(module) if url else None
    if version is not None:
        refuse_ipv6(version, url)


def installed_or_assumed(module: AnsibleModule) -> Version | None:
    """Return the version of the node's containerd, or the assumed one if it has none."""
    runner, named = Runner(module), module.params["binary"]
    path = find_containerd(
        runner, Unit(runner, unit_name(module.params["unit"])), absolute_path("binary", named) if named else None
    )
    if path is not None:
        return ContainerdBinary(runner, path).version()
    return Version.parse(module.params["assume_version"]) if module.params["assume_version"] else None


OPTIONS: Mapping[str, Any] = argument_spec()
