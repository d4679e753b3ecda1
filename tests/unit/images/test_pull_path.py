# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.images.pull_path import PullPath, select_pull_path

TRANSFER = "io.containerd.transfer.v1.local"
OVERLAYFS = {"platform": "linux/amd64", "snapshotter": "overlayfs"}


def selected(text: str, tree: dict[str, Any], **more: Any) -> PullPath:
    options: dict[str, Any] = {"snapshotter": None, "platform": "linux/amd64", "machine": "linux/amd64", **more}
    return select_pull_path(EffectiveConfig(tree), Version.parse(text), **options)


@pytest.mark.parametrize(
    ("version", "plugins", "options", "expected"),
    [
        ("1.6.20", {}, {}, PullPath("overlayfs", None, False)),
        ("1.7.24", {}, {}, PullPath("overlayfs", None, False)),
        ("1.7.26", {"io.containerd.service.v1.diff-service": {"sync_fs": True}}, {}, PullPath("overlayfs", None, True)),
        ("2.1.9", {}, {}, PullPath("overlayfs", False, False)),
        ("2.1.9", {}, {"snapshotter": "native"}, PullPath("native", True, False)),
        ("2.1.9", {TRANSFER: {"unpack_config": [OVERLAYFS]}}, {}, PullPath("overlayfs", False, False)),
        ("2.1.9", {TRANSFER: {"unpack_config": [OVERLAYFS]}}, {"snapshotter": "erofs"}, PullPath("erofs", True, False)),
        ("2.1.9", {}, {"platform": "linux/arm64"}, PullPath("overlayfs", True, False)),
        # The transfer service goes around the diff service's sync, so the module has to do it.
        ("2.1.9", {"io.containerd.service.v1.diff-service": {"sync_fs": True}}, {}, PullPath("overlayfs", False, False)),
        (
            "2.1.9",
            {"io.containerd.service.v1.diff-service": {"sync_fs": True}},
            {"snapshotter": "native"},
            PullPath("native", True, True),
        ),
        ("2.1.9", {"io.containerd.cri.v1.images": {"snapshotter": "native"}}, {}, PullPath("native", True, False)),
    ],
)
def test_the_pull_path_by_version_and_settings(
    version: str, plugins: dict[str, Any], options: dict[str, Any], expected: PullPath
) -> None:
    schema = 3 if version.startswith("2") else 2
    assert selected(f"containerd x v{version}", {"version": schema, "plugins": plugins}, **options) == expected


def test_nothing_is_durable_where_the_metadata_is_not_flushed() -> None:
    plugins = {"io.containerd.metadata.v1.bolt": {"no_sync": True}, "io.containerd.service.v1.diff-service": {"sync_fs": True}}
    for snapshotter in ("overlayfs", "native", "devmapper"):
        path = selected("2.3.7", {"version": 4, "plugins": plugins}, snapshotter=snapshotter)
        # The layers are flushed all the same, because the daemon may flush its metadata later.
        assert (path.durability, path.synced_by_daemon) == ("not_durable", False)


def test_what_is_flushed_with_the_file_system_is_durable_and_the_rest_not_known() -> None:
    assert PullPath("overlayfs", None, False).durability == PullPath("native", None, False).durability == "durable"
    assert PullPath("devmapper", None, False).durability == PullPath("erofs", None, False).durability == "unknown"
