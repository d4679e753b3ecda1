# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The refusals to go back, and the diff."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.plain_programs import PlainPrograms
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import LINK, Kept
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import ARCHIVE, PACKAGE, UPGRADED, Manifest
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import previous
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.previous import shown_files
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.proof import readable_config

ROOT = "/etc/containerd/config.toml"
RECORD = (
    """{"set": [{"path": ["auth", "password"], "value": "secret", "before": "hidden"}], "original": "password = \\"hidden\\""}"""
)


def test_the_record_is_not_shown() -> None:
    files = [
        FileChange(ROOT, 'password = "secret"\n', 'password = "hidden"\n'),
        FileChange(record_path(ROOT), None, RECORD),
        FileChange("/etc/systemd/system/containerd.service", "[Unit]\n", "[Unit]\n"),
    ]
    shown = list(shown_files(files))
    assert [one["before_header"] for one in shown] == [ROOT]
    assert "secret" not in str(shown) and "hidden" not in str(shown)


def kept(number: int = 1, origin: str = ARCHIVE, to_version: str = "2.3.7") -> Manifest:
    return Manifest(number, "1.7.24", to_version, UPGRADED, 0.0, "", origin=origin)


def client(tmp_path: Path, script: str) -> Containerd:
    """containerd with a program of this text."""
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    config_file = str(tmp_path / "config.toml")
    runner = Runner(PlainPrograms())
    return Containerd(runner, config_file=config_file, unit="none.service", address="/none", binary=str(program))


def test_a_program_that_does_not_run_leaves_the_version_of_the_last_change(tmp_path: Path) -> None:
    generations = [kept(1, to_version="2.3.7"), kept(2, to_version="2.4.2")]
    assert previous._version(client(tmp_path, "exit 1"), generations) == Version.parse("2.4.2")
    assert previous._version(client(tmp_path, "echo containerd x v2.2.9 y"), generations) == Version.parse("2.2.9")


def test_a_program_that_does_not_run_has_no_configuration(tmp_path: Path) -> None:
    assert readable_config(client(tmp_path, "exit 1")).root is None


def test_a_generation_whose_release_is_gone_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    directory = tmp_path / "containerd/1.7.24-abc"
    (directory / "bin").mkdir(parents=True)
    objects = [Kept(LINK, f"{tmp_path}/containerd/current", target="1.7.24-abc")]
    (directory / "bin/containerd").write_text("program")
    (directory / "bin/containerd").chmod(0o755)
    manifest = {"version": "1.7.24", "executables": {"bin/containerd": 7}}
    (directory / ".slipway-manifest.json").write_text(json.dumps(manifest))
    node: Any = SimpleNamespace()
    previous._check_programs(node, kept(), objects, has_packages=False)
    (directory / "bin/containerd").unlink()
    with pytest.raises(HostError, match=r"containerd/1.7.24-abc, .* of generation 1, is missing or damaged: bring it back"):
        previous._check_programs(node, kept(), objects, has_packages=False)


@pytest.mark.parametrize(("origin", "has_packages"), [(ARCHIVE, False), (PACKAGE, True)])
def test_a_package_that_is_not_needed_is_not_asked(origin: str, has_packages: bool) -> None:
    node: Any = SimpleNamespace()
    previous._check_programs(node, kept(origin=origin), [], has_packages=has_packages)


def test_a_package_that_was_upgraded_meanwhile_is_refused_before_anything_is_touched() -> None:
    found: Any = SimpleNamespace(with_binary=lambda _path: SimpleNamespace(version="1.7.28"))
    with pytest.raises(HostError, match=r"/usr/bin/containerd is containerd 1.7.28, not 1.7.24 as in generation 1: install"):
        previous._check_programs(found, kept(origin=PACKAGE), [], has_packages=False)


def test_directories_that_the_upgrade_made_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [tmp_path / name for name in ("etc", "etc/conf.d", "etc/used", "gone")]
    for path in made[:3]:
        path.mkdir()
    target = replace(kept(), directories=tuple(str(path) for path in made))
    restored = []

    def restore(number: int, lock: int) -> None:
        restored.append((number, lock))
        (tmp_path / "etc/used/theirs").touch()

    monkeypatch.setattr(previous, "new_manifest", lambda *_: kept(2))
    monkeypatch.setattr(store, "restore", restore)
    change = previous._change(client(tmp_path, "exit 1"), Version.parse("2.3.7"), target, [], None, 1, 7, ())
    change.switch()
    assert restored == [(1, 7)]
    assert sorted(path.name for path in tmp_path.glob("etc/*")) == ["used"]
