#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_unused_snapshots
short_description: List and remove snapshots of unused containerd snapshotters
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Lists the snapshots of unused snapshotters with their sizes, and removes the layers that nothing needs if O(remove) is V(true).
  - A snapshotter is unused if it is neither the daemon's default, nor used by a runtime handler, nor listed in O(keep_snapshotters).
    Proxy plugins are never touched.
  - After a change of the default snapshotter with M(slipway.node.containerd_config), the old one still has the layers of all images.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  keep_snapshotters:
    description: Snapshotters that are used for another purpose, such as toolboxes. They count as used.
    type: list
    elements: str
    default: []
  namespaces:
    description: The containerd namespaces to examine. Default is all namespaces.
    type: list
    elements: str
  remove:
    description:
      - Remove the layers of unused snapshotters.
      - A layer is removed only if a snapshotter in use has the same layer, and no container, toolbox or other snapshot
        depends on it.
    type: bool
    default: false
  timeout:
    description: Number of seconds to wait for another run on this node.
    type: int
    default: 60
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
notes:
  - In check mode, the module judges by the daemon's present default snapshotter, also if an earlier task would change that.
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.containerd_image
"""

EXAMPLES = r"""
- name: List the snapshots of unused snapshotters
  slipway.node.containerd_unused_snapshots:

- name: Remove the layers of unused snapshotters
  slipway.node.containerd_unused_snapshots:
    remove: true
"""

RETURN = r"""
unused_snapshots:
  description: Snapshots of unused snapshotters; one entry for each snapshotter and namespace.
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
      description: Number of the layers that O(remove) removes.
      type: int
      sample: 9
    removable_bytes:
      description: Size of these layers in bytes.
      type: int
      sample: 629145600
    used_by:
      description: The snapshots because of which the other layers stay.
      type: list
      elements: str
      sample: ["container web of the pod default/web-1"]
freed_bytes:
  description: Size of the layers that were removed, or would be in check mode, in bytes.
  type: int
  returned: success
"""

from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.bytecode  # noqa: F401
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.options import at_least, plain_name
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.unused import SnapshotCleanup
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.unused import UnusedSnapshots


def run(module: AnsibleModule) -> dict[str, Any]:
    """List the snapshots of unused snapshotters, and remove them if requested."""
    params = module.params
    containerd = Containerd.from_module(module)
    keep = [plain_name("keep_snapshotters", name) for name in params["keep_snapshotters"]]
    timeout = at_least(1)("timeout", params["timeout"])
    containerd.check_installed()
    removing = params["remove"] and not module.check_mode
    with exclusive(timeout) if removing else nullcontext():
        cleanup = SnapshotCleanup(containerd, keep)
        found = cleanup.find(params["namespaces"] or containerd.namespaces)
        result = report(cleanup, found, remove=params["remove"])
        for one in found:
            if one.keys and removing:
                cleanup.remove(one)
    return result


def report(cleanup: SnapshotCleanup, found: list[UnusedSnapshots], *, remove: bool) -> dict[str, Any]:
    """Return the module's result."""
    removable = [one for one in found if one.keys] if remove else []
    lines = [f"{one.namespace}: {len(one.keys)} layers of {one.snapshotter}\n" for one in removable]
    return {
        "changed": bool(removable),
        "unused_snapshots": [one.to_dict(cleanup.users(one)) for one in found],
        "freed_bytes": sum(one.removable for one in removable),
        "diff": {"before": "".join(lines), "after": ""},
    }


def main() -> None:
    run_module(
        run,
        {
            "keep_snapshotters": {"type": "list", "elements": "str", "default": []},
            "namespaces": {"type": "list", "elements": "str"},
            "remove": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
