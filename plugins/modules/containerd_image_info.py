#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image_info
short_description: List a node's images, and how many layers an image may have there
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Lists images with their layers and sizes, whether they are unpacked, and whether overlayfs can mount them on this node.
  - The options of an overlay mount have to fit in one page of memory, and name every layer by its snapshot id. So the number of
    layers that an image may have depends on the length of paths, and shrinks as the ids grow with the node's age. Pulling an
    image doesn't mount it, so one with too many layers fails when its first container is started. RV(headroom) is the limit
    for an image that is pulled now.
  - Nothing on the node is changed, and no registry is asked.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - Names of images, as containerd has them, such as V(docker.io/library/alpine:3.22).
      - All images of the namespace if it is left out.
    type: list
    elements: str
  namespace:
    description: The containerd namespace. That of the kubelet is V(k8s.io).
    type: str
    default: default
  snapshotter:
    description: The snapshotter that the images are unpacked for. That of the daemon's CRI configuration if it is left out.
    type: str
  integrity:
    description:
      - How closely the images are compared with the layers that they were unpacked from, see M(slipway.node.containerd_image).
        For that a read-only view of each is mounted for a moment, where nobody else sees it.
    type: str
    choices: [none, metadata, content]
    default: none
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
seealso:
  - module: slipway.node.containerd_image
  - module: slipway.node.node_verify
"""

EXAMPLES = r"""
- name: How many layers may an image have on this node?
  slipway.node.containerd_image_info:
    name: []
  register: node

- name: Stop before the node can't start what is going to be deployed
  ansible.builtin.assert:
    that: node.headroom.layers_lasting >= 128
    fail_msg: "{{ node.headroom.reason }}"

- name: Are the kubelet's images as their layers?
  slipway.node.containerd_image_info:
    namespace: k8s.io
    integrity: content

- name: Look at two of the kubelet's images
  slipway.node.containerd_image_info:
    name:
      - registry.k8s.io/pause:3.10
      - docker.io/library/alpine:3.22
    namespace: k8s.io
"""

RETURN = r"""
images:
  description: The images, in the order of O(name), else by name. Of one that isn't there, only C(name) and C(present).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: docker.io/library/alpine:3.22
    present:
      description: Whether the namespace has an image of this name.
      type: bool
    digest:
      description: Digest of the index or manifest that the name stands for.
      type: str
      sample: sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1
    media_type:
      description: Type of that index or manifest.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    platform:
      description: Operating system and architecture of the image that the node would run; none if that can't be told.
      type: str
      sample: linux/amd64
    layers:
      description: Number of its layers; none if that can't be told.
      type: int
    chain_id:
      description: Name of its topmost layer's snapshot; none if it has no layers, or that can't be told.
      type: str
      sample: sha256:418dccb7d85a63a6aa574439840f7a6fa6fd2321b3e2394568a317735e867d35
    size:
      description:
        - Bytes of its blobs that are in the content store, compressed as they are, each counted once; its index and those of
          the node's platform alone. None if that can't be told.
      type: int
    unpacked:
      description: Whether the snapshotter has its topmost layer's snapshot; none if it has no layers, or that can't be told.
      type: bool
    durability:
      description:
        - V(durable) if M(slipway.node.containerd_image) brought its layers to disk for the snapshotter, V(unknown) else. Most images that
          other tools pulled a minute ago are on disk as well; nobody has made sure of it.
      type: str
    integrity:
      description:
        - What came of comparing it with its layers, V(intact), V(damaged), or V(unknown) with the reason; none if that
          wasn't asked for, or its documents can't be understood.
      type: str
    differences:
      description: What was found wrong, by path; the first 100 of them.
      returned: when it was compared
      type: dict
      sample: {"/usr/lib/libc.so.6": "is empty, should have 1926256 bytes"}
    difference_count:
      description: How many files are not as in the layers.
      returned: when it was compared
      type: int
    file_count:
      description: How many files there should be.
      returned: when it was compared
      type: int
    damaged_blobs:
      description: Digests of its layers and documents that are not in the content store as they have to be.
      returned: when it was compared
      type: list
      elements: str
    integrity_reason:
      description: Why it can't be told whether it is intact; empty if it can.
      returned: when it was compared
      type: str
    mountable:
      description:
        - Whether overlayfs can mount it for a container; none if that can't be told, which is so for images of more layers than
          RV(headroom.layers_lasting) until they are unpacked.
      type: bool
    reason:
      description: Why it can't be mounted, or why something can't be told. Empty if there is nothing to say.
      type: str
headroom:
  description: What a node's overlayfs has room for; none with another snapshotter.
  returned: always
  type: dict
  contains:
    layers_max:
      description:
        - Largest number of layers of an image that is pulled now, one that shares no layer with those already there, if its first
          snapshot gets the id RV(headroom.next_id).
      type: int
      sample: 488
    layers_lasting:
      description: The same while snapshot ids have at most 7 digits. Images that keep to it can be mounted for the node's life.
      type: int
      sample: 354
    reason:
      description: What sets this limit.
      type: str
    root:
      description: The snapshotter's directory.
      type: str
      sample: /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs
    root_length:
      description: Length of that path in characters.
      type: int
      sample: 58
    next_id:
      description: The least id that the next snapshot can get. If the latest snapshots have been removed, it gets a greater one.
      type: int
      sample: 1041
    digits:
      description: Number of digits of that id.
      type: int
      sample: 4
    page_size:
      description: The kernel's page size in bytes.
      type: int
      sample: 4096
    mount_options:
      description: Options that every mount has beside its directories.
      type: list
      elements: str
      sample: ["index=off"]
headroom_reason:
  description: Why there is no RV(headroom); empty if there is one.
  returned: always
  type: str
snapshotter:
  description: The snapshotter that was looked at.
  returned: always
  type: str
  sample: overlayfs
snapshotters:
  description: Those that the daemon's CRI uses, its default first and then those of its handlers; without the handlers' proxy plugins.
  returned: always
  type: list
  elements: str
  sample: [overlayfs, devmapper]
namespaces:
  description: The daemon's namespaces.
  returned: always
  type: list
  elements: str
  sample: [default, k8s.io]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.mending import Mender, details, trees_directory
from ansible_collections.slipway.node.plugins.module_utils.host.store_images import Reference
from ansible_collections.slipway.node.plugins.module_utils.host.store_paths import content_root, read_overlay, snapshot_ids
from ansible_collections.slipway.node.plugins.module_utils.model import durability
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import LEVELS, UNCOMPARED
from ansible_collections.slipway.node.plugins.module_utils.model.layers import Overlay, Verdict, headroom, judge_present, next_id
from ansible_collections.slipway.node.plugins.module_utils.model.settings import (
    BUILTIN_SNAPSHOTTERS,
    one_line,
    plain_name,
)
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


class ImageReport:
    """The images of one namespace, unpacked for one snapshotter; ``level`` is how closely they are compared with their layers."""

    def __init__(self, containerd: Containerd, namespace: str, snapshotter: str, level: str) -> None:
        self._ctr = containerd.ctr
        self._namespace = namespace
        self._level = level
        self._store = containerd.store(namespace)
        self._blobs = self._store.content.digests()
        self._snapshots = self._store.snapshots(snapshotter).layers()
        self._snapshotter = snapshotter
        self._platform = containerd.platform
        self.trouble = ""
        self._overlay: Overlay | None = None
        self._ids: tuple[int, ...] = ()
        if snapshotter != "overlayfs":
            self.trouble = f"the number of layers that the snapshotter {snapshotter} can mount is not known"
            return
        try:
            overlay = read_overlay(self._ctr, containerd.config)
            self._ids = snapshot_ids(overlay)
            self._overlay = overlay
        except HostError as error:
            self.trouble = str(error)

    def headroom(self) -> dict[str, Any] | None:
        return headroom(self._overlay, next_id(self._ids)).to_dict() if self._overlay else None

    def listed(self, names: list[str] | None) -> list[dict[str, Any]]:
        there = {reference.name: reference for reference in self._store.images.references()}
        wanted = sorted(there) if names is None else list(dict.fromkeys(names))
        compared = self._compared([name for name in wanted if name in there]) if self._level != UNCOMPARED else {}
        return [
            {**self._described(there[name]), **compared.get(name, {})} if name in there else {"name": name, "present": False}
            for name in wanted
        ]

    def _compared(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """By name, of those that can be understood."""
        root = content_root(self._ctr)
        options = {"content_root": root, "platform": self._platform, "level": self._level, "trees": trees_directory(root)}
        mender = Mender(self._ctr, self._namespace, self._snapshotter, **options)
        return {name: details(found) for name, found in mender.judge(names).items()}

    def _described(self, reference: Reference) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": reference.name,
            "present": True,
            "digest": reference.digest,
            "media_type": reference.media_type,
            "durability": durability.DURABLE if self._snapshotter in reference.synced else durability.UNKNOWN,
            "integrity": None,
            **dict.fromkeys(("platform", "layers", "chain_id", "size", "unpacked", "mountable")),
        }
        try:
            content = self._store.images.read(reference, self._platform, self._blobs)
        except (ValueError, HostError) as error:
            return {**found, "reason": str(error)}
        chain = content.config.chain_ids
        verdict = self._verdict(chain)
        return {
            **found,
            "platform": content.config.platform,
            "layers": len(chain),
            "chain_id": chain[-1] if chain else None,
            "size": content.size,
            "unpacked": chain[-1] in self._snapshots if chain else None,
            "mountable": verdict.mountable,
            "reason": verdict.reason,
        }

    def _verdict(self, chain: tuple[str, ...]) -> Verdict:
        if self._overlay is None:
            return Verdict(None, self.trouble)
        unpacked = sum(name in self._snapshots for name in chain)
        return judge_present(self._overlay, len(chain), unpacked, self._ids)


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    containerd = Containerd.from_module(module)
    namespace = plain_name("namespace", params["namespace"])
    names = params["name"]
    for name in names or ():
        one_line("name", name)
    default, *handlers = containerd.config.own_snapshotters
    snapshotter = plain_name("snapshotter", params["snapshotter"] or default)
    images = ImageReport(containerd, namespace, snapshotter, params["integrity"])
    return {
        "changed": False,
        "images": images.listed(names),
        "headroom": images.headroom(),
        "headroom_reason": images.trouble,
        "snapshotter": snapshotter,
        "snapshotters": [default, *(name for name in handlers if name in BUILTIN_SNAPSHOTTERS)],
        "namespaces": containerd.namespaces,
    }


def main() -> None:
    run_module(
        run,
        {
            "name": {"type": "list", "elements": "str"},
            "namespace": {"type": "str", "default": "default"},
            "snapshotter": {"type": "str"},
            "integrity": {"type": "str", "choices": list(LEVELS), "default": UNCOMPARED},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
