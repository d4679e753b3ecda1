#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: thin_pool_info
short_description: Look at a thin pool of LVM, at the devices for it, and whether it belongs to containerd's devmapper snapshotter
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Says what there is of a thin pool, and why it could not be made on the devices that are named for it, if so.
  - Compares the devices in the pool with the database of containerd's devmapper snapshotter. If one of the two was recreated, the
    snapshotter fails, or makes a mess of both; this tells it before the daemon is started.
  - Nothing is changed. To list the devices of a pool, the kernel is asked to keep its state aside for a moment.
  - Works on a node without LVM, which has no pool.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  volume_group:
    description: The volume group of the pool.
    type: str
    required: true
  pool:
    description: The name of the pool in its volume group.
    type: str
    required: true
  devices:
    description: Devices that the volume group is to have.
    type: list
    elements: path
    default: []
  wipe_devices:
    description: Those of O(devices) that may be taken although they hold something. One that is in use is never taken.
    type: list
    elements: path
    default: []
  loop_file:
    description: A file that is to be one of the devices, through a loop device.
    type: path
  root_path:
    description: The directory of containerd's devmapper snapshotter. Nothing is compared if it is left out.
    type: path
extends_documentation_fragment:
  - slipway.node.attributes
seealso:
  - module: slipway.node.node_verify
  - module: community.general.lvol
"""

EXAMPLES = r"""
- name: May these devices be taken, and does the pool belong to this containerd?
  slipway.node.thin_pool_info:
    volume_group: containerd
    pool: pool
    devices: [/dev/disk/by-id/virtio-pool]
    root_path: /var/lib/containerd/io.containerd.snapshotter.v1.devmapper
  register: look

- name: Stop here unless all is well
  ansible.builtin.assert:
    that: look.problems | length == 0
    fail_msg: "{{ look.problems | join('; ') }}"
"""

RETURN = r"""
problems:
  description: Why the pool can't be made on the devices, or must not be used by this containerd; a sentence each.
  returned: always
  type: list
  elements: str
  sample: ["/dev/vdc holds ext4: name another device, or list it in devmapper_wipe_devices if what is on it may be lost"]
name:
  description: The pool's name in the device mapper, which is the snapshotter's C(pool_name).
  returned: always
  type: str
  sample: containerd-pool
group_present:
  description: Whether there is such a volume group.
  returned: always
  type: bool
missing_programs:
  description: What the node lacks of LVM (C(lvs)), its monitor (C(dmeventd)), and what checks and lists pools (C(thin_check), C(thin_ls)).
  returned: always
  type: list
  elements: str
pool:
  description: The pool; null if there is none.
  returned: always
  type: dict
  contains:
    uuid:
      description: LVM's identifier of the volume.
      type: str
    size:
      description: Its size in bytes.
      type: int
    active:
      description: Whether it is loaded.
      type: bool
    profile:
      description: LVM's profile for it, which has the thresholds for extending it.
      type: str
    monitored:
      description: Whether C(dmeventd) watches it.
      type: bool
    data_percent:
      description: How much of its data space is used; null if it isn't loaded.
      type: float
    metadata_percent:
      description: How much of its metadata space is used; null if it isn't loaded.
      type: float
    mode:
      description: V(rw), V(ro), V(out_of_data_space) or V(Fail); empty if it isn't loaded.
      type: str
devices:
  description: The devices as they were found.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: As it was named.
      type: str
    device:
      description: The same without links.
      type: str
    size:
      description: In bytes.
      type: int
    signatures:
      description: Types of what is on it.
      type: list
      elements: str
    volume_group:
      description: The volume group that it belongs to; null if it does to none.
      type: str
loop_device:
  description: The loop device that O(loop_file) is attached to; empty if it is to none.
  returned: always
  type: str
belonging:
  description:
    - V(belongs), V(foreign) (the pool or the root was recreated), V(leftovers) (the pool has devices that nobody knows of) or
      V(unknown).
  returned: when O(root_path) is given, unless there is a pool that isn't loaded
  type: str
belonging_reason:
  description: How they differ, or why that can't be told.
  returned: with RV(belonging)
  type: str
"""

import os
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.thin_pool import (
    loop_device,
    read_backing_file,
    read_belonging,
    read_devices,
    read_status,
    read_volume,
    thin_pools_supported,
)
from ansible_collections.slipway.node.plugins.module_utils.model.settings import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.model.thin_pool import (
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
from ansible_collections.slipway.node.plugins.module_utils.run import run_module

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
        problems.append("the kernel can't do thin pools: install one with the module dm_thin_pool, and boot it")
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
        found = read_belonging(runner, name, status, database_path(params["root_path"], name))
        result["belonging"], result["belonging_reason"] = found.verdict, found.reason
        if found.verdict == FOREIGN:
            problems.append(f"{found.reason}: {found.remedy}")
    return {**result, "problems": problems}


def _unattached(file: str | None) -> list[Device]:
    return [Device(file, file, kind="")] if file else []


def _file_problems(runner: Runner, path: str | None, attached: Sequence[Device], group: str) -> list[str]:
    """``attached`` is the loop device that it is attached to, if it is."""
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
        "size": volume.size,
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
        "size": device.size,
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
