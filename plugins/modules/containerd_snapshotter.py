#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_snapshotter
short_description: Unpack a node's images for another snapshotter
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Makes a snapshotter ready to become the default. Every image that is unpacked for the old one is unpacked for it as well, from
    the blobs that are in the content store, without a network, and brought to disk. What an image would miss, and what room all of
    it takes, is found out first.
  - Containers go on as they are, with the snapshots that they have. What the old snapshotter still holds is listed with its
    size, and removed only with O(remove), as far as nothing uses it.
  - The default itself is a setting of M(slipway.node.containerd_config), which comes after this. The role
    P(slipway.node.containerd#role) does both, in that order, when C(containerd_snapshotter) is changed.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The snapshotter that images are to be unpacked for. The daemon has to have loaded it.
    type: str
    required: true
  source:
    description:
      - The snapshotter whose images are taken. By default the one that is the daemon's default now; if that is O(name), there is
        nothing to unpack.
      - If the daemon hasn't loaded it, such as a thin pool's that is lost, the images are taken that were unpacked for it.
    type: str
  namespaces:
    description: containerd's namespaces whose images are taken. All of them by default.
    type: list
    elements: str
  remove:
    description:
      - Whether layers are removed that snapshotters hold which are used no more, that is neither the daemon's default nor that of a
        runtime handler. Proxy plugins are left alone.
      - What containers, toolboxes and other snapshots stand on stays, and so do layers that no snapshotter in use has as well, such
        as those of an image that isn't unpacked for O(name), or those that only a lease holds.
      - Needs O(name) to be the default already.
    type: bool
    default: false
  keep:
    description: Snapshotters that are used for something else, such as toolboxes. They count as in use.
    type: list
    elements: str
    default: []
  unready:
    description:
      - What to do if the daemon doesn't run, or has not loaded O(name). With V(ignore) nothing is done, and RV(ready) is V(false).
      - With V(assume), check mode takes it that the daemon will have loaded it, and that it will be the default when O(remove) is
        asked for. Outside of check mode that is as V(fail).
    type: str
    choices: [fail, ignore, assume]
    default: fail
  timeout:
    description: Seconds for which to wait for another run, and that unpacking one image may take.
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
- name: Have all images for erofs as well
  slipway.node.containerd_snapshotter:
    name: erofs

- name: Make it the default
  slipway.node.containerd_config:
    settings:
      snapshotter: erofs

- name: Give back the room that the old one takes
  slipway.node.containerd_snapshotter:
    name: erofs
    remove: true
"""

RETURN = r"""
name:
  description: The snapshotter that images are unpacked for.
  type: str
  returned: success
  sample: erofs
source:
  description: The one whose images were taken; null if there was nothing to take.
  type: str
  returned: success
  sample: overlayfs
default:
  description: The snapshotter that is the daemon's default now; null if it isn't known.
  type: str
  returned: success
  sample: overlayfs
ready:
  description: Whether the daemon runs and has the snapshotter.
  type: bool
  returned: success
reason:
  description: Why it isn't ready.
  type: str
  returned: success, when it isn't
images:
  description: The images that were unpacked, or would be in check mode.
  type: list
  elements: dict
  returned: success
  sample: [{"name": "docker.io/library/alpine:3.22", "namespace": "k8s.io", "layers": 1}]
skipped:
  description: Images that can't be unpacked on this node at all, such as those for another platform, and why.
  type: dict
  returned: success
needed:
  description: Bytes that unpacking takes, about.
  type: int
  returned: success
free:
  description: Bytes that were free where the snapshotter keeps its layers.
  type: int
  returned: success
left:
  description:
    - What snapshotters hold that are used no more, or will not be once O(name) is the default. C(size) and C(removable) are bytes,
      C(used_by) says what keeps the rest.
  type: list
  elements: dict
  returned: success
  sample:
    - snapshotter: overlayfs
      namespace: k8s.io
      layers: 12
      size: 734003200
      removable_layers: 9
      removable: 629145600
      used_by: ["container web of the pod default/web-1"]
removed:
  description: Bytes of the layers that were removed, or would be in check mode.
  type: int
  returned: success
synced:
  description: The file systems that were brought to disk, by a directory on each, and how many seconds that took.
  type: list
  elements: dict
  returned: success
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.containerd import NOT_INSTALLED
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.image_steps import Outcome
from ansible_collections.slipway.node.plugins.module_utils.host.scratch import read_scratch
from ansible_collections.slipway.node.plugins.module_utils.host.snapshotter_needs import blockfile_copy, unmet
from ansible_collections.slipway.node.plugins.module_utils.host.snapshotter_switch import Plan, Switch
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import exclusive
from ansible_collections.slipway.node.plugins.module_utils.model.settings import BUILTIN_SNAPSHOTTERS, plain_name
from ansible_collections.slipway.node.plugins.module_utils.model.switch import Left
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


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
    if params["source"] is not None:
        plain_name("source", params["source"])
    if params["timeout"] < 1:
        raise ValueError(f"timeout has to be at least 1, not {params['timeout']}")
    assumed, ignored = module.check_mode and params["unready"] == "assume", params["unready"] == "ignore"
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
    if params["remove"] and default != name and not assumed:
        raise ValueError(f"remove: {default} is the default still: make {name} the default first")
    return {**have(module, containerd), "default": default, "ready": not reason}


def have(module: AnsibleModule, containerd: Containerd) -> dict[str, Any]:
    params, check = module.params, module.check_mode
    name, source = params["name"], params["source"] or containerd.config.default_snapshotter
    with nullcontext(-1) if check else exclusive(params["timeout"]) as lock:
        switch = Switch(containerd, names=(source, name), timeout=float(params["timeout"]))
        spaces = params["namespaces"] or containerd.namespaces
        if source not in containerd.snapshotters and not any(map(switch.held, spaces)):
            raise ValueError(
                f"source: the daemon has no snapshotter {source}, and no image was unpacked for it: correct the name"
            )
        copied = read_scratch(blockfile_copy(containerd.config)) if name == "blockfile" else None
        plan = switch.plan(spaces, watch=check, copied=copied.size if copied else 0) if source != name else Plan()
        outcomes = [] if check else [switch.apply(task, lock)[0] for task in plan.tasks]
        used, unused = shared_out(containerd, name, params["keep"])
        left = switch.left(spaces, unused, used, plan)
        result = report(name, source if source != name else None, plan, outcomes)
        result["left"] = [one.to_dict(switch.users(one)) for one in left]
        failures = [failure for outcome in outcomes for failure in outcome.failures.values()]
        if failures:
            return {**result, "failed": True, "msg": "; ".join(failures)}
        if params["remove"]:
            result["removed"] = remove(switch, left, check=check)
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
        "source": source,
        "images": images,
        "skipped": plan.skipped,
        "needed": plan.needed,
        "free": plan.free,
        "left": [],
        "removed": 0,
        "synced": synced,
        "diff": {"before": "", "after": "".join(f"{one['namespace']}/{one['name']}: unpack for {name}\n" for one in images)},
    }


def main() -> None:
    run_module(
        run,
        {
            "name": {"type": "str", "required": True},
            "source": {"type": "str"},
            "namespaces": {"type": "list", "elements": "str"},
            "remove": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "unready": {"type": "str", "choices": ["fail", "ignore", "assume"], "default": "fail"},
            "timeout": {"type": "int", "default": 1800},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
