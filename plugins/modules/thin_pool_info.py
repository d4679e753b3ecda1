#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: thin_pool_info
short_description: Inspect an LVM thin pool for containerd's devmapper snapshotter
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Reports the state of a thin pool, or the reasons why it can't be created on the given devices.
  - Compares the devices in the pool with the database of containerd's devmapper snapshotter. This detects a recreated pool or
    database before containerd starts and corrupts either.
  - Nothing is changed. To list the devices of a pool, the kernel holds a metadata snapshot of it for a moment.
  - A node without LVM has no pool.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  volume_group:
    description: Volume group of the pool.
    type: str
    required: true
  pool:
    description: Name of the pool in its volume group.
    type: str
    required: true
  devices:
    description: Block devices for the volume group.
    type: list
    elements: path
    default: []
  wipe_devices:
    description: Those of O(devices) whose content may be lost. A device in use is always refused.
    type: list
    elements: path
    default: []
  loop_file:
    description: File for the volume group, attached as a loop device.
    type: path
  root_path:
    description: Directory of containerd's devmapper snapshotter. If it isn't set, the pool isn't compared with the database.
    type: path
extends_documentation_fragment:
  - slipway.node.attributes
seealso:
  - module: slipway.node.node_verify
  - module: community.general.lvol
"""

EXAMPLES = r"""
- name: Inspect the devices and the pool
  slipway.node.thin_pool_info:
    volume_group: containerd
    pool: pool
    devices: [/dev/disk/by-id/virtio-pool]
    root_path: /var/lib/containerd/io.containerd.snapshotter.v1.devmapper
  register: thin_pool

- name: Stop if the devices or the pool can't be used
  ansible.builtin.assert:
    that: thin_pool.problems | length == 0
    fail_msg: "{{ thin_pool.problems | join('; ') }}"
"""

RETURN = r"""
problems:
  description: Reasons why the pool can't be created on the devices, or can't be used by this containerd, one sentence each.
  returned: always
  type: list
  elements: str
  sample: ["/dev/vdc holds ext4: name another device, or list it in devmapper_wipe_devices if what is on it may be lost"]
name:
  description: Name of the pool in the device mapper, which is C(pool_name) of the snapshotter.
  returned: always
  type: str
  sample: containerd-pool
group_present:
  description: Whether the volume group exists.
  returned: always
  type: bool
missing_programs:
  description: Missing programs out of C(lvs) (LVM), C(dmeventd) (its monitor), C(thin_check) and C(thin_ls).
  returned: always
  type: list
  elements: str
pool:
  description: The pool; null if it doesn't exist.
  returned: always
  type: dict
  contains:
    uuid:
      description: UUID of the logical volume.
      type: str
    size_bytes:
      description: Size of the pool in bytes.
      type: int
    active:
      description: Whether the pool is loaded.
      type: bool
    profile:
      description: LVM profile of the pool, which contains the thresholds of its automatic extension.
      type: str
    monitored:
      description: Whether C(dmeventd) monitors the pool.
      type: bool
    data_percent:
      description: Used data space in percent; null if the pool isn't loaded.
      type: float
    metadata_percent:
      description: Used metadata space in percent; null if the pool isn't loaded.
      type: float
    mode:
      description: V(rw), V(ro), V(out_of_data_space) or V(Fail), as the kernel names it; empty if the pool isn't loaded.
      type: str
devices:
  description: State of O(devices).
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path in O(devices).
      type: str
    device:
      description: The same path with symbolic links resolved.
      type: str
    size_bytes:
      description: Size of the device in bytes.
      type: int
    signatures:
      description: Types of the file systems, partition tables and other signatures on the device.
      type: list
      elements: str
    volume_group:
      description: Volume group of the device; null if it belongs to none.
      type: str
loop_device:
  description: Loop device of O(loop_file); empty if the file isn't attached.
  returned: always
  type: str
database_match:
  description:
    - V(match) if the pool and the database list the same devices.
    - V(mismatch) if the pool or the database was recreated.
    - V(orphans) if the pool has devices that the database doesn't list.
    - V(unknown) if they can't be compared.
  returned: when O(root_path) is set, unless the pool exists and isn't loaded
  type: str
database_match_reason:
  description: How the pool and the database differ, or why they can't be compared; empty if they match.
  returned: with RV(database_match)
  type: str
"""

import os
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.thin_pool import (
    loop_device,
    match_database,
    read_backing_file,
    read_devices,
    read_status,
    read_volume,
    thin_pools_supported,
)
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import (
    FOREIGN,
    Device,
    PoolStatus,
    Volume,
    database_path,
    device_problem,
    file_problem,
    group_problem,
    mapper_name,
)

PROGRAMS = ("lvs", "dmeventd", "thin_check", "thin_ls")


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    group = plain_name("volume_group", params["volume_group"])
    volume_name = plain_name("pool", params["pool"])
    for option in ("devices", "wipe_devices"):
        for path in params[option]:
            absolute_path(option, path)
    for option in ("loop_file", "root_path"):
        if params[option] is not None:
            absolute_path(option, params[option])
    runner = Runner(module)
    name = mapper_name(group, volume_name)
    devices = read_devices(runner, params["devices"])
    may_be_wiped = [os.path.realpath(path) for path in params["wipe_devices"]]
    problems = [problem for device in devices for problem in [device_problem(device, group, may_be_wiped)] if problem]
    loop = loop_device(runner, params["loop_file"]) if params["loop_file"] else ""
    attached = read_devices(runner, [loop]) if loop else []
    problems += _file_problems(runner, params["loop_file"], attached, group)
    group_present, volume = read_volume(runner, group, volume_name)
    if group_present and not problems:
        named = [*devices, *(attached or _unattached(params["loop_file"]))]
        problems += [problem for problem in [group_problem(group, named)] if problem]
    status = read_status(runner, name)
    if volume is None and not thin_pools_supported(runner):
        problems.append("the kernel doesn't support thin pools: install one with the module dm_thin_pool, and boot it")
    if not (group_present or devices or params["loop_file"]):
        problems.append(f"there is no volume group {group}: name devices for it")
    result = {
        "changed": False,
        "name": name,
        "missing_programs": [program for program in PROGRAMS if runner.find(program) is None],
        "group_present": group_present,
        "pool": None if volume is None else _pool(volume, status),
        "devices": [_device(device) for device in devices],
        "loop_device": loop,
    }
    if params["root_path"] is not None and (volume is None or status is not None):
        found = match_database(runner, name, status, database_path(params["root_path"], name))
        result["database_match"], result["database_match_reason"] = found.verdict, found.reason
        if found.verdict == FOREIGN:
            problems.append(f"{found.reason}: {found.remedy}")
    return {**result, "problems": problems}


def _unattached(file: str | None) -> list[Device]:
    return [Device(file, file, kind="")] if file else []


def _file_problems(runner: Runner, path: str | None, attached: Sequence[Device], group: str) -> list[str]:
    """Return the problems of the file of a lab pool. ``attached`` contains its loop device, if there is one."""
    if path is None:
        return []
    if attached:
        found = [device_problem(device, group, ()) for device in attached]
    else:
        file = read_backing_file(runner, path)
        found = [file_problem(file)] if file is not None else []
    return [problem for problem in found if problem]


def _pool(volume: Volume, status: PoolStatus | None) -> dict[str, Any]:
    return {
        "uuid": volume.uuid,
        "size_bytes": volume.size,
        "active": status is not None,
        "profile": volume.profile,
        "monitored": volume.monitored,
        "data_percent": status.data_percent if status else None,
        "metadata_percent": status.metadata_percent if status else None,
        "mode": status.mode if status else "",
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "device": device.real,
        "size_bytes": device.size,
        "signatures": list(device.signatures),
        "volume_group": device.group,
    }


def main() -> None:
    run_module(
        run,
        {
            "volume_group": {"type": "str", "required": True},
            "pool": {"type": "str", "required": True},
            "devices": {"type": "list", "elements": "path", "default": []},
            "wipe_devices": {"type": "list", "elements": "path", "default": []},
            "loop_file": {"type": "path"},
            "root_path": {"type": "path"},
        },
    )


if __name__ == "__main__":
    main()
