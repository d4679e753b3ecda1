# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an overlay is seen, from a table of mounts that isn't the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.expected import read_view
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source

ROOT = Mount(1, "/", "ext4", "/dev/vda", ("rw",), parent=1)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    for name in ("upper", "work/work", "layer", "box"):
        (tmp_path / name).mkdir(parents=True)
    names = {"upperdir": "upper", "workdir": "work", "lowerdir": "layer"}
    return Source("overlay", "overlay", tuple(f"{key}={tmp_path}/{name}" for key, name in names.items()))


def mounted(path: Path, source: Source, *options: str) -> Mount:
    return Mount(2, str(path), "overlay", "overlay", (*options, *source.options), parent=1)


def test_a_mount_with_all_its_directories_is_well(tmp_path: Path, source: Source) -> None:
    view = read_view(str(tmp_path / "box"), source, [ROOT, mounted(tmp_path / "box", source, "rw")])
    assert view.mount is not None and (view.cover, view.missing, view.error, view.writable) == (None, (), "", True)


@pytest.mark.parametrize("name", ["upper", "layer"])
def test_a_directory_that_is_gone_is_missing_whether_or_not_it_is_mounted(tmp_path: Path, source: Source, name: str) -> None:
    (tmp_path / name).rmdir()
    for table in ([ROOT], [ROOT, mounted(tmp_path / "box", source, "rw")]):
        assert read_view(str(tmp_path / "box"), source, table).missing == (f"{tmp_path}/{name}",)


def test_the_kernels_work_directory_is_needed_only_to_write(tmp_path: Path, source: Source) -> None:
    (tmp_path / "work/work").rmdir()
    for option, missing in (("rw", (f"{tmp_path}/work/work",)), ("ro", ())):
        table = [ROOT, mounted(tmp_path / "box", source, option)]
        assert read_view(str(tmp_path / "box"), source, table).missing == missing
    assert read_view(str(tmp_path / "box"), source, [ROOT]).missing == ()


def test_what_covers_a_toolbox_is_not_touched(source: Source) -> None:
    cover = Mount(3, "/nowhere", "nfs4", "server:/", ("rw",), parent=1)
    view = read_view("/nowhere/box", source, [ROOT, mounted(Path("/nowhere/box"), source), cover])
    assert (view.cover, view.error) == (cover, "")


def test_a_mount_that_cannot_be_listed_is_said(tmp_path: Path, source: Source) -> None:
    gone = tmp_path / "gone"
    view = read_view(str(gone), source, [ROOT, mounted(gone, source, "rw")])
    assert view.error == "can't be listed: No such file or directory"
