# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuring Kata handlers: the run of the module kata_config."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import (
    Handler,
    Vendor,
    assumed_vendor,
    check_twice,
    handler_name,
    parse_config_dir,
    parse_handlers,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.host.apply import LOCK, apply_plan
from ansible_collections.slipway.node.plugins.module_utils.kata.host.files import (
    kata_deploy_directories,
    read_found,
    read_vendor,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import UNKNOWN
from ansible_collections.slipway.node.plugins.module_utils.kata.options import AIO, HYPERVISOR_NAMES, HYPERVISORS, RUNTIMES
from ansible_collections.slipway.node.plugins.module_utils.kata.plan import Plan, plan_absent, plan_present


def argument_spec() -> dict[str, Any]:
    """Return the options of kata_config."""
    drivers = dict.fromkeys(driver for one in HYPERVISORS for driver in one.drivers)
    shared_fs = ["virtio-fs", "virtio-9p", "virtio-fs-nydus", "inline-virtio-fs", "none"]
    handler = {
        "name": {"type": "str", "required": True},
        "runtime": {"type": "str", "choices": list(RUNTIMES)},
        "hypervisor": {"type": "str", "choices": list(HYPERVISOR_NAMES)},
        "base_config": {"type": "path"},
        "version": {"type": "str"},
        "snapshotter": {"type": "str", "default": "overlayfs"},
        "disable_block_device_use": {"type": "bool"},
        "allow_host_disk_hotplug": {"type": "bool", "default": False},
        "block_device_driver": {"type": "str", "choices": list(drivers)},
        "block_device_aio": {"type": "str", "choices": list(AIO)},
        "block_device_cache_set": {"type": "bool"},
        "block_device_cache_direct": {"type": "bool"},
        "block_device_cache_noflush": {"type": "bool"},
        "block_device_logical_sector_size": {"type": "int"},
        "block_device_physical_sector_size": {"type": "int"},
        "enable_iothreads": {"type": "bool"},
        "indep_iothreads": {"type": "int"},
        "shared_fs": {"type": "str", "choices": shared_fs},
        "extra": {"type": "dict", "default": {}},
    }
    return {
        "handlers": {"type": "list", "elements": "dict", "default": [], "options": handler},
        "config_dir": {"type": "path", "default": "/etc/kata-containers"},
        "purge": {"type": "bool", "default": True},
        "defer_unsafe": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "timeout": {"type": "int", "default": 60},
    }


def vendor_of(handler: Handler, *, assume: bool) -> Vendor:
    """Read the file that the handler's file is a copy of; with ``assume``, predict a missing one."""
    vendor = read_vendor(handler.base_config)
    if vendor is None and assume:
        return assumed_vendor(handler)
    if vendor is None:
        raise ValueError(
            f"{handler.option}.base_config: there is no file {handler.base_config}: install Kata first, or name another"
        )
    return vendor


def make_plan(module: AnsibleModule) -> tuple[Plan, list[Handler]]:
    """Plan the handlers' directories; returns the handlers too."""
    params = module.params
    config_dir = parse_config_dir(params["config_dir"])
    if params["state"] == "absent":
        names = [handler_name(entry["name"]) for entry in params["handlers"]]
        check_twice(names)
        return plan_absent(read_found(config_dir), names, config_dir=config_dir), []
    handlers = parse_handlers(params["handlers"])
    vendors = {handler.name: vendor_of(handler, assume=module.check_mode) for handler in handlers}
    plan = plan_present(
        read_found(config_dir),
        handlers,
        vendors,
        config_dir=config_dir,
        purge=params["purge"],
        defer_unsafe=params["defer_unsafe"],
    )
    return plan, handlers


def run(module: AnsibleModule) -> dict[str, Any]:
    """Configure the handlers, one run at a time on a node."""
    with exclusive(module.params["timeout"], LOCK) if not module.check_mode else nullcontext():
        plan, handlers = make_plan(module)
        if plan.changed and not module.check_mode:
            apply_plan(plan)
    for report in plan.reports:
        for sentence in report["warnings"]:
            module.warn(f"{report['name']}: {sentence}")
        if report["rootfs_transport"] == UNKNOWN:
            module.warn(f"{report['name']}: how root file systems reach the guest is unknown: {report['reason']}")
    deployed = dict.fromkeys(path for handler in handlers for path in kata_deploy_directories(handler.base_config))
    return {**plan.result(), "kata_deploy": list(deployed)}


OPTIONS: Mapping[str, Any] = argument_spec()
