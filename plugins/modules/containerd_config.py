#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_config
short_description: Give the running containerd its settings, and prove that it has them
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Translates settings into the configuration schema that the node's containerd reads (1.6 to 2.3), lets the daemon's own
    program try the files, writes them durably, restarts the daemon through systemd if it has to, and looks whether it is
    up, stays up, and has its plugins in order. If it hasn't, the old files come back, the daemon is restarted on them, and
    the module fails with the cause.
  - On containerd 1.x the settings are edited into O(config_file), key by key; comments and keys of others stay. What was
    set, and what was there before, is remembered in a record beside the file (C(config.toml.slipway.json)), so that a
    setting dropped from the inventory is taken back.
  - On containerd 2.x the settings go into O(drop_in), which the module owns, written in the schema of O(config_file). The
    latter is made if it isn't there, and imports the drop-in.
  - A daemon that started before its newest file was changed is restarted though no file has to be changed now.
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
      - With V(present), the daemon has these settings, and none that an earlier run set and this one doesn't name.
      - With V(absent), exactly what the module set is taken back.
    type: str
    choices: [present, absent]
    default: present
  image_pull_sync_fs:
    description:
      - Whether the layers that CRI pulls are flushed to disk before they count as unpacked, so that they survive a power cut.
      - Needs containerd 1.7.14 or newer. Sets every switch that the version needs for it.
    type: bool
  snapshotter:
    description:
      - The snapshotter that images are unpacked for by default. What it needs of the node (a thin pool, a scratch file, the
        program C(mkfs.erofs), the socket of a proxy plugin) is looked for before anything is changed.
      - Images that are there aren't unpacked for it by this module; M(slipway.node.containerd_snapshotter) does that beforehand.
    type: str
  snapshotters:
    description:
      - Tables of snapshotters by name, with the keys of containerd's own configuration.
      - A name that containerd doesn't know is declared as a proxy plugin and needs the key C(address). If it is used, it is told
        which layers images have (C(disable_snapshot_annotations), C(enable_remote_snapshot_annotations)).
      - For V(erofs), the diff service and the transfer service get its differ as well.
    type: dict
    default: {}
  runtimes:
    description: Runtime handlers of the CRI plugin. C(runc) stays, listed or not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the handler, as pods' runtime classes have it.
        type: str
        required: true
      type:
        description: Runtime type, such as V(io.containerd.kata.v2).
        type: str
        default: io.containerd.runc.v2
      path:
        description: Absolute path of the shim, where it isn't found by its type.
        type: path
      config_path:
        description: Configuration file of the runtime (C(options.ConfigPath)).
        type: path
      snapshotter:
        description:
          - Snapshotter of this handler's pods. Needs containerd 1.7 or newer.
          - One that isn't in order in the running daemon, and that O(snapshotters) doesn't change, is refused before anything is done.
          - Where a handler's isn't O(snapshotter), layers that are unpacked are kept (C(discard_unpacked_layers) is off).
        type: str
      privileged_without_host_devices:
        description: Whether privileged containers go without the host's devices.
        type: bool
      pod_annotations:
        description: Patterns of the pod annotations that are passed to the runtime.
        type: list
        elements: str
        default: []
      options:
        description: Further keys of the handler's C(options) table.
        type: dict
        default: {}
  default_runtime:
    description: The handler of pods that name none.
    type: str
  systemd_cgroup:
    description: Whether runc leaves cgroups to systemd (C(SystemdCgroup) of the handler C(runc)).
    type: bool
  sandbox_image:
    description: The image of pods' sandbox containers.
    type: str
  registry_config_path:
    description: Where CRI looks for C(hosts.toml) files; several directories are joined by C(:).
    type: str
  max_concurrent_downloads:
    description: How many layers of an image are downloaded at once.
    type: int
  root:
    description: Where the daemon keeps its data. Nothing is moved there by changing it.
    type: path
  extra:
    description:
      - Raw tables as in containerd's configuration, merged last, for what has no option of its own.
      - Written in the newest schema that the daemon reads, whatever the schema of O(config_file); on 2.x that is schema 3's plugin names.
    type: dict
    default: {}
  enable_cri:
    description:
      - Whether to take the CRI plugin out of C(disabled_plugins) of O(config_file), where Docker's packages put it.
      - Without it, settings for a daemon whose CRI plugin is disabled are refused.
    type: bool
    default: false
  service:
    description: Directives for the C([Service]) section of the unit, such as C(LimitNOFILE) and C(TasksMax).
    type: dict
    default: {}
  proxy:
    description: The proxy through which the daemon pulls. Kept in the unit's drop-in, readable by root alone.
    type: dict
    suboptions:
      http:
        description: Proxy for plain HTTP registries.
        type: str
      https:
        description: Proxy for HTTPS registries.
        type: str
      no_proxy:
        description: Names, addresses and networks that are reached directly.
        type: list
        elements: str
        default: []
  drop_in:
    description: The file that holds the settings on containerd 2.x.
    type: path
    default: /etc/containerd/conf.d/60-slipway.toml
  assume_version:
    description:
      - The version that is going to be installed. Used in check mode alone, on a node that has no containerd yet, to predict the files.
    type: str
  load_snapshotters:
    description:
      - Snapshotters that the daemon has to have loaded though nothing uses them yet, such as the one that is to be the default next.
      - It is restarted if they aren't C(ok).
    type: list
    elements: str
    default: []
  assume_snapshotters:
    description:
      - Snapshotters whose pool, scratch file, program or service is going to be there. Used in check mode alone, where what they
        need would have been made before.
    type: list
    elements: str
    default: []
  apply:
    description:
      - With V(false), files are written after the daemon's program has tried them, but nothing is restarted or probed.
      - The next run with V(true) sees that the daemon is older than its files.
    type: bool
    default: true
  enabled:
    description: Whether to have the unit started at boot. With V(false) that is left as it is.
    type: bool
    default: true
  force_restart:
    description:
      - Whether to restart the daemon although this kills running containers (a unit whose C(KillMode) isn't V(process)), or
        although a new O(root) makes the daemon lose sight of them.
    type: bool
    default: false
  timeout:
    description: How many seconds the daemon has to come up.
    type: float
    default: 60
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, where a file that exists has to be edited, and on Python older than 3.11
  - systemd, unless O(apply=false)
seealso:
  - module: slipway.node.blockfile_scratch
  - module: slipway.node.containerd_snapshotter
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
- name: Pull images in a way that survives a power cut
  slipway.node.containerd_config:
    image_pull_sync_fs: true

- name: A node for Kubernetes with Kata on a thin pool
  slipway.node.containerd_config:
    image_pull_sync_fs: true
    systemd_cgroup: true
    sandbox_image: registry.k8s.io/pause:3.10
    registry_config_path: /etc/containerd/certs.d
    runtimes:
      - name: kata
        type: io.containerd.kata.v2
        privileged_without_host_devices: true
        pod_annotations: ["io.katacontainers.*"]

- name: See what a table of one's own would change
  slipway.node.containerd_config:
    extra:
      plugins:
        io.containerd.gc.v1.scheduler:
          schedule_delay: 1s
  check_mode: true
  diff: true

- name: Take back what was set
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
  description: The files concerned.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Where it is.
      type: str
    changed:
      description: Whether it was written or removed.
      type: bool
    exists:
      description: Whether it is there in the end.
      type: bool
effective:
  description:
    - The settings as the daemon has them, by the names of the options; V(null) where this version has no such setting.
    - Empty where there is no program to ask.
  returned: success
  type: dict
  sample: {"image_pull_sync_fs": true, "snapshotter": "overlayfs"}
previous_snapshotter:
  description:
    - The default snapshotter by the files as they were; null if that isn't known. It is another one than in RV(effective) also if
      O(snapshotter) is set no more, and then images have yet to be unpacked, with M(slipway.node.containerd_snapshotter).
  returned: success
  type: str
  sample: overlayfs
durability:
  description:
    - By pull path (C(cri), C(ctr) pulling with C(--local), the C(transfer) service) whether a pulled image survives a power cut.
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
  description: Why.
  returned: when restarted
  type: str
rolled_back:
  description: Whether the old files came back because the daemon wasn't well on the new ones.
  returned: always
  type: bool
journal:
  description: The last lines that the daemon logged.
  returned: when it wasn't well
  type: list
  elements: str
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.config_apply import apply
from ansible_collections.slipway.node.plugins.module_utils.host.config_checks import check_effective, check_needs, check_roots
from ansible_collections.slipway.node.plugins.module_utils.host.config_node import Node, dump_before
from ansible_collections.slipway.node.plugins.module_utils.host.config_restart import decide
from ansible_collections.slipway.node.plugins.module_utils.host.config_tree import read_text
from ansible_collections.slipway.node.plugins.module_utils.host.discreet import DiscreetModule
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import Transaction, exclusive
from ansible_collections.slipway.node.plugins.module_utils.model import effective
from ansible_collections.slipway.node.plugins.module_utils.model.config_plan import ConfigPlan, Found, plan_config
from ansible_collections.slipway.node.plugins.module_utils.model.config_wanted import PLACES, Wanted
from ansible_collections.slipway.node.plugins.module_utils.model.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.model.tree import Tree
from ansible_collections.slipway.node.plugins.module_utils.model.unit import drop_in_path
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def run(module: AnsibleModule) -> dict[str, Any]:
    with exclusive(module.params["timeout"]) if not module.check_mode else nullcontext():
        return configure(module)


def configure(module: AnsibleModule) -> dict[str, Any]:
    wanted = Wanted.from_params(module.params)
    runner = Runner(module)
    node = Node(runner, unit=wanted.unit, **{key: module.params[key] for key in PLACES})
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
        return report(found, plan, files, {}, "it is new" if changes else None, changed=bool(changes))
    dump = node.dump(plan)
    check_effective(node, wanted, plan, found, dump)
    current = dump_before(node) if changes else dump
    check_roots(current, dump)
    reason, enable = None, False
    if wanted.apply:
        reason, enable = decide(node, wanted, changes, dump, node.daemon.look(), pending=bool(found.record.pending))
        if wanted.present:
            check_needs(runner, wanted, dump, module.params["assume_snapshotters"] if module.check_mode else ())
    todo = bool(changes or record or reason)
    if todo and not module.check_mode:
        prove = partial(check_effective, node, wanted, plan, found)
        proven = bool(found.record.pending) and wanted.apply and node.is_well()
        transaction = Transaction(node.config_file, found.record, plan.record, changes, proven=proven)
        apply(node, wanted, transaction, dump, reason, prove)
    if enable and not module.check_mode:
        node.daemon.unit.enable()
    before = default_snapshotter(current)
    return {**report(found, plan, files, dump, reason, changed=todo or enable), "previous_snapshotter": before}


def installed_or_assumed(module: AnsibleModule, node: Node) -> Version | None:
    """The installed version; in check mode the assumed one, or None, where nothing is installed yet."""
    assumed, named = module.params["assume_version"], module.params["binary"]
    if node.binary.path is None and named and not (module.check_mode and assumed):
        raise ValueError(f"binary: there is no program {named}: install it first, or name another")
    if node.binary.path is not None or not module.check_mode:
        return node.binary.version()
    return Version.parse(assumed) if assumed else None


def unpredictable() -> dict[str, Any]:
    """Check mode on a node without containerd and without a version to assume."""
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


def service_change(wanted: Wanted) -> FileChange:
    path = drop_in_path(wanted.unit)
    after = wanted.service.text() if wanted.present else None
    return FileChange(path, read_text(path), after, 0o600 if wanted.service.environment() else 0o644)


def default_snapshotter(dump: Tree) -> str | None:
    """CRI's; None where there is no CRI."""
    return effective.read(dump)["snapshotter"] or None if dump and not effective.cri_disabled(dump) else None


def report(
    found: Found, plan: ConfigPlan, files: Sequence[FileChange], dump: Tree, reason: str | None, *, changed: bool
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "changed": changed,
        "version": str(found.version),
        "schema": plan.schema,
        "files": [{"path": change.path, "changed": change.changed, "exists": change.after is not None} for change in files],
        "effective": effective.read(dump) if dump else {},
        "previous_snapshotter": None,
        "durability": effective.pull_durability(dump, found.version) if dump else {},
        "restarted": reason is not None,
        "rolled_back": False,
        "diff": [change.diff() for change in files if change.changed],
    }
    if reason is not None:
        result["restart_reason"] = reason
    return result


RUNTIME_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "default": "io.containerd.runc.v2"},
    "path": {"type": "path"},
    "config_path": {"type": "path"},
    "snapshotter": {"type": "str"},
    "privileged_without_host_devices": {"type": "bool"},
    "pod_annotations": {"type": "list", "elements": "str", "default": []},
    "options": {"type": "dict", "default": {}},
}
SETTINGS: dict[str, Any] = {
    "image_pull_sync_fs": {"type": "bool"},
    "snapshotter": {"type": "str"},
    "snapshotters": {"type": "dict", "default": {}},
    "runtimes": {"type": "list", "elements": "dict", "default": [], "options": RUNTIME_SPEC},
    "default_runtime": {"type": "str"},
    "systemd_cgroup": {"type": "bool"},
    "sandbox_image": {"type": "str"},
    "registry_config_path": {"type": "str"},
    "max_concurrent_downloads": {"type": "int"},
    "root": {"type": "path"},
    "extra": {"type": "dict", "default": {}},
}
PROXY_SPEC: dict[str, Any] = {
    "http": {"type": "str", "no_log": True},
    "https": {"type": "str", "no_log": True},
    "no_proxy": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    run_module(
        run,
        {
            **SETTINGS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "enable_cri": {"type": "bool", "default": False},
            "service": {"type": "dict", "default": {}},
            "proxy": {"type": "dict", "options": PROXY_SPEC},
            "config_file": {"type": "path", "default": "/etc/containerd/config.toml"},
            "drop_in": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
            "binary": {"type": "path"},
            "assume_version": {"type": "str"},
            "load_snapshotters": {"type": "list", "elements": "str", "default": []},
            "assume_snapshotters": {"type": "list", "elements": "str", "default": []},
            "unit": {"type": "str", "default": "containerd.service"},
            "address": {"type": "path", "default": "/run/containerd/containerd.sock"},
            "apply": {"type": "bool", "default": True},
            "enabled": {"type": "bool", "default": True},
            "force_restart": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60},
        },
        module_type=DiscreetModule,
        on_failure={"restarted": False, "rolled_back": False},
    )


if __name__ == "__main__":
    main()
