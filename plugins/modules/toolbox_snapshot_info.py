#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: toolbox_snapshot_info
short_description: List a node's toolboxes, and the mounted snapshots that garbage collection is going to delete
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Lists the writable snapshots under a directory that no container has, such as M(slipway.node.toolbox_snapshot), Flatcar's C(toolbox) and
    C(ctr images mount --rw) make them, with their images, ages, sizes, mounts and leases. A pinned one stays until somebody removes it.
  - RV(at_risk) are the mounted writable snapshots of all namespaces that garbage collection deletes, at once or when a lease ends. It does
    so under their users; the mount stays and lists nothing.
  - Nothing on the node is changed, and no registry is asked.
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
    description: Their snapshotter. That of the daemon's CRI configuration if it is left out.
    type: str
  path_prefix:
    description: The directory that the toolboxes are in, at any depth.
    type: path
    default: /var/lib/toolbox
  expected:
    description: Paths of the toolboxes that are known. Unless it is left out, RV(toolboxes[].listed) says whether each is one of them.
    type: list
    elements: path
  prune_after:
    description:
      - An age such as V(30d), in one of the units V(s), V(m), V(h), V(d) and V(w). Toolboxes of this age or older that O(expected)
        doesn't have are RV(toolboxes[].prunable). V(0s) means all of them.
      - It needs O(expected).
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
- name: Which toolboxes are there?
  slipway.node.toolbox_snapshot_info:
  register: node

- name: Stop if somebody is going to lose what is in a toolbox
  ansible.builtin.assert:
    that: node.at_risk | length == 0
    fail_msg: "{{ node.at_risk | map(attribute='key') | join(', ') }}"

- name: Which toolboxes are older than a month, and nobody lists them?
  slipway.node.toolbox_snapshot_info:
    expected: [/var/lib/toolbox/debug]
    prune_after: 30d
  register: old
"""

RETURN = r"""
toolboxes:
  description: The writable snapshots under O(path_prefix) that no container has, by path.
  returned: always
  type: list
  elements: dict
  contains:
    key:
      description: Name of the snapshot. C(ctr images mount) takes it as it was typed, perhaps with a slash at the end.
      type: str
      sample: /var/lib/toolbox/debug
    path:
      description: The directory that it is for.
      type: str
      sample: /var/lib/toolbox/debug
    image:
      description: Name of the image that M(slipway.node.toolbox_snapshot) was told to make it of; else of an image of the namespace
        that it stands on, none if there is none (any more), as when its tag was moved.
      type: str
      sample: docker.io/library/debian:13
    drift:
      description: Whether that name stands for another image on the node by now; none if it isn't known what it was made of, or the
        image isn't there.
      type: bool
    parent:
      description: The snapshot that it stands on, the topmost layer of an image.
      type: str
      sample: sha256:418dccb7d85a63a6aa574439840f7a6fa6fd2321b3e2394568a317735e867d35
    created:
      description: When it was made.
      type: str
      sample: "2026-01-31T12:00:00.123456789Z"
    size:
      description: Bytes that were written to it; none if its snapshotter doesn't say.
      type: int
    pinned:
      description: Whether it is kept from garbage collection for good.
      type: bool
    mounted:
      description: Whether it is what is seen at its path; none if that can't be told.
      type: bool
    lease:
      description: The lease that was made for it; none if there is none.
      type: str
    lease_expires:
      description: When that ends; none if it doesn't.
      type: str
      sample: "2026-02-01T12:00:00Z"
    listed:
      description: Whether O(expected) has it; none if that was left out.
      type: bool
    prunable:
      description: Whether O(expected) hasn't, and it is at least as old as O(prune_after).
      type: bool
    unit_enabled:
      description: Whether a unit mounts it at boot.
      type: bool
at_risk:
  description: Mounted writable snapshots, of all namespaces, that nothing keeps or a lease keeps for a while.
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
      description: Name of the snapshot.
      type: str
    mount_point:
      description: Where it is mounted; none if that can't be told.
      type: str
    expires:
      description: When the lease ends that was made for it; none if it has none.
      type: str
    reason:
      description: Why it is deleted.
      type: str
    certain:
      description: Whether nothing that can't be seen may keep it. What a lease of another name keeps can't be seen.
      type: bool
lost:
  description: Mount points of snapshots that are gone already.
  returned: always
  type: list
  elements: str
unread:
  description: What couldn't be read, and so isn't in the lists.
  returned: always
  type: list
  elements: str
snapshotter:
  description: The snapshotter that was looked at.
  returned: always
  type: str
  sample: overlayfs
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.host.toolbox_state import (
    NodeMounts,
    WritableSnapshots,
    enabled_units,
)
from ansible_collections.slipway.node.plugins.module_utils.model.settings import absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox_state import (
    Held,
    is_below,
    is_prunable,
    parse_duration,
    plain_path,
    risk_of,
)
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


class Chains:
    """The topmost layers of a namespace's images, read one after the other as far as they are needed."""

    def __init__(self, store: NamespaceStore, platform: str) -> None:
        self._store = store
        self._platform = platform
        self._references = {one.name: one for one in store.images.references()}
        self._blobs = store.content.digests() if self._references else frozenset()
        self._known: dict[str, str | None] = {}

    def name_of(self, chain_id: str) -> str | None:
        """The image of a topmost layer; None if there is none."""
        tagged = sorted(name for name in self._references if "@sha256:" not in name)
        return next((name for name in tagged if chain_id and self.of(name) == chain_id), None)

    def of(self, name: str) -> str | None:
        """The topmost layer of an image, empty if it has none; None if it isn't there, or that can't be told."""
        if name not in self._known:
            self._known[name] = self._read(name) if name in self._references else None
        return self._known[name]

    def _read(self, name: str) -> str | None:
        try:
            chain = self._store.images.read(self._references[name], self._platform, self._blobs).config.chain_ids
        except (ValueError, HostError):
            return None
        return chain[-1] if chain else ""


def described(held: Held, chains: Chains) -> dict[str, Any]:
    """What containerd knows of a toolbox."""
    chain = chains.of(held.image) if held.image else None
    return {
        "key": held.key,
        "path": held.path,
        "image": held.image or chains.name_of(held.parent),
        "drift": chain != held.parent if chain is not None else None,
        "parent": held.parent,
        "created": held.created,
        "pinned": held.pinned,
        "mounted": held.mounted,
        "lease": held.lease.id if held.lease else None,
        "lease_expires": (held.lease.expires or None) if held.lease else None,
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    containerd = Containerd.from_module(module)
    absolute_path("path_prefix", params["path_prefix"])
    namespace = plain_name("namespace", params["namespace"])
    expected = None if params["expected"] is None else {plain_path(absolute_path("expected", one)) for one in params["expected"]}
    age = None if params["prune_after"] is None else parse_duration("prune_after", params["prune_after"])
    containerd.check_installed()
    snapshotter = params["snapshotter"]
    if snapshotter is None:
        snapshotter = containerd.config.default_snapshotter
    loaded = containerd.loaded_snapshotters
    if plain_name("snapshotter", snapshotter) not in loaded:
        raise HostError(f"the daemon has no snapshotter {snapshotter}: take one of {', '.join(loaded)}")
    mounts = NodeMounts()
    snapshots = WritableSnapshots(containerd.ctr, mounts)
    everything = snapshots.all(loaded)
    own = [one for one in everything if (one.namespace, one.snapshotter) == (namespace, snapshotter)]
    found = sorted((one for one in own if is_below(one.path, params["path_prefix"])), key=lambda one: (one.path, one.key))
    enabled = enabled_units(containerd.runner, [one.path for one in found])
    chains = Chains(containerd.store(namespace), containerd.platform) if found else None
    toolboxes = []
    for one in found:
        listed = None if expected is None else one.path in expected
        toolboxes.append(
            {
                **(described(one, chains) if chains else {}),
                "size": snapshots.size(one),
                "listed": listed,
                "prunable": is_prunable(one, bool(listed), age, time.time()),
                "unit_enabled": enabled.get(one.path, False),
            }
        )
    return {
        "changed": False,
        "toolboxes": toolboxes,
        "at_risk": [risk.to_dict() for risk in map(risk_of, everything) if risk is not None],
        "lost": list(mounts.lost()),
        "unread": list(dict.fromkeys(snapshots.trouble)),
        "snapshotter": snapshotter,
    }


def main() -> None:
    run_module(
        run,
        {
            "namespace": {"type": "str", "default": "default"},
            "snapshotter": {"type": "str"},
            "path_prefix": {"type": "path", "default": "/var/lib/toolbox"},
            "expected": {"type": "list", "elements": "path"},
            "prune_after": {"type": "str"},
            **Containerd.OPTIONS,
        },
        required_by={"prune_after": ("expected",)},
    )


if __name__ == "__main__":
    main()
