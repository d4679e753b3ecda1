#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image_info
short_description: List containerd images and the number of layers that a node can mount
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Lists images with their digests, sizes, layers and integrity, and reports whether overlayfs can mount them on this node.
  - The options of an overlay mount must fit in one page of memory, and contain the snapshot id of every layer. The maximum number of
    layers therefore depends on the length of the root path, and shrinks as snapshot ids grow.
  - Pulling doesn't mount an image, so an image with too many layers fails only when its first container starts. RV(headroom) is the
    limit for an image that is pulled now.
  - Nothing on the node is changed, and no registry is contacted.
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
      - Names of images, as containerd stores them, such as V(docker.io/library/alpine:3.22).
      - Default is all images of the namespace.
    type: list
    elements: str
  namespace:
    description: The containerd namespace. The kubelet uses V(k8s.io).
    type: str
    default: default
  snapshotter:
    description: The snapshotter that the images are unpacked for. Default is the snapshotter of the daemon's CRI configuration.
    type: str
  integrity:
    description:
      - How to compare the images with the layers that they were unpacked from, see M(slipway.node.containerd_image).
      - For the comparison, the module mounts a read-only view of each image for a moment, in a mount namespace of its own.
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
- name: Get the maximum number of layers on this node
  slipway.node.containerd_image_info:
    name: []
  register: node

- name: Stop if the node can't run images of 128 layers
  ansible.builtin.assert:
    that: node.headroom is not none and node.headroom.layers_guaranteed >= 128
    fail_msg: "{{ node.headroom.reason | default(node.headroom_reason) }}"

- name: Compare the kubelet's images with their layers
  slipway.node.containerd_image_info:
    namespace: k8s.io
    integrity: content

- name: Get two of the kubelet's images
  slipway.node.containerd_image_info:
    name:
      - registry.k8s.io/pause:3.10
      - docker.io/library/alpine:3.22
    namespace: k8s.io
"""

RETURN = r"""
images:
  description: The images, in the order of O(name), or by name. An image that doesn't exist has only C(name) and C(present).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the image.
      type: str
      sample: docker.io/library/alpine:3.22
    present:
      description: Whether the namespace has an image of this name.
      type: bool
    digest:
      description: Digest of the index or manifest.
      type: str
      sample: sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1
    media_type:
      description: Media type of the index or manifest.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    platform:
      description: Operating system and architecture of the image for this node; null if unknown.
      type: str
      sample: linux/amd64
    layers:
      description: Number of layers; null if unknown.
      type: int
    chain_id:
      description: Key of the topmost layer's snapshot; null if the image has no layers, or if unknown.
      type: str
      sample: sha256:418dccb7d85a63a6aa574439840f7a6fa6fd2321b3e2394568a317735e867d35
    size_bytes:
      description:
        - Size in bytes of the image's blobs in the content store, compressed, each counted once. Only the index and the blobs of the
          node's platform are counted. Null if unknown.
      type: int
    unpacked:
      description: Whether the snapshotter has the snapshot of the topmost layer; null if the image has no layers, or if unknown.
      type: bool
    durability:
      description:
        - V(durable) means that M(slipway.node.containerd_image) flushed its layers to disk for the snapshotter.
        - V(not_durable) means that the daemon doesn't flush its metadata (C(no_sync) of C(io.containerd.metadata.v1.bolt)).
        - V(unknown) means that another tool pulled it, or that the snapshotter's files can't be flushed together with the image. It
          is usually on disk after some time, but that wasn't verified.
      type: str
    integrity:
      description:
        - Result of the comparison with the layers, V(intact), V(damaged) or V(unknown).
        - Null with O(integrity=none), or if the manifest or config can't be parsed.
      type: str
    differences:
      description: The first 100 differences, by path.
      returned: when the image was compared
      type: dict
      sample: {"/usr/lib/libc.so.6": "is empty, should have 1926256 bytes"}
    difference_count:
      description: Number of files that differ.
      returned: when the image was compared
      type: int
    file_count:
      description: Number of files in the layers.
      returned: when the image was compared
      type: int
    damaged_blobs:
      description: Digests of layers, manifests and configs that are missing or damaged in the content store.
      returned: when the image was compared
      type: list
      elements: str
    integrity_reason:
      description: Why the image couldn't be compared; empty if it was.
      returned: when the image was compared
      type: str
    mountable:
      description:
        - Whether overlayfs can mount the image for a container.
        - Null if unknown, for example for an image that isn't unpacked and has more layers than RV(headroom.layers_guaranteed).
      type: bool
    reason:
      description: Why the image can't be mounted, or why a value is unknown; empty otherwise.
      type: str
headroom:
  description: The maximum number of layers with overlayfs; null with another snapshotter.
  returned: always
  type: dict
  contains:
    layers_max:
      description:
        - Maximum number of layers of an image that is pulled now, shares no layer with existing images, and gets RV(headroom.next_id)
          for its first snapshot.
      type: int
      sample: 488
    layers_guaranteed:
      description: Maximum number of layers while snapshot ids have at most 7 digits, that is for the lifetime of the node.
      type: int
      sample: 354
    reason:
      description: The cause of the limit.
      type: str
    root:
      description: Directory of the snapshotter.
      type: str
      sample: /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs
    root_length:
      description: Length of RV(headroom.root) in characters.
      type: int
      sample: 58
    next_id:
      description: Lowest possible id of the next snapshot. It is higher if the latest snapshots were removed.
      type: int
      sample: 1041
    digits:
      description: Number of digits of RV(headroom.next_id).
      type: int
      sample: 4
    page_size:
      description: Page size of the kernel in bytes.
      type: int
      sample: 4096
    mount_options:
      description: Options of every overlay mount besides its directories.
      type: list
      elements: str
      sample: ["index=off"]
headroom_reason:
  description: Why RV(headroom) is null; empty otherwise.
  returned: always
  type: str
snapshotter:
  description: The snapshotter that the result is for.
  returned: always
  type: str
  sample: overlayfs
snapshotters:
  description: The snapshotters of the daemon's CRI configuration, the default first, then those of its handlers without proxy plugins.
  returned: always
  type: list
  elements: str
  sample: [overlayfs, devmapper]
namespaces:
  description: The daemon's namespaces, without that of the probe of M(slipway.node.node_verify).
  returned: always
  type: list
  elements: str
  sample: [default, k8s.io]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.options import one_line, plain_name
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import ImageComparer, trees_directory
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import INTEGRITY_NONE, LEVELS
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import content_root, read_overlay, snapshot_ids
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import (
    Overlay,
    Verdict,
    headroom,
    judge_present,
    next_id,
)


class ImageReport:
    """The images of one namespace, unpacked for one snapshotter; ``level`` is how closely they are compared with their layers."""

    def __init__(self, containerd: Containerd, namespace: str, snapshotter: str, level: str) -> None:
        self._ctr = containerd.ctr
        self._namespace = namespace
        self._level = level
        self._store = NamespaceStore(containerd.ctr, namespace)
        self._blobs = self._store.content.digests()
        self._snapshots = self._store.snapshots(snapshotter).layers()
        self._snapshotter = snapshotter
        self._platform = containerd.platform
        self._no_sync = containerd.config.metadata_no_sync
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
        compared = self._compared([name for name in wanted if name in there]) if self._level != INTEGRITY_NONE else {}
        return [
            {**self._described(there[name]), **compared.get(name, {})} if name in there else {"name": name, "present": False}
            for name in wanted
        ]

    def _compared(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Compare the images that can be read; return the results by name."""
        root = content_root(self._ctr)
        options = {"content_root": root, "platform": self._platform, "level": self._level, "trees": trees_directory(root)}
        comparer = ImageComparer(self._ctr, self._namespace, self._snapshotter, **options)
        return {name: found.to_result() for name, found in comparer.compare(names).items()}

    def _described(self, reference: Reference) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": reference.name,
            "present": True,
            "digest": reference.digest,
            "media_type": reference.media_type,
            "durability": self._durability(reference),
            "integrity": None,
            **dict.fromkeys(("platform", "layers", "chain_id", "size_bytes", "unpacked", "mountable")),
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
            "size_bytes": content.size,
            "unpacked": chain[-1] in self._snapshots if chain else None,
            "mountable": verdict.mountable,
            "reason": verdict.reason,
        }

    def _durability(self, reference: Reference) -> str:
        synced = self._snapshotter in reference.synced
        return durability.of_flushed(self._snapshotter, no_sync=self._no_sync) if synced else durability.UNKNOWN

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
            "integrity": {"type": "str", "choices": list(LEVELS), "default": INTEGRITY_NONE},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
