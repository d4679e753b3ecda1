#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kata_config
short_description: Give each Kata runtime handler a configuration that agrees with its snapshotter
version_added: 0.1.0
description:
  - Brings the configurations of a node's Kata handlers into a known state, all in one run. Each handler gets a directory of its
    own with a copy of the file that Kata was released with, and one drop-in with the settings given here.
  - For each handler it says how a container's root file system will reach the guest, and refuses combinations of runtime,
    hypervisor, snapshotter and block device settings that can't work, or that can hand the host's own disk to a guest.
  - Drop-ins that others put beside the module's own are kept, and reported where they override it.
  - No daemon is needed or restarted. Kata reads these files when a sandbox starts, so running ones keep what they have.
author:
  - the slipway.node authors (@slipway)
options:
  handlers:
    description:
      - The handlers of this node.
      - With O(state=absent) only the names matter; without any, everything that this module made is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the handler, and of its directory.
        type: str
        required: true
      flavor:
        description: Which of Kata's two runtimes the handler's shim is. Required with O(state=present).
        type: str
        choices: [go, rust]
      hypervisor:
        description:
          - The hypervisor that O(handlers[].base_config) is for. Required with O(state=present).
          - V(stratovirt) is the Go runtime's alone, V(dragonball) the Rust runtime's.
        type: str
        choices: [qemu, clh, fc, stratovirt, dragonball]
      base_config:
        description:
          - The configuration file that Kata was released with, such as
            V(/opt/kata/share/defaults/kata-containers/configuration-qemu.toml). The handler's copy is renewed when it changes.
          - Required with O(state=present). In check mode it need not be there yet.
        type: path
      version:
        description: Kata's version. By default that of the archive that O(handlers[].base_config) lies in, if it says so.
        type: str
      snapshotter:
        description: The snapshotter that containerd uses for this handler.
        type: str
        default: overlayfs
      disable_block_device_use:
        description:
          - Whether a snapshot's block device is mounted on the host and shared, rather than passed to the guest.
          - With the Go runtime, set it to V(false) only for a handler that is pinned to a block snapshotter.
        type: bool
      allow_host_disk_hotplug:
        description:
          - Accept that a container can be given the host's own disk. Only this allows O(handlers[].disable_block_device_use=false)
            with a snapshotter that isn't known to be a block snapshotter, on the Go runtime.
        type: bool
        default: false
      block_device_driver:
        description: How block devices are presented to the guest. Which values there are depends on runtime and hypervisor.
        type: str
        choices: [virtio-scsi, virtio-blk, virtio-blk-ccw, virtio-mmio, virtio-blk-pci, virtio-blk-mmio]
      block_device_aio:
        description: How QEMU does its input and output.
        type: str
        choices: [io_uring, native, threads]
      block_device_cache_set:
        description: Whether the two other settings of the cache are used, on the Go runtime.
        type: bool
      block_device_cache_direct:
        description: Whether the host's page cache is bypassed.
        type: bool
      block_device_cache_noflush:
        description: Whether the guest's flushes are dropped. A power cut then loses what the guest has synced.
        type: bool
      block_device_logical_sector_size:
        description: The sector size that the guest sees, in bytes; V(0) leaves it to the hypervisor.
        type: int
      block_device_physical_sector_size:
        description: The physical sector size that the guest sees, in bytes; V(0) leaves it to the hypervisor.
        type: int
      enable_iothreads:
        description: Whether QEMU serves V(virtio-scsi) devices in a thread of its own.
        type: bool
      indep_iothreads:
        description: How many threads QEMU has for hot-plugged V(virtio-blk) devices.
        type: int
      shared_fs:
        description: The file system by which host and guest share directories.
        type: str
        choices: [virtio-fs, virtio-9p, virtio-fs-nydus, inline-virtio-fs, none]
      extra:
        description:
          - More tables for the drop-in, such as C({"runtime":{"enable_debug":true}}).
          - The table of another hypervisor is refused; so is a key that this version of the Go runtime doesn't know.
        type: dict
        default: {}
  config_root:
    description: The directory that has a directory for each handler.
    type: path
    default: /etc/kata-containers
  purge:
    description: Whether handlers that this module made and that are no longer listed are removed.
    type: bool
    default: true
  before_daemon:
    description:
      - Whether containerd is configured after this run. A handler that is there, and whose new settings could endanger the host as
        long as containerd has not given it its block snapshotter, is then left as it is, and named in RV(waiting).
      - Configure the handlers in RV(waiting) by another run after containerd's.
    type: bool
    default: false
  state:
    description: Whether the handlers are configured, or what this module made for them is removed.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait for another run on the same node to end.
    type: float
    default: 60
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - tomlkit, on Python older than 3.11
notes:
  - Point the handler's C(ConfigPath) in containerd's configuration at RV(handlers[].config_path).
  - When a handler changes from a block snapshotter to another one, run this module before containerd is reconfigured; when it changes
    to a block snapshotter, after. O(before_daemon) tells the two apart; the role P(slipway.node.kata#role) does both.
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.release_archive
"""

EXAMPLES = r"""
- name: A handler that shares its root file systems, and one that passes thin devices to the guest
  slipway.node.kata_config:
    handlers:
      - name: kata-qemu
        flavor: go
        hypervisor: qemu
        base_config: /opt/kata/share/defaults/kata-containers/configuration-qemu.toml
        disable_block_device_use: true
      - name: kata-qemu-block
        flavor: go
        hypervisor: qemu
        base_config: /opt/kata/share/defaults/kata-containers/configuration-qemu.toml
        snapshotter: devmapper
        disable_block_device_use: false
        block_device_driver: virtio-blk
        block_device_cache_set: true
        block_device_cache_direct: true
        extra:
          hypervisor:
            qemu:
              default_memory: 4096

- name: Remove every handler that this module made
  slipway.node.kata_config:
    state: absent
"""

RETURN = r"""
handlers:
  description: The handlers as they are after the run, in the order given. Empty with O(state=absent).
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The handler's name.
      type: str
      sample: kata-qemu
    config_path:
      description: The file for containerd's C(ConfigPath).
      type: str
      sample: /etc/kata-containers/kata-qemu/configuration.toml
    drop_in:
      description: The module's own drop-in.
      type: str
      sample: /etc/kata-containers/kata-qemu/config.d/60-slipway.toml
    snapshotter:
      description: The snapshotter that the verdict is for.
      type: str
    version:
      description: Kata's version, null if it isn't known.
      type: str
    effective:
      description: The block device settings and C(shared_fs) of the main file and all drop-ins together; null where the runtime chooses.
      type: dict
      sample: {"disable_block_device_use": true, "block_device_driver": "virtio-scsi", "shared_fs": "virtio-fs"}
    rootfs_transport:
      description: How a container's root file system reaches the guest, one of V(virtio-fs), V(9p), V(block-hotplug) and V(unknown).
      type: str
    reason:
      description: Why.
      type: str
    source:
      description: What in Kata's sources says so.
      type: str
    warnings:
      description: Settings without effect, and what endangers data.
      type: list
      elements: str
    foreign:
      description: Drop-ins of others beside the module's own.
      type: list
      elements: str
    overridden:
      description: Drop-ins of others that override the module's own, and which of its keys.
      type: list
      elements: dict
files:
  description: Paths of the files written, or in check mode to be written.
  type: list
  elements: str
  returned: success
removed:
  description: Paths of the files removed, or in check mode to be removed.
  type: list
  elements: str
  returned: success
waiting:
  description: Handlers that O(before_daemon) left as they are.
  type: list
  elements: str
  returned: success
unlisted:
  description: Handlers that this module made and that aren't listed. They are removed if O(purge).
  type: list
  elements: str
  returned: success
kata_deploy:
  description: Directories of handlers that kata-deploy manages in the same archives. They are left to it.
  type: list
  elements: str
  returned: success
"""

from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.discreet import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.host.kata_files import (
    LOCK,
    apply_plan,
    kata_deploy_directories,
    read_found,
    read_vendor,
)
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import exclusive
from ansible_collections.slipway.node.plugins.module_utils.model.kata_handler import (
    Handler,
    Vendor,
    assumed_vendor,
    check_twice,
    handler_name,
    parse_config_root,
    parse_handlers,
)
from ansible_collections.slipway.node.plugins.module_utils.model.kata_matrix import UNKNOWN
from ansible_collections.slipway.node.plugins.module_utils.model.kata_options import AIO, FLAVORS, HYPERVISOR_NAMES, HYPERVISORS
from ansible_collections.slipway.node.plugins.module_utils.model.kata_plan import Plan, plan_absent, plan_present
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def argument_spec() -> dict[str, Any]:
    drivers = dict.fromkeys(driver for one in HYPERVISORS for driver in one.drivers)
    shared_fs = ["virtio-fs", "virtio-9p", "virtio-fs-nydus", "inline-virtio-fs", "none"]
    handler = {
        "name": {"type": "str", "required": True},
        "flavor": {"type": "str", "choices": list(FLAVORS)},
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
        "config_root": {"type": "path", "default": "/etc/kata-containers"},
        "purge": {"type": "bool", "default": True},
        "before_daemon": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "timeout": {"type": "float", "default": 60},
    }


def vendor_of(handler: Handler, *, assume: bool) -> Vendor:
    """The file that the handler's is to be a copy of; what it probably says if there is none and ``assume``."""
    vendor = read_vendor(handler.base_config)
    if vendor is None and assume:
        return assumed_vendor(handler)
    if vendor is None:
        raise ValueError(
            f"{handler.option}.base_config: there is no file {handler.base_config}: install Kata first, or name another"
        )
    return vendor


def make_plan(module: AnsibleModule) -> tuple[Plan, list[Handler]]:
    params = module.params
    config_root = parse_config_root(params["config_root"])
    if params["state"] == "absent":
        names = [handler_name(entry["name"]) for entry in params["handlers"]]
        check_twice(names)
        return plan_absent(read_found(config_root), names, config_root=config_root), []
    handlers = parse_handlers(params["handlers"])
    vendors = {handler.name: vendor_of(handler, assume=module.check_mode) for handler in handlers}
    plan = plan_present(
        read_found(config_root),
        handlers,
        vendors,
        config_root=config_root,
        purge=params["purge"],
        before_daemon=params["before_daemon"],
    )
    return plan, handlers


def run(module: AnsibleModule) -> dict[str, Any]:
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


def main() -> None:
    run_module(run, argument_spec(), module_type=SecretParamsModule)


if __name__ == "__main__":
    main()
