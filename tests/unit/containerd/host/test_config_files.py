# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import tomllib
from pathlib import Path

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import (
    candidate,
    missing_imports,
    read_sources,
)
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import changed_since


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
    found = missing_imports(read_sources(root), coming=[str(tmp_path / "b.toml")])
    assert found == [f"{root} imports {tmp_path}/c.toml, which isn't there"]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    old = put(tmp_path / "old.toml", "")
    link = tmp_path / "config.toml"
    link.symlink_to(old)
    moment = os.stat(old).st_ctime + 0.5
    assert not changed_since(old, moment)
    while os.lstat(link).st_ctime < moment + 0.1:
        link.unlink()
        link.symlink_to(old)
    assert changed_since(str(link), moment)
    assert not changed_since(str(tmp_path / "none"), moment)
    assert not changed_since(f"{old}/below", moment)
