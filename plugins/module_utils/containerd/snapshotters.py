# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshotters that are part of containerd."""

from __future__ import annotations

# Snapshotters that are part of containerd, and the keys of their tables with the type of each.
# containerd plugins/snapshots/*/plugin/plugin.go
BUILTIN_SNAPSHOTTERS: dict[str, dict[str, type]] = {
    "overlayfs": {
        "root_path": str,
        "upperdir_label": bool,
        "sync_remove": bool,
        "slow_chown": bool,
        "mount_options": list,
    },
    "native": {"root_path": str},
    "btrfs": {"root_path": str},
    "zfs": {"root_path": str},
    "devmapper": {
        "root_path": str,
        "pool_name": str,
        "base_image_size": str,
        "async_remove": bool,
        "discard_blocks": bool,
        "fs_type": str,
        "fs_options": str,
    },
    "blockfile": {
        "root_path": str,
        "scratch_file": str,
        "fs_type": str,
        "mount_options": list,
        "recreate_scratch": bool,
    },
    "erofs": {
        "root_path": str,
        "ovl_mount_options": list,
        "enable_fsverity": bool,
        "set_immutable": bool,
        "default_size": str,
    },
}
