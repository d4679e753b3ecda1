#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: toolbox_snapshot_info
short_description: List toolboxes and mounted snapshots that garbage collection will delete
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Lists the writable snapshots below a directory that don't belong to a container, with their images, ages, sizes, mounts and leases.
    M(slipway.node.toolbox_snapshot), Flatcar's C(toolbox) and C(ctr images mount --rw) create such snapshots. A pinned snapshot stays until
    it is removed.
  - RV(at_risk) lists the mounted writable snapshots of all namespaces that garbage collection deletes, immediately or when a lease
    expires. It deletes them even if they are in use. The mount then remains and is empty.
  - Nothing on the node is changed, and no registry is contacted.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  namespace:
    description: The containerd namespace of the toolboxes.
    type: str
    default: default
  snapshotter:
    description: The snapshotter of the toolboxes. Default is the snapshotter of the daemon's CRI configuration.
    type: str
  path_prefix:
    description: Directory of the toolboxes, which may be at any depth.
    type: path
    default: /var/lib/toolbox
  listed_paths:
    description: Paths of the known toolboxes, for RV(toolboxes[].listed).
    type: list
    elements: path
  prune_after:
    description:
      - An age in one of the units V(s), V(m), V(h), V(d) and V(w), such as V(30d). Toolboxes of at least this age that aren't in
        O(listed_paths) are RV(toolboxes[].prunable). V(0s) selects all of them.
      - Requires O(listed_paths).
    type: str
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
seealso:
  - module: slipway.node.toolbox_snapshot
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
- name: List toolboxes
  slipway.node.toolbox_snapshot_info:
  register: node

- name: Stop if garbage collection will delete a mounted snapshot
  ansible.builtin.assert:
    that: node.at_risk | length == 0
    fail_msg: "{{ node.at_risk | map(attribute='key') | join(', ') }}"

- name: Find unlisted toolboxes older than 30 days
  slipway.node.toolbox_snapshot_info:
    listed_paths: [/var/lib/toolbox/debug]
    prune_after: 30d
  register: old
"""

RETURN = r"""
toolboxes:
  description: The writable snapshots below O(path_prefix) that don't belong to a container, by path.
  returned: always
  type: list
  elements: dict
  contains:
    key:
      description: Key of the snapshot. C(ctr images mount) uses the path as it was typed, including a trailing slash.
      type: str
      sample: /var/lib/toolbox/debug
    path:
      description: The directory of the toolbox.
      type: str
      sample: /var/lib/toolbox/debug
    image:
      description:
        - Name of the image that M(slipway.node.toolbox_snapshot) created it from, or of an image with the same topmost layer.
        - Null if there is no such image, for example because its tag moved.
      type: str
      sample: docker.io/library/debian:13
    image_drift:
      description: Whether RV(toolboxes[].image) now refers to another image on the node; null if unknown, or the image doesn't exist.
      type: bool
    parent:
      description: Key of the parent snapshot, the topmost layer of an image.
      type: str
      sample: sha256:418dccb7d85a63a6aa574439840f7a6fa6fd2321b3e2394568a317735e867d35
    created:
      description: Time of creation.
      type: str
      sample: "2026-01-31T12:00:00.123456789Z"
    size_bytes:
      description: Size of the data written to it in bytes; null if its snapshotter doesn't report it.
      type: int
    pinned:
      description: Whether garbage collection keeps it permanently.
      type: bool
    mounted:
      description: Whether it is mounted at its path; null if unknown.
      type: bool
    lease:
      description: ID of its lease; null if there is none.
      type: str
    lease_expires:
      description: Time when the lease expires; null if it doesn't.
      type: str
      sample: "2026-02-01T12:00:00Z"
    listed:
      description: Whether O(listed_paths) contains its path; null if O(listed_paths) isn't set.
      type: bool
    prunable:
      description: Whether it isn't listed, and is at least as old as O(prune_after).
      type: bool
    unit_enabled:
      description: Whether a unit mounts it at boot.
      type: bool
at_risk:
  description: Mounted writable snapshots, of all namespaces, that only a lease or nothing keeps from garbage collection.
  returned: always
  type: list
  elements: dict
  contains:
    namespace:
      description: The containerd namespace.
      type: str
    snapshotter:
      description: The snapshotter.
      type: str
    key:
      description: Key of the snapshot.
      type: str
    mount_point:
      description: Its mount point; null if unknown.
      type: str
    expires:
      description: Time when its lease expires; null if it has none.
      type: str
    reason:
      description: Why it will be deleted.
      type: str
    certain:
      description: Whether it will certainly be deleted. V(false) if a lease that the module can't read may keep it.
      type: bool
stale_mounts:
  description: Mount points of snapshots that don't exist any more.
  returned: always
  type: list
  elements: str
errors:
  description: Errors of reading, because of which the lists may be incomplete.
  returned: always
  type: list
  elements: str
snapshotter:
  description: The snapshotter that the result is for.
  returned: always
  type: str
  sample: overlayfs
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox_snapshot_info import OPTIONS, RULES, run


def main() -> None:
    run_module(run, OPTIONS, **RULES)


if __name__ == "__main__":
    main()
