# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import (
    broken_imports,
    candidate,
    check_imports,
    read_sources,
)
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import change_time


def put(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_star_takes_a_leading_dot_as_in_go(tmp_path: Path) -> None:
    root = put(tmp_path / "config.toml", 'imports = ["conf.d/*.toml", "none.d/*.toml"]\n')
    for name in ("b.toml", ".a.toml", "c.txt"):
        put(tmp_path / "conf.d" / name, "version = 2\n")
    assert [os.path.relpath(one.path, tmp_path) for one in read_sources(root)] == [
        "config.toml",
        "conf.d/.a.toml",
        "conf.d/b.toml",
    ]


def test_a_file_that_an_imported_file_imports_is_replaced_by_its_candidate(tmp_path: Path) -> None:
    root = put(tmp_path / "config.toml", 'imports = ["base.toml"]\n')
    put(tmp_path / "base.toml", 'imports = ["conf.d/*.toml"]\noom_score = -5\n')
    ours = put(tmp_path / "conf.d" / "60-slipway.toml", "old = true\n")
    with candidate(root, {ours: "new = true\n"}) as places:
        staged = [tomllib.loads(Path(path).read_text()) for path in places.values()]
        base = next(tree for tree in staged if "oom_score" in tree)
        assert base["imports"] == [places[ours]]
        assert Path(places[ours]).read_text() == "new = true\n"
        assert next(tree for tree in staged if tree.get("imports") == [places[str(tmp_path / "base.toml")]])


def test_imports_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = put(tmp_path / "config.toml", 'imports = ["a.toml", "b.toml", "c.toml", "none.d/*.toml"]\n')
    put(tmp_path / "a.toml", "version = 2\n")
    found = broken_imports(read_sources(root), {str(tmp_path / "b.toml"): "version = 2\n"})
    assert [one.sentence() for one in found] == [
        f"{root} imports {tmp_path}/c.toml, which isn't there, so containerd would not start"
    ]
    assert found[0].remedy() == f"repair {tmp_path}/c.toml by hand, or remove it from imports in {root}"


def test_an_import_that_the_plan_adds_or_takes_out_is_judged_by_the_plan(tmp_path: Path) -> None:
    root = put(tmp_path / "config.toml", 'imports = ["gone.toml"]\n')
    with pytest.raises(HostError, match=r"gone\.toml, which isn't there"):
        check_imports(root)
    check_imports(root, {root: "version = 2\n"})
    ours = put(tmp_path / "conf.d" / "60-slipway.toml", "")
    named, glob = (f'imports = ["{one}"]\n' for one in (ours, f"{tmp_path}/conf.d/*.toml"))
    check_imports(root, {root: glob, ours: None})
    with pytest.raises(HostError, match=r"60-slipway\.toml, which isn't there"):
        check_imports(root, {root: named, ours: None})


def stumbling_block(kind: str, path: Path) -> None:
    """Create what no daemon can read, by the kind of file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to a fifo":
        os.mkfifo(path.parent / "fifo")
        path.symlink_to("fifo")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a directory":
        path.symlink_to(path.parent)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to("/dev/zero")


KINDS = {
    "fifo": "is a FIFO",
    "link to a fifo": "is a FIFO",
    "socket": "is a socket",
    "directory": "is a directory",
    "link to a directory": "is a directory",
    "dangling link": "is a link to nowhere, which isn't there",
    "loop": "is a link that leads to itself",
    "device": "is a device",
}


@pytest.mark.parametrize("by_glob", [True, False], ids=["glob", "name"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_import_that_is_no_file_is_named_and_not_opened(tmp_path: Path, kind: str, by_glob: bool) -> None:
    path = tmp_path / "conf.d" / "50-theirs.toml"
    root = put(tmp_path / "config.toml", f'imports = ["conf.d/{"*.toml" if by_glob else path.name}"]\n')
    path.parent.mkdir()
    stumbling_block(kind, path)
    assert [one.path for one in read_sources(root)] == [root]
    [broken] = broken_imports(read_sources(root))
    assert (broken.source, broken.path, broken.reason) == (root, str(path), KINDS[kind])
    assert str(path) in broken.remedy() and "by hand" in broken.remedy()


def test_a_link_to_the_null_device_masks_a_file(tmp_path: Path) -> None:
    root = put(tmp_path / "config.toml", 'imports = ["*.d/*.toml"]\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").symlink_to("/dev/null")
    assert [one.text for one in read_sources(root)][1:] == [""]
    assert broken_imports(read_sources(root)) == []


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    old = put(tmp_path / "old.toml", "")
    link = tmp_path / "config.toml"
    link.symlink_to(old)
    moment = os.stat(old).st_ctime + 0.5
    assert (change_time(old) or moment) < moment
    while os.lstat(link).st_ctime < moment + 0.1:
        link.unlink()
        link.symlink_to(old)
    assert (change_time(str(link)) or 0) > moment
    assert change_time(str(tmp_path / "none")) is change_time(f"{old}/below") is None
