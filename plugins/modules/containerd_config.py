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
      - When to start a container with the default runtime handler, and to take it away again, see
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
# Each task lists all settings of the node: what an earlier task has set and this one doesn't list is reverted.
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

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.bytecode  # noqa: F401
from ansible_collections.slipway.node.plugins.module_utils.config.host.apply import ConfigApplication
from ansible_collections.slipway.node.plugins.module_utils.config.host.migration import (
    DefaultChange,
    Unpacked,
    plan_default_change,
    report_unpacked,
)
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_needs, check_roots, unverified_pulls
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import restart_decision
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import ConfigStage, plan_files, plan_stage
from ansible_collections.slipway.node.plugins.module_utils.config.plan import CurrentConfig
from ansible_collections.slipway.node.plugins.module_utils.config.request import (
    ALWAYS,
    AUTO,
    CHANGED,
    FORCE,
    NEVER,
    NONE,
    ConfigRequest,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def run(module: AnsibleModule) -> dict[str, Any]:
    """Configure containerd, one run at a time on a node."""
    with exclusive(module.params["timeout"]) if not module.check_mode else nullcontext(-1) as lock:
        return configure(module, lock)


def configure(module: AnsibleModule, lock: int) -> dict[str, Any]:
    """Read, plan, validate, and apply unless it is check mode."""
    wanted = ConfigRequest.from_params(module.params)
    node = ContainerdHost(Containerd.from_module(module), wanted.drop_in_file)
    version = installed_or_assumed(module, node)
    if version is None:
        return unpredictable()
    found = node.found(version)
    if node.binary.path is None:
        module.warn(f"containerd isn't installed yet: its files are predicted as if {version} brought none of its own")
        return report_uninstalled(wanted, found)
    final = plan_stage(node, wanted, found)
    current = node.try_read_config() if final.changes else final.config
    check_roots(current, final.config)
    unverified = unverified_pulls(wanted, found, final.config)
    if unverified:
        module.warn(unverified)
    enable = False
    if wanted.may_restart:
        final, enable = decide_restart(module, node, final)
    before = node.proven_config(found.record, current)
    change = plan_change(module, node, final, before)
    changed = bool(final.changes or final.record != found.record or final.reason)
    unpacked = [Unpacked(change.plan)] if change is not None and change.plan is not None else []
    diff = [file.diff() for file in final.changes] + diff_of_images(change)
    if (changed or final.probes) and not module.check_mode:
        proven = bool(found.record.pending) and wanted.may_restart and node.is_well()
        application = ConfigApplication(node, final, change, proven=proven, lock=lock)
        unpacked = application.apply()
        if application.untried:
            module.warn(f"no container was started with the default runtime handler: {application.untried}")
    if enable and not module.check_mode:
        node.daemon.unit.enable()
    return {
        **report(found, final.plan.schema, final.files, final.config, final.reason, changed=changed or enable),
        "previous_snapshotter": before.default_snapshotter if before is not None else None,
        **report_unpacked(unpacked),
        "diff": diff,
    }


def installed_or_assumed(module: AnsibleModule, node: ContainerdHost) -> Version | None:
    """Return the installed version; in check mode the assumed one, or None, where nothing is installed yet."""
    assumed, named = module.params["assume_version"], module.params["binary"]
    if node.binary.path is None and named and not (module.check_mode and assumed):
        raise ValueError(f"binary: there is no program {named}: install it first, or name another")
    if node.binary.path is not None or not module.check_mode:
        return node.binary.version()
    return Version.parse(assumed) if assumed else None


def decide_restart(module: AnsibleModule, node: ContainerdHost, final: ConfigStage) -> tuple[ConfigStage, bool]:
    """Return the stage with the reason for a restart, and whether the unit has to be enabled."""
    pending = bool(final.found.record.pending)
    reason, enable = restart_decision(node, final.wanted, final.changes, final.config, node.daemon.read_state(), pending=pending)
    if final.wanted.present:
        for lacking in check_needs(node, final.wanted, final.config, predicted=module.check_mode):
            module.warn(f"{lacking}. This fails outside of check mode, unless another task creates what is missing first")
    return replace(final, reason=reason), enable


def plan_change(
    module: AnsibleModule, node: ContainerdHost, final: ConfigStage, before: EffectiveConfig | None
) -> DefaultChange | None:
    """Plan the change of the default snapshotter; None if it stays, or if the daemon is to be left alone."""
    new = final.config.default_snapshotter
    if final.wanted.may_restart:
        change = plan_default_change(node, final, before, watch=module.check_mode)
        if change is not None and change.plan is None and module.check_mode:
            module.warn(f"the daemon doesn't answer: which images have to be unpacked for {new} is known once it is started")
        return change
    if before is not None and before.default_snapshotter != new:
        module.warn(
            f"the default snapshotter changes from {before.default_snapshotter} to {new}, and with restart=never no image is "
            f"unpacked for it: unpack them with slipway.node.containerd_image (snapshotter: {new}) before the daemon is restarted"
        )
    return None


def diff_of_images(change: DefaultChange | None) -> list[dict[str, str]]:
    """Return what diff mode shows of images that have to be unpacked."""
    images = change.plan.images() if change is not None and change.plan is not None else []
    if change is None or not images:
        return []
    lines = "".join(f"{one['namespace']}/{one['name']}\n" for one in images)
    header = f"images unpacked for {change.new}"
    return [{"before_header": header, "after_header": header, "before": "", "after": lines}]


def unpredictable() -> dict[str, Any]:
    """Return the result of check mode on a node without containerd and without a version to assume."""
    return {
        "changed": True,
        "msg": "containerd isn't installed yet: what its files will be depends on its version",
        "restarted": True,
        "rolled_back": False,
        "files": [],
        "effective": {},
        "previous_snapshotter": None,
        "durability": {},
        "diff": [],
        **report_unpacked([]),
    }


def report_uninstalled(wanted: ConfigRequest, found: CurrentConfig) -> dict[str, Any]:
    """Return the result of check mode on a node without containerd."""
    plan, files = plan_files(wanted, found)
    changed = any(file.changed for file in files)
    # What the package brings is started by the package; new files make another start.
    return {
        **report(found, plan.schema, files, None, "it is new" if changed else None, changed=changed),
        "previous_snapshotter": None,
        **report_unpacked([]),
    }


def report(
    found: CurrentConfig,
    schema: int,
    files: Sequence[FileChange],
    config: EffectiveConfig | None,
    reason: str | None,
    *,
    changed: bool,
) -> dict[str, Any]:
    """Return what the module says of files and daemon."""
    result: dict[str, Any] = {
        "changed": changed,
        "version": str(found.version),
        "schema": schema,
        "files": [{"path": file.path, "changed": file.changed, "exists": file.after is not None} for file in files],
        "effective": config.to_dict() if config is not None else {},
        "durability": config.pull_durability(found.version) if config is not None else {},
        "restarted": reason is not None,
        "rolled_back": False,
        "diff": [file.diff() for file in files if file.changed],
    }
    if reason is not None:
        result["restart_reason"] = reason
    return result


def main() -> None:
    run_module(
        run,
        {
            **SHARED_OPTIONS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "enable_cri": {"type": "bool", "default": False},
            "service_directives": {"type": "dict", "default": {}},
            **Containerd.OPTIONS,
            "drop_in_file": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
            "assume_version": {"type": "str"},
            "restart": {"type": "str", "choices": [AUTO, NEVER, FORCE], "default": AUTO},
            "unit_enabled": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
            "probe": {"type": "str", "choices": [NONE, CHANGED, ALWAYS], "default": NONE},
        },
        module_type=SecretParamsModule,
        on_failure={"restarted": False, "rolled_back": False},
    )


if __name__ == "__main__":
    main()
