#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: toolbox_snapshot
short_description: Manage writable snapshots that garbage collection keeps
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Creates a writable snapshot of an image, for a debugging toolbox, and mounts it now and after every reboot.
  - C(ctr images mount --rw) protects such a snapshot only with a lease. When the lease expires, garbage collection deletes the snapshot
    even while it is mounted. This module labels the snapshot as a garbage collection root when it creates it.
  - A toolbox that C(ctr images mount) or Flatcar's C(toolbox) created is adopted with its content and running processes. The
    snapshot is pinned before its lease is removed.
  - A systemd unit mounts the snapshot, so a reboot restores the same state.
  - The module never discards data silently. It refuses to unmount or remove a toolbox with running processes, to mount over a
    directory with files, and to replace a foreign mount. The message names the processes, files or mount.
attributes:
  check_mode:
    support: full
    details: If the image is missing, the module queries the registry as in a real run.
  diff_mode:
    support: full
    details: The text of the unit is shown only if the snapshot exists, because the unit names its directories.
  idempotent:
    support: full
options:
  name:
    description: Name of the toolbox, made of letters, digits, V(_), V(.) and V(-).
    type: str
    required: true
  image:
    description:
      - The image of the toolbox, with tag or digest. A missing image is pulled as by M(slipway.node.containerd_image), and is on disk
        before the snapshot is created.
      - Required unless O(state=absent).
    type: str
  path:
    description:
      - Mount point of the toolbox, and key of the snapshot. Default is V(/var/lib/toolbox/NAME), as in Flatcar's C(toolbox).
      - Only root may have write permission for the directories above it, and none of them may be a symbolic link. An existing
        empty directory is given to root.
    type: str
  state:
    description:
      - With V(mounted), the snapshot exists, is pinned, and is mounted by an enabled unit. This isn't possible on erofs from
        containerd 2.2 on.
      - With V(present), the snapshot exists and is pinned, is not mounted, and has no unit.
      - With V(absent), the snapshot, its unit, lease and mount don't exist, and its space is free. An empty mount point is
        removed.
    type: str
    choices: [present, mounted, absent]
    default: mounted
  on_image_change:
    description:
      - What to do if the name of the image now refers to another image on this node. No registry is contacted; see
        M(slipway.node.containerd_image).
      - V(keep) leaves the toolbox unchanged and reports RV(image_drift).
      - V(recreate) creates the toolbox again. B(All its content is lost). The module fails if the toolbox is in use.
    type: str
    choices: [keep, recreate]
    default: keep
  labels:
    description: Additional labels of the snapshot. Other existing labels are kept. The label C(slipway.node/image) contains the name of the image.
    type: dict
    default: {}
  namespace:
    description: The containerd namespace. Flatcar's C(toolbox) and C(ctr) use V(default).
    type: str
    default: default
  snapshotter:
    description: The snapshotter to use. Default is the snapshotter of the daemon's CRI configuration.
    type: str
  platform:
    description: Platform of the image, such as V(linux/arm64). Default is the platform of the node.
    type: str
  hosts_dir:
    description: Directory of the registry host configuration, with a C(hosts.toml) for each registry. Default is the directory in
      which CRI finds the registry, see M(slipway.node.containerd_image).
    type: path
  plain_http:
    description: Connect to the registry without TLS.
    type: bool
    default: false
  username:
    description: User name at the registry.
    type: str
  password:
    description: Password or token of O(username). It appears neither in process arguments nor in logs.
    type: str
  timeout:
    description: Seconds that pulling the image may take, and seconds to wait for another run on this node.
    type: int
    default: 1800
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
  - systemd, for O(state=mounted)
seealso:
  - module: slipway.node.containerd_image
  - name: The toolbox of Flatcar Container Linux
    description: The command that uses the toolboxes of this module.
    link: https://github.com/flatcar/toolbox
"""

EXAMPLES = r"""
- name: Create a Fedora toolbox
  slipway.node.toolbox_snapshot:
    name: core-fedora-42
    image: registry.fedoraproject.org/fedora:42

- name: Keep the toolbox that Flatcar's command created for the user core
  slipway.node.toolbox_snapshot:
    name: core-docker.io_library_fedora-38
    image: docker.io/library/fedora:38

- name: Create the toolbox again when its image changes
  slipway.node.toolbox_snapshot:
    name: debug
    image: registry.example/debug:stable
    on_image_change: recreate

- name: Remove the toolbox and free its space
  slipway.node.toolbox_snapshot:
    name: debug
    state: absent
"""

RETURN = r"""
key:
  description: Key of the snapshot. An adopted snapshot keeps its key, which may end in a slash.
  returned: success
  type: str
  sample: /var/lib/toolbox/debug
path:
  description: Mount point of the toolbox.
  returned: success
  type: str
  sample: /var/lib/toolbox/debug
parent:
  description: Chain ID of the snapshot's parent; null if there is no snapshot, or its image has no layers.
  returned: success
  type: str
  sample: sha256:fdc6e90d218ce752383b418a061d823f1dd876cab4514aa86ca02811498f60f4
pinned:
  description: Whether garbage collection keeps the snapshot.
  returned: success
  type: bool
mount:
  description: The mount of the unit; null if there is no unit, or in check mode if the snapshot doesn't exist yet.
  returned: success
  type: dict
  contains:
    what:
      description: Device or directory.
      type: str
      sample: overlay
    type:
      description: Type of the file system.
      type: str
      sample: overlay
    options:
      description: Options of the mount, as containerd reports them.
      type: list
      elements: str
mounted:
  description: Whether the toolbox is mounted.
  returned: success
  type: bool
adopted:
  description: Whether an existing snapshot without a pin was adopted.
  returned: success
  type: bool
image_drift:
  description: The chain IDs of the snapshot's parent and of the image on the node; null if they are equal, or the image doesn't exist.
  returned: success
  type: dict
  contains:
    from:
      description: Chain ID of the snapshot's parent.
      type: str
    to:
      description: Chain ID of the image.
      type: str
freed_bytes:
  description: Size of the removed snapshot in bytes, without unused layers of its image.
  returned: success
  type: int
unit:
  description: Name of the mount unit; null if there is none.
  returned: success
  type: str
  sample: var-lib-toolbox-debug.mount
steps:
  description:
    - The steps that were taken, or would be in check mode, in this order.
    - V(pull) gets the image. V(pin), V(label) and V(release) (remove the lease) change the existing snapshot. V(remove) and V(prepare)
      replace it.
    - V(unmount), V(directory), V(unit), V(enable), V(mount) and V(disable) (remove the unit) change the mount.
    - V(collect) waits for garbage collection, V(remove_directory) removes the mount point.
  returned: success
  type: list
  elements: str
  sample: [pull, prepare, directory, unit, enable, mount]
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox_snapshot import OPTIONS, run


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
