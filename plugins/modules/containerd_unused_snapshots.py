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

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.containerd_unused_snapshots import OPTIONS, run


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
