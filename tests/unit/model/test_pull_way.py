# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.model.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.model.pull_way import Way, find_way
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version

TRANSFER = "io.containerd.transfer.v1.local"
OVERLAYFS = {"platform": "linux/amd64", "snapshotter": "overlayfs"}


def way(text: str, tree: dict[str, Any], **more: Any) -> Way:
    options: dict[str, Any] = {"snapshotter": None, "platform": "linux/amd64", "machine": "linux/amd64", **more}
    return find_way(EffectiveConfig(tree), Version.parse(text), **options)


@pytest.mark.parametrize(
    ("version", "plugins", "options", "expected"),
    [
        ("1.6.20", {}, {}, Way("overlayfs", None, False)),
        ("1.7.24", {}, {}, Way("overlayfs", None, False)),
        ("1.7.26", {"io.containerd.service.v1.diff-service": {"sync_fs": True}}, {}, Way("overlayfs", None, True)),
        ("2.1.9", {}, {}, Way("overlayfs", False, False)),
        ("2.1.9", {}, {"snapshotter": "native"}, Way("native", True, False)),
        ("2.1.9", {TRANSFER: {"unpack_config": [OVERLAYFS]}}, {}, Way("overlayfs", False, False)),
        ("2.1.9", {TRANSFER: {"unpack_config": [OVERLAYFS]}}, {"snapshotter": "erofs"}, Way("erofs", True, False)),
        ("2.1.9", {}, {"platform": "linux/arm64"}, Way("overlayfs", True, False)),
        # The transfer service goes around the diff service's sync, so the module has to do it.
        ("2.1.9", {"io.containerd.service.v1.diff-service": {"sync_fs": True}}, {}, Way("overlayfs", False, False)),
        (
            "2.1.9",
            {"io.containerd.service.v1.diff-service": {"sync_fs": True}},
            {"snapshotter": "native"},
            Way("native", True, True),
        ),
        ("2.1.9", {"io.containerd.cri.v1.images": {"snapshotter": "native"}}, {}, Way("native", True, False)),
    ],
)
def test_the_way_by_version_and_settings(version: str, plugins: dict[str, Any], options: dict[str, Any], expected: Way) -> None:
    schema = 3 if version.startswith("2") else 2
    assert way(f"containerd x v{version}", {"version": schema, "plugins": plugins}, **options) == expected


def test_what_is_flushed_with_the_file_system_is_durable_and_the_rest_not_known() -> None:
    assert Way("overlayfs", None, False).durability == Way("native", None, False).durability == "durable"
    assert Way("devmapper", None, False).durability == Way("erofs", None, False).durability == "unknown"
