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
  - Translates settings into the configuration schema that the installed containerd reads (1.6 to 2.3), validates the files with
    containerd itself, writes them durably, and restarts the daemon through systemd if necessary. Then it checks that the daemon is
    up, stays up, and has loaded its plugins.
  - If the daemon doesn't start or a plugin fails, the module restores the previous files, restarts the daemon on them, and fails
    with the cause.
  - On containerd 1.x, the module edits O(config_file) key by key. Comments and other keys stay. It records which keys it set, and
    their previous values, in C(config.toml.slipway.json) beside the file, so that settings which are dropped later are reverted.
  - On containerd 2.x, the module writes the settings to O(drop_in_file), in the schema of O(config_file), and adds the import to
    O(config_file), which it creates if necessary.
  - A daemon that started before its newest configuration file was written is restarted even if no file changes.
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
      - With V(present), the daemon gets exactly these settings. Settings of an earlier run that aren't listed any more are reverted.
      - With V(absent), every change that the module made is reverted.
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
    description: Configuration file for the settings on containerd 2.x. It belongs to the module.
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
  assume_version:
    description:
      - Version of containerd that will be installed. Used only in check mode, on a node without containerd, to predict the files.
    type: str
  load_snapshotters:
    description:
      - Snapshotters to load although nothing uses them yet, for example the future default.
      - The daemon is restarted if one of them isn't C(ok).
    type: list
    elements: str
    default: []
  assume_snapshotters:
    description: Snapshotters whose requirements an earlier task would have created. Used only in check mode.
    type: list
    elements: str
    default: []
  restart:
    description:
      - With V(auto), the daemon is restarted if that is necessary. A restart that would kill running containers (a unit whose
        C(KillMode) isn't V(process)), or a new O(settings.root) that would hide them from the daemon, is refused.
      - With V(never), the files are validated and written, but the daemon is neither restarted nor probed. The next run with another
        value finds that the daemon is older than its files, and restarts it.
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
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.settings
requirements:
  - tomlkit, to edit an existing file, and on Python older than 3.11
  - systemd, unless O(restart=never)
notes:
  - Before anything changes, the module checks that the node has what each snapshotter requires (a thin pool, a scratch file, the
    program C(mkfs.erofs), the socket of a proxy plugin).
  - The module doesn't unpack existing images for a new default snapshotter; M(slipway.node.containerd_image_migrate) does.
  - The proxy is written to a drop-in of the unit that only root can read.
seealso:
  - module: slipway.node.blockfile_scratch
  - module: slipway.node.containerd_image_migrate
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
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

- name: Show the effect of a raw table
  slipway.node.containerd_config:
    settings:
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
    - The default snapshotter of the files before the run; null if unknown.
    - It can differ from RV(effective) although O(settings.snapshotter) isn't set, namely after the setting was dropped. The images then
      have to be unpacked with M(slipway.node.containerd_image_migrate).
  returned: success
  type: str
  sample: overlayfs
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
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.host.apply import apply
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.refusals import check_effective, check_needs, check_roots
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import restart_decision
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import Transaction
from ansible_collections.slipway.node.plugins.module_utils.config.plan import ConfigPlan, CurrentConfig, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.request import AUTO, FORCE, NEVER, ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def run(module: AnsibleModule) -> dict[str, Any]:
    """Configure containerd, one run at a time on a node."""
    with exclusive(module.params["timeout"]) if not module.check_mode else nullcontext():
        return configure(module)


def configure(module: AnsibleModule) -> dict[str, Any]:
    """Read, plan, validate, and apply unless it is check mode."""
    wanted = ConfigRequest.from_params(module.params)
    node = ContainerdHost(Containerd.from_module(module), wanted.drop_in_file)
    version = installed_or_assumed(module, node)
    if version is None:
        return unpredictable()
    found = node.found(version)
    plan = plan_config(found, wanted.settings, present=wanted.present, enable_cri=module.params["enable_cri"])
    files = [*plan.files, service_change(wanted)]
    changes = [change for change in files if change.changed]
    record = plan.record != found.record
    if node.binary.path is None:
        module.warn(f"containerd isn't installed yet: its files are predicted as if {version} brought none of its own")
        # What the package brings is started by the package; new files make another start.
        return report(found, plan, files, None, "it is new" if changes else None, changed=bool(changes))
    config = node.planned_config(plan)
    check_effective(node, wanted, plan, found, config)
    current = node.try_read_config() if changes else config
    check_roots(current, config)
    reason, enable = None, False
    if wanted.may_restart:
        reason, enable = restart_decision(node, wanted, changes, config, node.daemon.look(), pending=bool(found.record.pending))
        if wanted.present:
            check_needs(node, wanted, config, module.params["assume_snapshotters"] if module.check_mode else ())
    todo = bool(changes or record or reason)
    if todo and not module.check_mode:
        prove = partial(check_effective, node, wanted, plan, found)
        proven = bool(found.record.pending) and wanted.may_restart and node.is_well()
        transaction = Transaction(node.config_file, found.record, plan.record, changes, proven=proven)
        apply(node, wanted, transaction, config, reason, prove)
    if enable and not module.check_mode:
        node.daemon.unit.enable()
    before = current.cri_snapshotter if current is not None else None
    return {**report(found, plan, files, config, reason, changed=todo or enable), "previous_snapshotter": before}


def installed_or_assumed(module: AnsibleModule, node: ContainerdHost) -> Version | None:
    """Return the installed version; in check mode the assumed one, or None, where nothing is installed yet."""
    assumed, named = module.params["assume_version"], module.params["binary"]
    if node.binary.path is None and named and not (module.check_mode and assumed):
        raise ValueError(f"binary: there is no program {named}: install it first, or name another")
    if node.binary.path is not None or not module.check_mode:
        return node.binary.version()
    return Version.parse(assumed) if assumed else None


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
    }


def service_change(wanted: ConfigRequest) -> FileChange:
    """Plan the drop-in of the unit."""
    path = drop_in_path(wanted.unit)
    after = wanted.service.text() if wanted.present else None
    return FileChange(path, read_text(path), after, 0o600 if wanted.service.environment() else 0o644)


def report(
    found: CurrentConfig,
    plan: ConfigPlan,
    files: Sequence[FileChange],
    config: EffectiveConfig | None,
    reason: str | None,
    *,
    changed: bool,
) -> dict[str, Any]:
    """Return the module's result."""
    result: dict[str, Any] = {
        "changed": changed,
        "version": str(found.version),
        "schema": plan.schema,
        "files": [{"path": change.path, "changed": change.changed, "exists": change.after is not None} for change in files],
        "effective": config.to_dict() if config is not None else {},
        "previous_snapshotter": None,
        "durability": config.pull_durability(found.version) if config is not None else {},
        "restarted": reason is not None,
        "rolled_back": False,
        "diff": [change.diff() for change in files if change.changed],
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
            "load_snapshotters": {"type": "list", "elements": "str", "default": []},
            "assume_snapshotters": {"type": "list", "elements": "str", "default": []},
            "restart": {"type": "str", "choices": [AUTO, NEVER, FORCE], "default": AUTO},
            "unit_enabled": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
        },
        module_type=SecretParamsModule,
        on_failure={"restarted": False, "rolled_back": False},
    )


if __name__ == "__main__":
    main()
