# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.tree import merge, nest
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import requirements as needs
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.scratch import Scratch

SOUND = Scratch(64 << 20, "ext4")
DAMAGED = Scratch(1, "ext4", "it was cut short")
FILE = {"scratch_file": "/scratch"}
ANEW = {"recreate_scratch": True}
XFS = Scratch(300 << 20, "xfs")


def assert_problem(found: needs.MissingRequirement | None, words: str) -> None:
    assert words in (found.reason if found else "") and bool(words) is bool(found)


@pytest.mark.parametrize(
    ("table", "pool_there", "words"),
    [
        ({"pool_name": "pool", "base_image_size": "10GB"}, True, ""),
        ({}, False, "needs pool_name"),
        ({"pool_name": "pool", "base_image_size": "10GB"}, False, "no device /dev/mapper/pool"),
        ({"pool_name": "pool"}, True, "needs base_image_size"),
    ],
)
def test_devmapper(table: dict[str, Any], pool_there: bool, words: str) -> None:
    assert_problem(needs.devmapper_problem(table, pool_there=pool_there), words)


@pytest.mark.parametrize(
    ("table", "found", "copy", "loop", "words"),
    [
        (FILE, SOUND, None, True, ""),
        (FILE, SOUND, SOUND, True, ""),
        (FILE, SOUND, None, False, "loop devices"),
        (FILE, None, None, True, "no file /scratch"),
        (FILE, None, SOUND, True, "no file /scratch"),
        (FILE, DAMAGED, None, True, "/scratch can't be used: it was cut short"),
        (FILE, SOUND, DAMAGED, True, "containerd's copy"),
        ({**FILE, **ANEW}, SOUND, DAMAGED, True, ""),
        (FILE, SOUND, Scratch(64 << 20, "ext3"), True, ""),
        ({}, None, None, True, "needs scratch_file"),
        ({}, None, SOUND, True, ""),
        ({**FILE, "fs_type": "xfs"}, SOUND, None, True, "nouuid"),
        ({**FILE, "fs_type": "xfs", "mount_options": ["loop", "nouuid"]}, SOUND, None, True, "/scratch holds ext4, not xfs"),
        ({**FILE, "fs_type": "xfs", "mount_options": ["loop", "nouuid"]}, XFS, None, True, ""),
        ({**FILE, "fs_type": "xfs", "mount_options": ["loop", "nouuid"]}, XFS, SOUND, True, "its layers, hold ext4, not xfs"),
        # Layers that are there stay what they are.
        ({**FILE, **ANEW, "fs_type": "xfs", "mount_options": ["loop", "nouuid"]}, XFS, SOUND, True, "leave it"),
        ({"fs_type": "xfs", "mount_options": ["loop", "nouuid"]}, None, SOUND, True, "leave it"),
        # Nothing is mounted without a loop device, and containerd calls the snapshotter ok all the same.
        ({**FILE, "fs_type": "xfs", "mount_options": ["nouuid"]}, XFS, None, True, "lacks loop"),
        ({**FILE, "mount_options": ["noatime"]}, SOUND, None, True, "lacks loop"),
        ({**FILE, "mount_options": ["loop", "noatime"]}, SOUND, None, True, ""),
    ],
)
def test_blockfile(table: dict[str, Any], found: Scratch | None, copy: Scratch | None, loop: bool, words: str) -> None:
    assert_problem(needs.blockfile_problem(table, found, copy, loop=loop), words)


@pytest.mark.parametrize(
    ("known", "mkfs", "words"),
    [
        ({"erofs"}, "mkfs.erofs (erofs-utils) 1.9.4\navailable compressors: lz4", ""),
        ({"erofs"}, "mkfs.erofs 1.7.1\n", ""),
        ({"erofs"}, "mkfs.erofs 1.5\n", "of version 1.5, and containerd needs 1.7"),
        ({"erofs"}, "usage", "doesn't say its version"),
        ({"erofs"}, None, "no program mkfs.erofs"),
        ({"ext4"}, "mkfs.erofs (erofs-utils) 1.9.4", "modprobe erofs"),
    ],
)
def test_erofs(known: set[str], mkfs: str | None, words: str) -> None:
    assert_problem(needs.erofs_problem(frozenset(known), mkfs), words)


def test_erofs_with_verity_needs_the_kernels(recorded: Callable[[str, str], str]) -> None:
    dump = tomllib.loads(recorded("2.1.9", "default.toml"))
    config = EffectiveConfig(dump)
    assert not needs.needs_verity(config)
    for name, key, value in (("snapshotter", "dmverity_mode", "on"), ("differ", "enable_dmverity", True)):
        wanted = merge(dump, nest({("plugins", f"io.containerd.{name}.v1.erofs", key): value}))
        assert needs.needs_verity(EffectiveConfig(wanted))
    assert_problem(needs.erofs_problem(frozenset({"erofs"}), "mkfs.erofs 1.9.4", verity=False), "modprobe dm_verity")


@pytest.mark.parametrize(
    ("there", "answers", "words"), [(True, True, ""), (False, False, "no socket /s"), (True, False, "no service answers at /s")]
)
def test_proxies(there: bool, answers: bool, words: str) -> None:
    assert_problem(needs.proxy_problem("lazy", "/s", there=there, answers=answers), words)


def test_the_file_systems_that_the_kernel_has() -> None:
    assert needs.file_systems("nodev\tsysfs\n\text4\n\terofs\n") == {"sysfs", "ext4", "erofs"}


def test_what_the_roles_create_is_told_apart_from_what_is_wrong() -> None:
    pool = {"pool_name": "pool", "base_image_size": "10GB"}
    mkfs = "mkfs.erofs 1.9.4"
    created = [
        needs.devmapper_problem(pool, pool_there=False),
        needs.blockfile_problem(FILE, None, None, loop=True),
        needs.erofs_problem(frozenset(), mkfs),
        needs.erofs_problem(frozenset({"erofs"}), None),
    ]
    wrong = [
        needs.devmapper_problem({"pool_name": "pool"}, pool_there=False),
        needs.blockfile_problem(FILE, DAMAGED, None, loop=True),
        needs.blockfile_problem(FILE, None, None, loop=False),
        needs.erofs_problem(frozenset({"erofs"}), "mkfs.erofs 1.5"),
        needs.proxy_problem("lazy", "/s", there=False, answers=False),
    ]
    assert [one.creatable for one in created if one] == [True] * 4
    assert [one.creatable for one in wrong if one] == [False] * 5
