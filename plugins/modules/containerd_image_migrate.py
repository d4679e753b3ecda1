#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image_migrate
short_description: Unpack images for another containerd snapshotter
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Prepares a snapshotter to become the default. Every image that is unpacked for the old snapshotter is also unpacked for the new
    one, from the local content store without a network, and flushed to disk.
  - The module first checks that all layers are available and that the disk has room for them.
  - Running containers keep their snapshots. The module lists the snapshots of unused snapshotters with their sizes, and removes
    layers that nothing needs only with O(remove_unused).
  - The default snapshotter is a setting of M(slipway.node.containerd_config), to be changed afterwards. The role
    P(slipway.node.containerd#role) does both in this order when C(containerd_snapshotter) changes.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The snapshotter to unpack images for. The daemon must have loaded it.
    type: str
    required: true
  from_snapshotter:
    description:
      - The snapshotter whose images are unpacked for O(name). Default is the daemon's default snapshotter; if that is O(name),
        nothing is unpacked.
      - If the daemon can't load it, for example after the loss of a thin pool, the module takes the images that were unpacked for it.
    type: str
  namespaces:
    description: The containerd namespaces of the images. Default is all namespaces.
    type: list
    elements: str
  remove_unused:
    description:
      - Remove the layers of unused snapshotters. A snapshotter is unused if it is neither the daemon's default, nor used by a
        runtime handler, nor listed in O(keep_snapshotters). Proxy plugins are never touched.
      - A layer is removed only if a snapshotter in use has the same layer, and no container, toolbox or other snapshot
        depends on it.
      - O(name) must already be the default.
    type: bool
    default: false
  keep_snapshotters:
    description: Snapshotters that are used for another purpose, such as toolboxes. They count as used.
    type: list
    elements: str
    default: []
  on_not_loaded:
    description:
      - What to do if the daemon doesn't run or hasn't loaded O(name).
      - V(fail) fails.
      - V(ignore) does nothing. RV(ready) is V(false).
      - V(assume) predicts in check mode as if the snapshotter were loaded, and were the default for O(remove_unused). Outside check mode
        it is the same as V(fail).
    type: str
    choices: [fail, ignore, assume]
    default: fail
  timeout:
    description: Seconds to wait for another run on this node, and seconds that unpacking one image may take.
    type: int
    default: 1800
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.containerd_image
"""

EXAMPLES = r"""
- name: Unpack all images for erofs
  slipway.node.containerd_image_migrate:
    name: erofs

- name: Make erofs the default snapshotter
  slipway.node.containerd_config:
    settings:
      snapshotter: erofs

- name: Remove the layers of the old snapshotter
  slipway.node.containerd_image_migrate:
    name: erofs
    remove_unused: true
"""

RETURN = r"""
name:
  description: The snapshotter that images are unpacked for.
  type: str
  returned: success
  sample: erofs
from_snapshotter:
  description: The snapshotter whose images were unpacked for RV(name); null if it is RV(name), or nothing was done.
  type: str
  returned: success
  sample: overlayfs
default:
  description: The daemon's default snapshotter; null if the daemon doesn't answer.
  type: str
  returned: success
  sample: overlayfs
ready:
  description: Whether the daemon runs and has loaded the snapshotter.
  type: bool
  returned: success
reason:
  description: Why RV(ready) is V(false).
  type: str
  returned: success, when RV(ready) is V(false)
images:
  description: The images that were unpacked, or would be in check mode.
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
  description: Free space in the directory of the snapshotter before unpacking, in bytes.
  type: int
  returned: success
unused_snapshots:
  description: Snapshots of snapshotters that are unused, or will be when O(name) is the default; one entry for each snapshotter and namespace.
  type: list
  elements: dict
  returned: success
  contains:
    snapshotter:
      description: The unused snapshotter.
      type: str
      sample: overlayfs
    namespace:
      description: The containerd namespace.
      type: str
      sample: k8s.io
    layers:
      description: Number of layers.
      type: int
      sample: 12
    size_bytes:
      description: Size of all snapshots in bytes.
      type: int
      sample: 734003200
    removable_layers:
      description: Number of the layers that O(remove_unused) removes.
      type: int
      sample: 9
    removable_bytes:
      description: Size of these layers in bytes.
      type: int
      sample: 629145600
    used_by:
      description: Containers, images and snapshots that need the other layers.
      type: list
      elements: str
      sample: ["container web of the pod default/web-1"]
freed_bytes:
  description: Size of the layers that were removed, or would be in check mode.
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
    duration:
      description: Seconds that flushing took.
      type: float
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NOT_INSTALLED
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.options import plain_name
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import Outcome
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.migration import Plan, Switch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import blockfile_copy, unmet
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import read_scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import Left


def why_silent(containerd: Containerd) -> str:
    """Why the daemon can't be asked; empty if it answers."""
    if not containerd.installed:
        return NOT_INSTALLED
    try:
        plugins = containerd.plugins
    except HostError as error:
        return str(error)
    return "" if plugins else f"the daemon at {containerd.address} lists no plugins"


def why_not_loaded(containerd: Containerd, name: str) -> str:
    """Why the daemon can't work with a snapshotter; empty if it can."""
    if name in containerd.loaded_snapshotters:
        return ""
    known = containerd.snapshotters.get(name)
    said = containerd.ctr.plugin_reason(name) if known is not None else "it isn't configured"
    return f"the daemon hasn't loaded the snapshotter {name}: {said or known}"


def shared_out(containerd: Containerd, name: str, keep: Sequence[str]) -> tuple[list[str], list[str]]:
    """Snapshotters that are the default, a handler's, or to be kept once ``name`` is the default; and those that are none."""
    used = {name, *keep, *(handler.snapshotter for handler in containerd.config.handlers.values())}
    loaded = containerd.loaded_snapshotters
    return [one for one in loaded if one in used], [one for one in loaded if one not in used and one in BUILTIN_SNAPSHOTTERS]


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    containerd = Containerd.from_module(module)
    name = plain_name("name", params["name"])
    if params["from_snapshotter"] is not None:
        plain_name("from_snapshotter", params["from_snapshotter"])
    if params["timeout"] < 1:
        raise ValueError(f"timeout has to be at least 1, not {params['timeout']}")
    assumed, ignored = module.check_mode and params["on_not_loaded"] == "assume", params["on_not_loaded"] == "ignore"
    silent = why_silent(containerd)
    reason = silent or why_not_loaded(containerd, name)
    missing = unmet(containerd.runner, containerd.config, [name]).get(name, "") if not reason else ""
    if missing and not assumed and not ignored:
        raise ValueError(missing)
    reason = reason or ("" if assumed else missing)
    default = None if silent else containerd.config.default_snapshotter
    if reason and (silent or not assumed):
        if not ignored and not assumed:
            raise ValueError(f"{reason}: give the daemon its settings with slipway.node.containerd_config first")
        return {**report(name, None, Plan(), []), "default": default, "ready": False, "reason": reason}
    if params["remove_unused"] and default != name and not assumed:
        raise ValueError(f"remove_unused: {default} is still the default: make {name} the default first")
    return {**migrate(module, containerd), "default": default, "ready": not reason}


def migrate(module: AnsibleModule, containerd: Containerd) -> dict[str, Any]:
    params, check = module.params, module.check_mode
    name, source = params["name"], params["from_snapshotter"] or containerd.config.default_snapshotter
    with nullcontext(-1) if check else exclusive(params["timeout"]) as lock:
        switch = Switch(containerd, names=(source, name), timeout=float(params["timeout"]))
        spaces = params["namespaces"] or containerd.namespaces
        if source not in containerd.snapshotters and not any(map(switch.held, spaces)):
            raise ValueError(
                f"from_snapshotter: the daemon has no snapshotter {source}, and no image was unpacked for it: correct the name"
            )
        copied = read_scratch(blockfile_copy(containerd.config)) if name == "blockfile" else None
        plan = switch.plan(spaces, watch=check, copied=copied.size if copied else 0) if source != name else Plan()
        outcomes = [] if check else [switch.apply(task, lock)[0] for task in plan.tasks]
        used, unused = shared_out(containerd, name, params["keep_snapshotters"])
        left = switch.left(spaces, unused, used, plan)
        result = report(name, source if source != name else None, plan, outcomes)
        result["unused_snapshots"] = [one.to_dict(switch.users(one)) for one in left]
        failures = [failure for outcome in outcomes for failure in outcome.failures.values()]
        if failures:
            return {**result, "failed": True, "msg": "; ".join(failures)}
        if params["remove_unused"]:
            result["freed_bytes"] = remove(switch, left, check=check)
            result["changed"] = result["changed"] or any(one.keys for one in left)
    return result


def remove(switch: Switch, left: list[Left], *, check: bool) -> int:
    """Bytes of what is removed."""
    for one in left:
        if one.keys and not check:
            switch.remove(one)
    return sum(one.removable for one in left)


def report(name: str, source: str | None, plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    images = [
        {"name": one.name, "namespace": task.namespace, "layers": len(one.chain)} for task in plan.tasks for one in task.images
    ]
    synced = [one.to_dict() for outcome in outcomes for one in outcome.synced]
    return {
        "changed": bool(plan.tasks),
        "name": name,
        "from_snapshotter": source,
        "images": images,
        "skipped_images": plan.skipped,
        "needed_bytes": plan.needed,
        "free_bytes": plan.free,
        "unused_snapshots": [],
        "freed_bytes": 0,
        "synced": synced,
        "diff": {"before": "", "after": "".join(f"{one['namespace']}/{one['name']}: unpack for {name}\n" for one in images)},
    }


def main() -> None:
    run_module(
        run,
        {
            "name": {"type": "str", "required": True},
            "from_snapshotter": {"type": "str"},
            "namespaces": {"type": "list", "elements": "str"},
            "remove_unused": {"type": "bool", "default": False},
            "keep_snapshotters": {"type": "list", "elements": "str", "default": []},
            "on_not_loaded": {"type": "str", "choices": ["fail", "ignore", "assume"], "default": "fail"},
            "timeout": {"type": "int", "default": 1800},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
