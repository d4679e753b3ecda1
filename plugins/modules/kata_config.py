#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kata_config
short_description: Configure Kata Containers runtime handlers
version_added: 0.1.0
description:
  - Manages the configuration files of all Kata handlers of a node. Each handler gets its own directory with a copy of Kata's released
    file, and one drop-in with the settings given here.
  - Reports for each handler how a container's root file system reaches the guest. Combinations of runtime, hypervisor, snapshotter
    and block device settings that can't work, or that can pass the host's own disk to a guest, are refused.
  - Other drop-ins in the directory are kept. The module reports those that override its own.
  - No daemon is needed or restarted. Kata reads these files when a sandbox starts, so running sandboxes aren't affected.
author:
  - the slipway.node authors (@slipway)
options:
  handlers:
    description:
      - The handlers of this node.
      - With O(state=absent), only the names are used. An empty list then removes all files that this module created.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the handler and of its directory.
        type: str
        required: true
      runtime:
        description: The handler's Kata runtime, V(go) (runtime) or V(rust) (runtime-rs). Required with O(state=present).
        type: str
        choices: [go, rust]
      hypervisor:
        description:
          - The hypervisor that O(handlers[].base_config) is for. Required with O(state=present).
          - V(stratovirt) requires the Go runtime, V(dragonball) and V(openvmm) the Rust runtime.
        type: str
        choices: [qemu, clh, fc, stratovirt, dragonball, openvmm]
      base_config:
        description:
          - Kata's released configuration file, such as V(/opt/kata/share/defaults/kata-containers/configuration-qemu.toml).
            The handler's copy is updated when this file changes.
          - Required with O(state=present). In check mode, the file doesn't have to exist.
        type: path
      version:
        description: Kata's version. Default is the version of the release that contains O(handlers[].base_config), if known.
        type: str
      snapshotter:
        description: The snapshotter that containerd uses for this handler.
        type: str
        default: overlayfs
      disable_block_device_use:
        description:
          - Mount a snapshot's block device on the host and share it, instead of passing the device to the guest.
          - With the Go runtime, set it to V(false) only for a handler with a block snapshotter of its own.
        type: bool
      allow_host_disk_hotplug:
        description:
          - Accept the risk that a container gets the host's own disk. Required on the Go runtime for
            O(handlers[].disable_block_device_use=false) with a snapshotter that isn't a known block snapshotter.
        type: bool
        default: false
      block_device_driver:
        description: Driver of block devices in the guest. The valid values depend on runtime and hypervisor.
        type: str
        choices: [virtio-scsi, virtio-blk, virtio-blk-ccw, virtio-mmio, virtio-blk-pci, virtio-blk-mmio, virtio-pmem]
      block_device_aio:
        description: QEMU's mode of asynchronous I/O.
        type: str
        choices: [io_uring, native, threads]
      block_device_cache_set:
        description: Use the two other cache settings, on the Go runtime.
        type: bool
      block_device_cache_direct:
        description: Bypass the host's page cache.
        type: bool
      block_device_cache_noflush:
        description: Ignore the guest's flushes. A power failure then loses data that the guest has synced.
        type: bool
      block_device_logical_sector_size:
        description: Logical sector size in the guest, in bytes; V(0) uses the hypervisor's default.
        type: int
      block_device_physical_sector_size:
        description: Physical sector size in the guest, in bytes; V(0) uses the hypervisor's default.
        type: int
      enable_iothreads:
        description: Serve V(virtio-scsi) devices in a separate QEMU thread.
        type: bool
      indep_iothreads:
        description: Number of QEMU threads for hot-plugged V(virtio-blk) devices.
        type: int
      shared_fs:
        description: File system that shares the host's directories with the guest.
        type: str
        choices: [virtio-fs, virtio-9p, virtio-fs-nydus, inline-virtio-fs, none]
      extra:
        description:
          - Additional tables for the drop-in, such as C({"runtime":{"enable_debug":true}}).
          - The table of another hypervisor, and keys that this version of the Go runtime doesn't know, are refused.
        type: dict
        default: {}
  config_dir:
    description: Parent directory of the handlers' directories.
    type: path
    default: /etc/kata-containers
  purge:
    description: Remove handlers that this module created and that aren't listed in O(handlers).
    type: bool
    default: true
  defer_unsafe:
    description:
      - Set to V(true) if containerd is configured after this task. Changes that are unsafe until then are skipped and listed in
        RV(deferred).
      - A change is unsafe if the handler would pass block devices to the guest before containerd uses a block snapshotter for it.
      - Run the module again for the handlers in RV(deferred) after containerd is configured.
    type: bool
    default: false
  state:
    description:
      - V(present) configures the handlers.
      - V(absent) removes the files that this module created for them.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait for another run on this node.
    type: int
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
  - Set C(ConfigPath) of the handler in containerd's configuration to RV(handlers[].config_path).
  - If a handler changes from a block snapshotter to another snapshotter, run this module before containerd is reconfigured. If it
    changes to a block snapshotter, run it afterwards. O(defer_unsafe) handles both cases; the role P(slipway.node.kata#role) uses it.
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.release_install
"""

EXAMPLES = r"""
- name: Configure a handler with shared root file systems and a handler with thin devices
  slipway.node.kata_config:
    handlers:
      - name: kata-qemu
        runtime: go
        hypervisor: qemu
        base_config: /opt/kata/share/defaults/kata-containers/configuration-qemu.toml
        disable_block_device_use: true
      - name: kata-qemu-block
        runtime: go
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

- name: Remove all handlers that this module created
  slipway.node.kata_config:
    state: absent
"""

RETURN = r"""
handlers:
  description: The handlers after the run, in the order of O(handlers). Empty with O(state=absent).
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
      description: The drop-in of this module.
      type: str
      sample: /etc/kata-containers/kata-qemu/config.d/60-slipway.toml
    snapshotter:
      description: The snapshotter that RV(handlers[].rootfs_transport) applies to.
      type: str
    version:
      description: Kata's version; null if unknown.
      type: str
    effective:
      description: The block device settings, C(shared_fs), and whether the guest pulls images (C(force_guest_pull)), after merging the main file and
        all drop-ins; null if the runtime chooses the value.
      type: dict
      sample: {"disable_block_device_use": true, "block_device_driver": "virtio-scsi", "shared_fs": "virtio-fs"}
    rootfs_transport:
      description: Transport of a container's root file system to the guest, one of V(virtio-fs), V(9p), V(block-hotplug), V(guest-pull)
        and V(unknown).
      type: str
    reason:
      description: Explanation of RV(handlers[].rootfs_transport).
      type: str
    source:
      description: The place in Kata's sources that determines it.
      type: str
    warnings:
      description: Settings without effect, and settings that endanger data.
      type: list
      elements: str
    other_drop_ins:
      description: Other drop-ins in the handler's directory.
      type: list
      elements: str
    overridden:
      description: Other drop-ins that override settings of this module.
      type: list
      elements: dict
      contains:
        path:
          description: Path of the drop-in.
          type: str
        settings:
          description: The overridden settings.
          type: list
          elements: str
files:
  description: Paths of the files that were written, or would be in check mode.
  type: list
  elements: str
  returned: success
removed:
  description: Paths of the files that were removed, or would be in check mode.
  type: list
  elements: str
  returned: success
deferred:
  description: Handlers whose changes were skipped because of O(defer_unsafe).
  type: list
  elements: str
  returned: success
unlisted:
  description: Handlers that this module created and that aren't in O(handlers). They are removed with O(purge=true).
  type: list
  elements: str
  returned: success
kata_deploy:
  description: Directories of handlers that kata-deploy manages in the same release. They aren't changed.
  type: list
  elements: str
  returned: success
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.kata.host.kata_config import OPTIONS, run
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS, module_type=SecretParamsModule)


if __name__ == "__main__":
    main()
