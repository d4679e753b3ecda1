# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Creating a scratch file: the run of the module blockfile_scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path
from ansible_collections.slipway.node.plugins.module_utils.core.sizes import parse_size, shown
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import free_bytes, make_scratch, read_scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import (
    PROGRAMS,
    Scratch,
    ScratchSpec,
    difference,
    require_room,
)

OPTIONS: Mapping[str, Any] = {
    "path": {"type": "path", "required": True},
    "size": {"type": "str", "required": True},
    "fs_type": {"type": "str", "choices": list(PROGRAMS), "default": "ext4"},
    "force": {"type": "bool", "default": False},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Create the scratch file unless it is as requested."""
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
    """Return what diff mode shows of a scratch file."""
    if scratch is None:
        return ""
    return f"{scratch.fs_type or 'no file system'}, {shown(scratch.size)}{', damaged' if scratch.damage else ''}\n"
