# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_mounts


def test_a_directory_is_on_the_mount_that_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/sys/kernel")
    found, trouble = read_mounts([str(tmp_path / "link"), "/proc", "/sys"])
    assert trouble == ""
    assert [mount.type for mount in found.values()] == ["proc", "proc", "sysfs"]


def test_what_is_not_there_does_not_hide_the_rest(tmp_path: Path) -> None:
    found, trouble = read_mounts([str(tmp_path / "none"), "/proc"])
    assert list(found) == ["/proc"]
    assert trouble == f"cannot read {tmp_path}/none: No such file or directory"
