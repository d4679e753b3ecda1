# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The thin pool of an inventory, and the snapshotter's table that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Sizes as lvcreate, coreutils' truncate and docker/go-units parse them, by variable.
_LVM_SIZE = r"[0-9]+([.][0-9]+)?[bkmgtpeBKMGTPE]?"
_SIZES = {
    "devmapper_pool_size": rf"{_LVM_SIZE}|(100|[1-9][0-9]?)%(VG|FREE|PVS)",
    "devmapper_metadata_size": rf"({_LVM_SIZE})?",
    "devmapper_loop_size": r"[0-9]+([kKmMgGtTPE]|[KMGTPE]i?B)?",
    "devmapper_base_image_size": r"[0-9]+([.][0-9]+)? ?([kKmMgGtTpP]i?)?[bB]?",
}
_LOOP_FILE = r"(/[A-Za-z0-9_.@+:,=-]+)*"


def check_thin_pool(variables: Mapping[str, Any]) -> None:
    """Raise ValueError for a variable that LVM, coreutils or containerd would refuse."""
    threshold, percent = _number(variables["devmapper_autoextend_threshold"]), _number(variables["devmapper_autoextend_percent"])
    if not 50 <= threshold <= 100 or percent < 1:
        raise ValueError(
            "devmapper_autoextend_threshold has to be between 50 and 100, as LVM requires, "
            "and devmapper_autoextend_percent 1 or more"
        )
    wrong = [name for name, pattern in _SIZES.items() if not re.fullmatch(pattern, str(variables[name]))]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} can't be parsed: write sizes of the pool as 100g or 80%VG (or %FREE, %PVS), of its "
            "metadata as 1g, of the file as 10G, of snapshots as 10GB"
        )
    if not re.fullmatch(_LOOP_FILE, str(variables["devmapper_loop_file"])):
        raise ValueError(
            "devmapper_loop_file has to be an absolute path of letters, digits and '._@+:,=-', "
            f"not '{variables['devmapper_loop_file']}'"
        )


def pool_name(volume_group: str, pool: str) -> str:
    """Return the device mapper's name of the volume; it doubles hyphens within names."""
    return "-".join(name.replace("-", "--") for name in (volume_group, pool))


def snapshotter_table(variables: Mapping[str, Any], *, discard_blocks: bool, async_remove: bool) -> dict[str, Any]:
    """Return the settings of containerd's devmapper snapshotter."""
    table = {
        "pool_name": pool_name(variables["devmapper_volume_group"], variables["devmapper_pool"]),
        "base_image_size": variables["devmapper_base_image_size"],
        "fs_type": variables["devmapper_fs_type"],
        "discard_blocks": discard_blocks,
        "async_remove": async_remove,
    }
    root_path = variables["devmapper_root_path"]
    return {**table, "root_path": root_path} if root_path else table


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1
