#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image
short_description: Pull, import and repair containerd images durably
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Pulls images from a registry or imports them from an archive, unpacks them, flushes them to disk, and only then tags them. An
    image with a name therefore survives a power failure, with every version of containerd.
  - If the node has image verifiers, pulls go through containerd's transfer service, which asks them; a pull that can't is refused.
    Verifiers see the image's digest and its repository with the tag C(slipway-staged). They aren't asked about archives.
  - The module asks the registry only about missing images. It refuses an image before the download if it is for another platform,
    or has more layers than overlayfs can mount on this node.
  - All images of a task are flushed together, with one C(syncfs) for each file system. Pass a list instead of using a loop.
  - An interrupted run leaves a record in containerd's directory. The next run completes it. After a reboot, it first compares the
    layers that may have been lost with their blobs, and unpacks those that differ again.
  - Images pulled by other tools are compared with their layers, flushed and labelled once; later runs skip them.
attributes:
  check_mode:
    support: full
    details:
      - The module queries the registry as in a real run, with the same credentials, and leaves nothing on the node.
      - An O(archive) on the controller is sent only with O(pull=always) or without O(name). Otherwise an image that would be
        imported is returned without its digest, platform, layers and sizes.
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    description: A part of the module runs on the controller.
    support: full
  async:
    description: The module supports C(async).
    support: partial
    details: An O(archive) on the controller can't be sent by a task with C(async).
options:
  name:
    description:
      - Names of the images, with tag or digest. Short names are expanded as Docker does, V(alpine) to
        V(docker.io/library/alpine:latest).
      - In the namespace V(k8s.io) an image with tag and digest is stored as C(REPOSITORY@DIGEST), as CRI does. The kubelet looks
        for no other name.
      - Default is all images of the O(archive).
      - Mutually exclusive with O(all).
    type: list
    elements: str
    aliases: [names]
  all:
    description:
      - Process all images of the namespace. Requires O(integrity) to be V(metadata) or V(content); can't be used with O(archive) or
        O(pull=always).
      - Mutually exclusive with O(name).
    type: bool
    default: false
  exclude:
    description: Names of images that O(all) leaves out.
    type: list
    elements: str
    default: []
  state:
    description:
      - With V(present), each image exists and is unpacked for the O(snapshotter).
      - With V(absent), the names don't exist. Removing the last name of an image frees its space, unless RV(images[].used_by)
        lists other users. Nothing else is removed.
    type: str
    choices: [present, absent]
    default: present
  pull:
    description:
      - With V(missing), existing images are left unchanged, and no registry is contacted.
      - With V(always), the module checks whether the registry or the O(archive) has another image under the name.
    type: str
    choices: [missing, always]
    default: missing
  archive:
    description:
      - Path of an archive to import instead of pulling. C(docker save), C(ctr images export) and C(skopeo copy) create such
        archives. It may be compressed with gzip.
      - The path is on the controller, unless O(remote_src) is V(true). The archive is sent to a temporary directory of the node
        only if an image is missing or has to be repaired from it, if O(pull=always), or if there is no O(name).
      - If the archive contains one image and O(name) is one name, the image gets that name.
    type: path
  remote_src:
    description: Whether O(archive) is a path on the node.
    type: bool
    default: false
  platform:
    description: Platform of the images, such as V(linux/arm64) or V(linux/arm/v7). Default is the platform of the node.
    type: str
  snapshotter:
    description: The snapshotter to unpack for. Default is the snapshotter of the daemon's CRI configuration.
    type: str
  namespace:
    description: The containerd namespace. The kubelet uses V(k8s.io).
    type: str
    default: default
  hosts_dir:
    description:
      - Directory of the registry host configuration, with a C(hosts.toml) for each registry.
      - Default is the directory in which CRI finds the registry, so that images come from the same mirrors as the kubelet's.
        Mirrors in C(registry.mirrors) of the daemon's configuration aren't used.
    type: path
  plain_http:
    description: Connect to the registry without TLS.
    type: bool
    default: false
  username:
    description: User name at the registry. It is sent to every host that C(hosts.toml) names for the registry.
    type: str
  password:
    description: Password or token of O(username). It appears neither in process arguments nor in logs.
    type: str
  parallel:
    description: Number of images to pull at the same time.
    type: int
    default: 3
  durable:
    description:
      - Flush images to disk before tagging them. If V(false), images can be lost on power failure for about 30 seconds after the
        pull, as with C(ctr).
    type: bool
    default: true
  integrity:
    description:
      - How to compare existing images with the layers that they were unpacked from.
      - V(none) doesn't compare them.
      - V(metadata) compares the existence, type, size, mode, owner, link target, device number and extended attributes of each
        file. This detects the damage that power failures cause.
      - V(content) also compares the bytes of files and layers.
      - A damaged image makes the module fail, unless O(repair) is V(true).
    type: str
    choices: [none, metadata, content]
    default: none
  repair:
    description:
      - Repair damaged images. The module unpacks files again from local layers, without a registry. Only damaged layers and
        manifests are fetched again, from the O(archive) if it is set.
      - Other images that share a damaged layer are repaired too.
      - Snapshots that a container, a toolbox or a mount uses aren't repaired. The message names their users.
      - A damaged file with the daemon's UUID is replaced.
    type: bool
    default: false
  timeout:
    description: Seconds that one image may take, and seconds to wait for another run on this node.
    type: int
    default: 1800
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
notes:
  - C(ctr) connects to the registry through the proxy of the daemon, or through that of the task, if the keyword C(environment)
    sets a variable such as C(HTTPS_PROXY).
  - During a long task, a line every 60 seconds says that it is still running. The variable C(slipway_progress_seconds) sets the
    interval; V(0) disables the line.
seealso:
  - module: slipway.node.containerd_image_info
  - module: slipway.node.containerd_config
"""

EXAMPLES = r"""
- name: Preload the kubelet's images
  slipway.node.containerd_image:
    name:
      - registry.k8s.io/pause:3.10
      - docker.io/library/alpine:3.22
    namespace: k8s.io

- name: Update to the current image of a tag
  slipway.node.containerd_image:
    name: registry.example/app:stable
    pull: always
    username: deploy
    password: "{{ registry_password }}"

- name: Import an archive at an air-gapped site
  slipway.node.containerd_image:
    archive: images.tar

- name: Import an archive that is on the node
  slipway.node.containerd_image:
    archive: /var/tmp/images.tar
    remote_src: true

- name: Compare all of the kubelet's images with their layers, and repair them
  slipway.node.containerd_image:
    all: true
    namespace: k8s.io
    integrity: metadata
    repair: true

- name: Remove an image
  slipway.node.containerd_image:
    name: docker.io/library/alpine:3.21
    state: absent
"""

RETURN = r"""
images:
  description: The images in the order of O(name).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Full name of the image.
      type: str
      sample: docker.io/library/alpine:3.22
    action:
      description:
        - The action that was taken, or would be in check mode.
        - V(none), V(pull), V(import), V(unpack) (its blobs were on the node), V(sync) (another tool pulled it; it was compared with
          its layers and flushed), V(tag) (O(name) contains a digest, and the image was there under another name), V(repair), or
          V(remove).
      type: str
    digest:
      description: Digest of the index or manifest; null if it isn't known yet, or the image is absent.
      type: str
      sample: sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1
    platform:
      description: Operating system and architecture of the image.
      returned: with O(state=present)
      type: str
      sample: linux/amd64
    layers:
      description: Number of layers.
      returned: with O(state=present)
      type: int
    chain_id:
      description: Key of the topmost layer's snapshot; null if the image has no layers.
      returned: with O(state=present)
      type: str
    size_bytes:
      description: Size of all blobs in bytes, compressed.
      returned: with O(state=present)
      type: int
    downloaded_bytes:
      description: Size of the blobs that weren't on the node, in bytes. In check mode, of those that would be downloaded.
      returned: with O(state=present)
      type: int
    duration:
      description: Seconds that pulling, importing or unpacking took.
      returned: with O(state=present)
      type: float
    durability:
      description:
        - V(durable) means that the image survives a power failure.
        - V(not_durable) means that it may be lost, because O(durable) is V(false), because its action failed, or because the
          daemon doesn't flush its metadata (C(no_sync) of C(io.containerd.metadata.v1.bolt)).
        - V(unknown) means that the snapshotter's files can't be flushed together with the image.
      returned: with O(state=present)
      type: str
    integrity:
      description:
        - Result of the comparison with the layers; null if the image wasn't compared.
        - V(intact), V(damaged) (in check mode also if it would be repaired), V(repaired), or V(unknown).
      returned: with O(state=present)
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
    used_by:
      description: Other names of the image, and its containers, which keep the image on disk.
      returned: with O(state=absent)
      type: list
      elements: str
recovered:
  description: Images of an interrupted run, repaired images with those that share their layers, and images of other tools.
  returned: with O(state=present), if there were such images
  type: list
  elements: dict
  contains:
    name:
      description: Name of the image, or of another part of the daemon's storage.
      type: str
      sample: docker.io/library/alpine:3.22
    outcome:
      description:
        - V(intact) if no difference was found, V(unpacked) if its layers were unpacked again, V(discarded) if its remains were
          removed, V(recreated) if a file of the daemon was replaced, V(failed) if it is still damaged.
      type: str
      sample: unpacked
    reason:
      description: The damage, or why the repair failed; empty for V(intact).
      type: str
      sample: 12 files differ from its layers
synced:
  description: The file systems that were flushed to disk.
  returned: with O(state=present)
  type: list
  elements: dict
  contains:
    path:
      description: A directory on the file system.
      type: str
      sample: /var/lib/containerd/io.containerd.content.v1.content
    duration:
      description: Seconds that flushing took.
      type: float
      sample: 0.41
downloaded_bytes:
  description: Sum of RV(images[].downloaded_bytes).
  returned: with O(state=present)
  type: int
duration:
  description: Seconds that all images took together.
  returned: with O(state=present)
  type: float
summary:
  description:
    - A summary, one line for each image with an action and for each flushed file system. The line of a repair contains the number of
      files that differed.
  returned: with O(state=present)
  type: list
  elements: str
  sample: ["docker.io/library/alpine:3.22: pull, 3.8 MB in 1.2 s", "/var/lib/containerd: flushed in 0.4 s"]
snapshotter:
  description: The snapshotter that the images are unpacked for.
  returned: with O(state=present)
  type: str
  sample: overlayfs
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.images.host.containerd_image import OPTIONS, run
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
