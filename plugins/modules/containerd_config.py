#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_config
short_description: Configure containerd and verify the running daemon
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Translates settings into the configuration schema that the installed containerd reads (1.6 to 2.4), validates the files with
    containerd itself, writes them durably, and restarts the daemon through systemd if necessary. Then it checks that the daemon is
    up, stays up, and has loaded its plugins.
  - If the daemon doesn't start or a plugin fails, the module restores the previous files, restarts the daemon on them, and fails
    with the cause.
  - On containerd 1.x, the module edits O(config_file) key by key. Comments and other keys stay. It records which keys it set, and
    their previous values, in C(config.toml.slipway.json) beside the file, so that settings which are dropped later are reverted.
  - On containerd 2.x, the module writes the settings to O(drop_in_file), in the schema of O(config_file), and adds the import to
    O(config_file), which it creates if necessary.
  - A daemon that started before its newest configuration file was written is restarted even if no file changes.
  - If the default snapshotter changes, the module unpacks for the new one every image that is unpacked for the old one, in all
    namespaces, from the content store without a network, and flushes it to disk. Only then does it change the default. A
    snapshotter that the daemon hasn't loaded is loaded beside the old default first, with a restart of its own.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(present), O(settings), O(service_directives) and O(http_proxy) are all that the module sets. Settings of an earlier run
        that aren't listed any more are reverted, so list all of a node's settings in one task. Keys that the module never set stay.
      - With V(absent), every change that the module made is reverted. A root file that was not changed by another tool since is
        restored byte for byte. Directories that the module did not create are kept.
    type: str
    choices: [present, absent]
    default: present
  enable_cri:
    description:
      - Remove the CRI plugin from C(disabled_plugins) in O(config_file); Docker's packages disable it there.
      - If this is V(false) and the CRI plugin is disabled, settings of the CRI plugin are refused.
    type: bool
    default: false
  service_directives:
    description: Directives for the C([Service]) section of the unit, such as C(LimitNOFILE) and C(TasksMax).
    type: dict
    default: {}
  drop_in_file:
    description:
      - Configuration file for the settings on containerd 2.x. It belongs to the module.
      - A file of this name that the module did not write is refused if there are settings for it, and otherwise left unchanged.
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
  assume_version:
    description:
      - Version of containerd that will be installed. Used only in check mode, on a node without containerd, to predict the files.
    type: str
  restart:
    description:
      - With V(auto), the daemon is restarted if that is necessary. A restart that would kill running containers (a unit whose
        C(KillMode) isn't V(process)), or a new O(settings.root) that would hide them from the daemon, is refused.
      - With V(never), the files are validated and written, but the daemon is neither restarted nor probed. The next run with another
        value finds that the daemon is older than its files, and restarts it. Images aren't unpacked for a new default snapshotter.
      - With V(force), the daemon is restarted if that is necessary, even if this kills running containers or hides them from the daemon.
    type: str
    choices: [auto, never, force]
    default: auto
  unit_enabled:
    description: Enable the unit, so that it starts at boot. With V(false), its state is left unchanged.
    type: bool
    default: true
  timeout:
    description: Number of seconds to wait until the daemon is up.
    type: int
    default: 60
  probe:
    description:
      - When to start a container with the default runtime handler. The container is removed again, see
        O(slipway.node.node_verify#module:probe).
      - V(changed) starts one after the daemon was restarted, and after a run in which no container started. V(always) starts one in every
        run. With O(restart=never), none is started.
      - If the container doesn't start, the previous configuration is restored and the module fails with the runtime's own words. If it
        can't be tried, for example because the default handler is a Kata handler, the module warns.
    type: str
    choices: [none, changed, always]
    default: none
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.settings
requirements:
  - tomlkit, to edit an existing file, and on Python older than 3.11
  - systemd, unless O(restart=never)
notes:
  - Before anything changes, the module checks that the node has what each snapshotter requires (a thin pool, a scratch file, the
    program C(mkfs.erofs), the socket of a proxy plugin). In check mode, a missing thin pool, scratch file, erofs module or program is
    a warning, because an earlier task may create it.
  - Before anything changes, the module also checks that the blobs of all images are in the content store and that there is room for
    their layers. If the daemon doesn't run, images are unpacked after the change of the default snapshotter.
  - If unpacking fails after a file was changed, the previous files are restored too. Layers that were unpacked by then stay, and so
    does the work of an interrupted run, which the next run continues.
  - The old snapshotter keeps its layers, and containers keep their snapshots. M(slipway.node.containerd_unused_snapshots) lists and
    removes these layers.
  - The proxy is written to a drop-in of the unit that only root can read.
seealso:
  - module: slipway.node.blockfile_scratch
  - module: slipway.node.containerd_unused_snapshots
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
# Each task lists all settings of the node. Settings of earlier tasks that this task doesn't list are reverted.
- name: Pull images in a way that survives a power cut
  slipway.node.containerd_config:
    settings:
      image_pull_sync_fs: true

- name: Configure a Kubernetes node with Kata
  slipway.node.containerd_config:
    settings:
      image_pull_sync_fs: true
      systemd_cgroup: true
      sandbox_image: registry.k8s.io/pause:3.10
      registry_config_path: /etc/containerd/certs.d
      runtimes:
        - name: kata
          type: io.containerd.kata.v2
          privileged_without_host_devices: true
          pod_annotations: ["io.katacontainers.*"]

- name: Show the effect of a raw table, beside the setting that the node keeps
  slipway.node.containerd_config:
    settings:
      image_pull_sync_fs: true
      extra_config:
        plugins:
          io.containerd.gc.v1.scheduler:
            schedule_delay: 1s
  check_mode: true
  diff: true

- name: Revert everything that the module has set
  slipway.node.containerd_config:
    state: absent
"""

RETURN = r"""
version:
  description: Version of the installed containerd, or the assumed one.
  returned: when known
  type: str
  sample: 2.1.9
schema:
  description: Schema of the root configuration file.
  returned: when the version is known
  type: int
  sample: 2
files:
  description: The files that the module manages.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path of the file.
      type: str
    changed:
      description: Whether the file was written or removed.
      type: bool
    exists:
      description: Whether the file exists after the run.
      type: bool
effective:
  description:
    - The settings as the daemon has them, by the names of the options; V(null) if this version has no such setting.
    - Empty if containerd isn't installed.
  returned: success
  type: dict
  sample: {"image_pull_sync_fs": true, "snapshotter": "overlayfs"}
previous_snapshotter:
  description:
    - The default snapshotter before the run, or before an interrupted run that this one completes; null if unknown.
    - It can differ from RV(effective) although O(settings.snapshotter) isn't set, namely after the setting was dropped.
  returned: success
  type: str
  sample: overlayfs
images:
  description: The images that were unpacked for a new default snapshotter, or would be in check mode.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the image.
      type: str
      sample: docker.io/library/alpine:3.22
    namespace:
      description: containerd namespace of the image.
      type: str
      sample: k8s.io
    layers:
      description: Number of layers.
      type: int
skipped_images:
  description: Images that can't be unpacked on this node, such as those for another platform, with the reason.
  type: dict
  returned: success
needed_bytes:
  description: Estimated space that unpacking takes, in bytes.
  type: int
  returned: success
free_bytes:
  description: Free space in the directory of the snapshotter before unpacking, in bytes; 0 if the default snapshotter stays.
  type: int
  returned: success
synced:
  description: The file systems that were flushed to disk.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: A directory on the file system.
      type: str
      sample: /var/lib/containerd/io.containerd.snapshotter.v1.erofs
    duration:
      description: Number of seconds that this took.
      type: float
durability:
  description:
    - Whether a pulled image survives a power cut, by pull path (C(cri), C(ctr) pulling with C(--local), the C(transfer) service).
  returned: success
  type: dict
  sample:
    cri:
      durability: durable
      reason: image_pull_with_sync_fs syncs every layer before it is committed
      source: measured with strace on 1.7.24 and 2.1.9
restarted:
  description: Whether the daemon was (or would be) restarted.
  returned: always
  type: bool
restart_reason:
  description: Why the daemon was (or would be) restarted.
  returned: when restarted
  type: str
rolled_back:
  description: Whether the previous files were restored because the daemon failed with the new ones.
  returned: always
  type: bool
journal:
  description: The last lines of the daemon's log.
  returned: when the daemon failed
  type: list
  elements: str
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.config.host.containerd_config import OPTIONS, run
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS, module_type=SecretParamsModule, on_failure={"restarted": False, "rolled_back": False})


if __name__ == "__main__":
    main()
