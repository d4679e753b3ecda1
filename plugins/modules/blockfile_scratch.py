#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: blockfile_scratch
short_description: Create the scratch file of containerd's blockfile snapshotter
version_added: 0.1.0
description:
  - Creates a file that contains an empty file system. The blockfile snapshotter copies it for the lowest layer of every image.
  - The file system is created in a temporary file, flushed to disk and renamed, so an interrupted run leaves no partial scratch file.
  - A scratch file with the requested size and file system is left unchanged. Existing layers keep their size.
author:
  - the slipway.node authors (@slipway)
options:
  path:
    description: Path of the scratch file. Set C(scratch_file) of the snapshotter to the same path.
    type: path
    required: true
  size:
    description:
      - Size of the file system, such as V(10G) or V(512M). Each layer and each container gets a file system of this size.
      - It limits the size of an image plus the data that a container writes.
    type: str
    required: true
  fs_type:
    description:
      - Type of the file system. Set C(fs_type) of the snapshotter to the same value.
      - With V(xfs), C(mount_options) of the snapshotter must contain V(loop) and V(nouuid).
    type: str
    choices: [ext4, xfs]
    default: ext4
  force:
    description:
      - Overwrite an existing file that is damaged or has another size or file system. If V(false), the module fails instead.
      - containerd works on a copy of the scratch file. It renews the copy only with C(recreate_scratch) (2.0 and newer), or if the
        copy is missing.
    type: bool
    default: false
extends_documentation_fragment:
  - slipway.node.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - C(mkfs.ext4) (e2fsprogs) or C(mkfs.xfs) (xfsprogs)
seealso:
  - module: slipway.node.containerd_config
"""

EXAMPLES = r"""
- name: Create the scratch file
  slipway.node.blockfile_scratch:
    path: /var/lib/containerd-scratch/ext4
    size: 10G

# The task lists all settings of the node.
- name: Make blockfile the default snapshotter
  slipway.node.containerd_config:
    settings:
      snapshotter: blockfile
      snapshotters:
        blockfile:
          scratch_file: /var/lib/containerd-scratch/ext4
          fs_type: ext4
"""

RETURN = r"""
path:
  description: Path of the scratch file.
  type: str
  returned: success
  sample: /var/lib/containerd-scratch/ext4
size_bytes:
  description: Size of the scratch file in bytes.
  type: int
  returned: success
  sample: 10737418240
fs_type:
  description: Type of the file system.
  type: str
  returned: success
  sample: ext4
"""

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.blockfile_scratch import OPTIONS, run


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
