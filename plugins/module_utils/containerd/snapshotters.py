# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshotters that are part of containerd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.names import EROFS
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path


@dataclass(frozen=True)
class Key:
    """A key of a snapshotter's table.

    ``since`` names the first release of each line that knows it, empty if the oldest supported one does. ``choices`` are its
    values, empty if there are others. ``differ``: it is a key of the differ of the snapshotter's name.
    """

    type: type
    since: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    differ: bool = False


# Snapshotters that are part of containerd, and the keys of their tables.
# containerd plugins/snapshots/*/plugin/plugin.go and plugins/diff/erofs/plugin/plugin.go of every release from 1.6.0 to 2.4.2
BUILTIN_SNAPSHOTTERS: Mapping[str, Mapping[str, Key]] = {
    "overlayfs": {
        "root_path": Key(str),
        "upperdir_label": Key(bool),
        "sync_remove": Key(bool, since=("1.6.24", "1.7.4", "2.0.0")),
        "slow_chown": Key(bool, since=("2.0.0",)),
        "mount_options": Key(list, since=("1.6.24", "1.7.4", "2.0.0")),
    },
    "native": {"root_path": Key(str)},
    "btrfs": {"root_path": Key(str)},
    "zfs": {"root_path": Key(str)},
    "devmapper": {
        "root_path": Key(str),
        "pool_name": Key(str),
        "base_image_size": Key(str),
        "async_remove": Key(bool),
        "discard_blocks": Key(bool),
        "fs_type": Key(str),
        "fs_options": Key(str),
    },
    "blockfile": {
        "root_path": Key(str),
        "scratch_file": Key(str),
        "fs_type": Key(str),
        "mount_options": Key(list),
        "recreate_scratch": Key(bool, since=("2.0.0",)),
    },
    EROFS: {
        "root_path": Key(str),
        "ovl_mount_options": Key(list),
        "enable_fsverity": Key(bool),
        "set_immutable": Key(bool, since=("2.1.4",)),
        "default_size": Key(str, since=("2.2.0",)),
        "dmverity_mode": Key(str, since=("2.3.0",), choices=("auto", "on", "off")),
        "layer_content_caches": Key(list, since=("2.4.0",)),
        "mkfs_options": Key(list, differ=True),
        "enable_tar_index": Key(bool, since=("2.2.0",), differ=True),
        "enable_dmverity": Key(bool, since=("2.3.0",), differ=True),
    },
}
# First releases that have a snapshotter, where the oldest supported one doesn't.
SNAPSHOTTER_SINCE: Mapping[str, tuple[str, ...]] = {"blockfile": ("1.7.4", "2.0.0"), EROFS: ("2.1.0",)}


def mounted_on_demand(version: Version) -> tuple[str, ...]:
    """Return the snapshotters whose layers the daemon mounts when it is asked for a snapshot's mounts, and unmounts later.

    It does so from 2.2 on, each time at other places, until its next garbage collection. Asking twice before that fails.
    containerd core/mount/manager/manager.go: Activate.
    """
    return (EROFS,) if version.at_least("2.2.0") else ()


def check_table(option: str, name: str, table: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the option, for a key or a value that no release takes in the table of this snapshotter."""
    keys = BUILTIN_SNAPSHOTTERS[name]
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"{option} has no key {key!r}: its keys are {', '.join(sorted(keys))}")
        choices = keys[key].choices
        if choices and value not in choices:
            # YAML reads on and off without quotes as true and false.
            quoted = ", ".join(f'"{choice}"' for choice in choices)
            raise ValueError(f"{option}.{key} has to be one of {quoted}, in quotes, not {value!r}")
        if not isinstance(value, keys[key].type):
            raise ValueError(f"{option}.{key} has to be of type {keys[key].type.__name__}, not {value!r}")
        if key in ("root_path", "scratch_file"):
            absolute_path(f"{option}.{key}", str(value))
    if name == EROFS:
        _check_caches(option, table)


def _check_caches(option: str, table: Mapping[str, Any]) -> None:
    """Refuse keys that exclude each other, as containerd plugins/snapshots/erofs/erofs.go: NewSnapshotter does."""
    caches = table.get("layer_content_caches") or ()
    for path in caches:
        absolute_path(f"{option}.layer_content_caches", str(path))
    for key in ("enable_fsverity", "set_immutable"):
        if caches and table.get(key):
            raise ValueError(f"{option}: {key} can't be used with layer_content_caches: leave one of them out")


def own_keys(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a table that the snapshotter itself reads."""
    return {key: value for key, value in table.items() if not BUILTIN_SNAPSHOTTERS[name][key].differ}


def differ_keys(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a table that the differ of the snapshotter's name reads."""
    return {key: value for key, value in table.items() if BUILTIN_SNAPSHOTTERS[name][key].differ}
