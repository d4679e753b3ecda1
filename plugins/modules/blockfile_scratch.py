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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.bytecode  # noqa: F401
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path
from ansible_collections.slipway.node.plugins.module_utils.core.sizes import parse_size, shown
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import free_bytes, make_scratch, read_scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import (
    PROGRAMS,
    Scratch,
    ScratchSpec,
    difference,
    require_room,
)


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    path = absolute_path("path", params["path"])
    wanted = ScratchSpec(path, parse_size("size", params["size"]), params["fs_type"])
    runner = Runner(module)
    found = read_scratch(path)
    wrong = "it isn't there" if found is None else difference(wanted, found)
    if wrong and found is not None and not params["force"]:
        raise ValueError(f"{path} is there, but {wrong}: name another file, or set force to true")
    if wrong:
        require_room(wanted, free_bytes(path))
        program = PROGRAMS[wanted.fs_type][0]
        if runner.find(program) is None:
            package = "e2fsprogs" if wanted.fs_type == "ext4" else "xfsprogs"
            raise ValueError(f"there is no program {program} on the node: install {package}")
        if not module.check_mode:
            make_scratch(runner, wanted)
    return {
        "changed": bool(wrong),
        "path": path,
        "size_bytes": wanted.size,
        "fs_type": wanted.fs_type,
        "diff": {"before": described(found), "after": described(Scratch(wanted.size, wanted.fs_type))},
    }


def described(scratch: Scratch | None) -> str:
    if scratch is None:
        return ""
    return f"{scratch.fs_type or 'no file system'}, {shown(scratch.size)}{', damaged' if scratch.damage else ''}\n"


def main() -> None:
    run_module(
        run,
        {
            "path": {"type": "path", "required": True},
            "size": {"type": "str", "required": True},
            "fs_type": {"type": "str", "choices": list(PROGRAMS), "default": "ext4"},
            "force": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
