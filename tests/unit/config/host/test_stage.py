# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.config.host import stage
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import plan_files
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import Transaction
from ansible_collections.slipway.node.plugins.module_utils.config.plan import ConfigPlan, CurrentConfig
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text

ROOT, DROP_IN, UNIT = "etc/containerd/config.toml", "etc/containerd/conf.d/60-slipway.toml", "etc/systemd/unit.d/60.conf"
SETTINGS = {"sandbox_image": "registry.example/pause:1"}


def run(
    top: Path,
    version: str,
    settings: dict[str, Any] | None,
    directives: dict[str, str] | None = None,
    drop_in: str | None = None,
) -> None:
    """Apply what containerd_config plans; without settings and directives, take it back."""
    drop_in = drop_in or str(top / DROP_IN)
    present = settings is not None or directives is not None
    params = {
        "state": "present" if present else "absent",
        "settings": settings or {},
        "service_directives": directives or {},
        "enable_cri": False,
        "http_proxy": None,
        "unit": "containerd.service",
        "restart": "never",
        "unit_enabled": True,
        "timeout": 1,
        "probe": "none",
        "drop_in_file": str(top / DROP_IN),
    }
    root = str(top / ROOT)
    texts = (read_text(root), read_text(drop_in))
    found = CurrentConfig(Version.parse(version), "amd64", root, drop_in, *texts, read_record(root))
    plan, files = plan_files(ConfigRequest.from_params(params), found)
    change = Transaction(root, found.record, plan.record, [file for file in files if file.changed])
    change.begin()
    change.write()
    change.commit()


def tree(top: Path) -> dict[str, bytes | None]:
    """Everything below a directory: files with their contents, directories with None."""
    return {str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


BEFORE = {
    "nothing": (),
    "empty directories": ("etc/containerd/conf.d/", "etc/systemd/unit.d/"),
    "an empty root file": (ROOT,),
    "a directory of others": ("etc/containerd/", "etc/systemd/"),
}
TEXTS = {
    "none": None,
    "empty imports": "version = 2\nimports = [ ]  # none\n",
    "quotes": "version = 2\n\n\n[debug]\nlevel='info'",
}


@pytest.mark.parametrize("version", ["1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_absent_leaves_the_files_and_directories_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, text: str, before: str, later: bool
) -> None:
    monkeypatch.setattr(stage, "drop_in_path", lambda unit: str(tmp_path / UNIT))
    for name in BEFORE[before]:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("")
    if TEXTS[text] is not None:
        (tmp_path / ROOT).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ROOT).write_text(TEXTS[text] or "")
    there = tree(tmp_path)
    run(tmp_path, version, SETTINGS, {"TasksMax": "infinity"})
    if later:
        run(tmp_path, version, {"max_concurrent_downloads": 4}, {"LimitNOFILE": "7"})
        run(tmp_path, version, None, {"LimitNOFILE": "7"})
    assert tree(tmp_path) != there
    run(tmp_path, version, None)
    assert tree(tmp_path) == there


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a root file."""
    monkeypatch.setattr(stage, "drop_in_path", lambda unit: str(tmp_path / UNIT))
    (tmp_path / ROOT).parent.mkdir(parents=True)
    (tmp_path / ROOT).write_text("version = 2\n")
    return tmp_path


@pytest.mark.parametrize("link", [False, True])
def test_a_drop_in_that_is_the_root_file_is_refused(top: Path, link: bool) -> None:
    drop_in = top / ("etc/containerd/link.toml" if link else f"etc/../{ROOT}")
    if link:
        drop_in.symlink_to(top / ROOT)
    for settings in (SETTINGS, None):
        with pytest.raises(ValueError, match=r"drop_in_file: .* is the root file"):
            run(top, "2.1.9", settings, drop_in=str(drop_in))


def test_a_foreign_drop_in_of_the_unit_is_neither_replaced_nor_removed(top: Path) -> None:
    (top / UNIT).parent.mkdir(parents=True)
    (top / UNIT).write_text("[Service]\n")
    there = tree(top)
    with pytest.raises(ValueError, match=r"service_directives: .*60\.conf was not written by slipway\.node"):
        run(top, "2.1.9", {}, {"TasksMax": "1"})
    run(top, "2.1.9", SETTINGS)
    run(top, "2.1.9", None)
    assert tree(top) == there


@pytest.mark.parametrize(("after", "dumps"), [("version = 2\n", 1), ("version = 2\nroot = '/srv'\n", 2)])
def test_the_configuration_is_read_once_unless_a_file_changes(top: Path, after: str, dumps: int) -> None:
    program, root = top / "containerd", str(top / ROOT)
    program.write_text(f'#!/bin/sh\necho "$*" >> {top}/asked\ncat "$2"\n')
    program.chmod(0o755)
    client = Containerd(Runner(Module()), config_file=root, unit="a.service", address="/none", binary=str(program))
    change = FileChange(root, "version = 2\n", after)
    planned = ContainerdHost(client, str(top / DROP_IN)).planned_config(ConfigPlan((change,), Record(), 2))
    assert (planned.root, client.config.root) == ("/srv" if dumps == 2 else None, None)
    assert len((top / "asked").read_text().splitlines()) == dumps
