# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import parse_details
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import parse_root

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]


@pytest.mark.parametrize("version", VERSIONS)
def test_finds_the_directory_that_a_plugin_exports(recorded: Recorded, version: str) -> None:
    listing = recorded(version, "plugins-overlayfs.txt")
    assert parse_root(listing) == "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    assert parse_root(listing.replace("/var/lib/", "/srv/two words/")).startswith("/srv/two words/containerd/")  # type: ignore[union-attr]
    assert parse_root("") is None


@pytest.mark.parametrize("version", ["1.7.24", "2.3.7"])
@pytest.mark.parametrize(
    ("plugin", "root"),
    [
        ("content", "/var/lib/containerd/io.containerd.content.v1.content"),
        ("overlayfs", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"),
        ("native", "/var/lib/containerd/io.containerd.snapshotter.v1.native"),
        ("tasks", None),
    ],
)
def test_finds_the_directory_of_each_plugin_among_all(recorded: Recorded, version: str, plugin: str, root: str | None) -> None:
    details = parse_details(recorded(version, "plugins-detailed.txt"))
    assert parse_root(details[plugin]) == root
