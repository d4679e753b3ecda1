# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.durability import DURABLE, NOT_DURABLE, UNKNOWN, Pull
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version


def verdict(path: str, version: str, snapshotter: str, **settings: bool) -> str:
    return durability.classify(Pull(path, Version.parse(version), snapshotter, **settings)).durability


@pytest.mark.parametrize(
    ("path", "version", "settings", "expected"),
    [
        # What was counted with strace: CRI pulls of four layers.
        ("cri", "1.6.20", {}, NOT_DURABLE),
        ("cri", "1.7.24", {}, NOT_DURABLE),
        ("cri", "2.1.9", {}, NOT_DURABLE),
        ("cri", "1.7.24", {"image_pull_sync_fs": True}, DURABLE),
        ("cri", "2.1.9", {"image_pull_sync_fs": True}, DURABLE),
        ("cri", "2.2.7", {"image_pull_sync_fs": True}, DURABLE),
        ("cri", "2.3.4", {"image_pull_sync_fs": True}, DURABLE),
        ("cri", "2.1.9", {"diff_sync_fs": True}, NOT_DURABLE),
        ("cri", "2.3.4", {"diff_sync_fs": True}, NOT_DURABLE),
        ("cri", "2.1.9", {"diff_sync_fs": True, "local_image_pull": True}, DURABLE),
        # Before 2.1 CRI pulls by itself, through the diff service.
        ("cri", "1.7.26", {"diff_sync_fs": True}, DURABLE),
        ("cri", "2.0.5", {"diff_sync_fs": True}, DURABLE),
        ("ctr", "2.1.9", {"image_pull_sync_fs": True}, NOT_DURABLE),
        ("ctr", "1.7.26", {"diff_sync_fs": True}, DURABLE),
        ("ctr", "2.1.9", {"diff_sync_fs": True}, DURABLE),
        ("transfer", "1.7.26", {"diff_sync_fs": True}, NOT_DURABLE),
        (
            "transfer",
            "2.1.9",
            {"image_pull_sync_fs": True, "diff_sync_fs": True, "local_image_pull": True},
            NOT_DURABLE,
        ),
    ],
)
def test_what_survives_a_power_cut(path: str, version: str, settings: dict[str, bool], expected: str) -> None:
    assert verdict(path, version, "overlayfs", **settings) == expected
    assert verdict(path, version, "native", **settings) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"image_pull_sync_fs": True}, NOT_DURABLE),
        ({"diff_sync_fs": True}, DURABLE),
        ({"image_pull_sync_fs": True, "diff_sync_fs": True}, DURABLE),
    ],
)
def test_what_is_unpacked_when_a_container_is_made_is_flushed_by_the_diff_service_alone(
    settings: dict[str, bool], expected: str
) -> None:
    assert verdict("cri", "2.1.9", "native", late=True, **settings) == expected


@pytest.mark.parametrize("snapshotter", ["erofs", "devmapper", "blockfile", "btrfs", "zfs", "lazy"])
@pytest.mark.parametrize("path", durability.PATHS)
def test_other_snapshotters_are_unknown_whatever_the_settings(path: str, snapshotter: str) -> None:
    on = {"image_pull_sync_fs": True, "diff_sync_fs": True, "local_image_pull": True}
    assert verdict(path, "2.1.9", snapshotter) == UNKNOWN
    assert verdict(path, "2.1.9", snapshotter, **on) == UNKNOWN


@pytest.mark.parametrize(
    ("version", "paths"),
    [
        ("1.6.20", ("cri", "ctr")),
        ("1.7.0", ("cri", "ctr", "transfer")),
        ("2.3.4", ("cri", "ctr", "transfer")),
    ],
)
def test_pull_paths_of_a_version(version: str, paths: tuple[str, ...]) -> None:
    assert durability.paths(Version.parse(version)) == paths


@pytest.mark.parametrize("path", durability.PATHS)
@pytest.mark.parametrize("snapshotter", ["overlayfs", "blockfile", "erofs"])
def test_nothing_is_durable_where_the_metadata_is_not_flushed(path: str, snapshotter: str) -> None:
    on = {"image_pull_sync_fs": True, "diff_sync_fs": True, "local_image_pull": True}
    assert verdict(path, "2.3.7", snapshotter, no_sync=True, **on) == NOT_DURABLE


@pytest.mark.parametrize(
    ("snapshotter", "expected"),
    [
        ("overlayfs", DURABLE),
        ("native", DURABLE),
        ("blockfile", UNKNOWN),
        ("devmapper", UNKNOWN),
        ("erofs", UNKNOWN),
        ("nydus", UNKNOWN),
    ],
)
def test_an_image_that_was_synced_is_durable_if_its_files_are_in_a_directory(snapshotter: str, expected: str) -> None:
    assert durability.of_flushed(snapshotter) == expected
    assert durability.of_flushed(snapshotter, no_sync=True) == NOT_DURABLE


def test_every_row_says_why_and_where_from() -> None:
    for row in durability.TABLE:
        assert row.verdict.durability in (DURABLE, NOT_DURABLE, UNKNOWN)
        assert row.verdict.reason
        assert row.verdict.source
