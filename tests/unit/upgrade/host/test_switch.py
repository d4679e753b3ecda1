# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which links and which unit lead to the programs of another version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import MANAGED
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import packages, switch
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.switch import ProgramSwitch, apply_switch, check_program

RUNNER = Runner(Programs())
NAMES = ("containerd", "ctr")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with two versions of a release, of which the links lead to the first, and the unit of the collection."""
    for version in ("1-aaa", "2-bbb"):
        directory = tmp_path / "lib/containerd" / version
        (directory / "bin").mkdir(parents=True)
        for name in NAMES:
            (directory / "bin" / name).write_text(version)
            (directory / "bin" / name).chmod(0o755)
        sizes = {f"bin/{name}": len(version) for name in NAMES}
        (directory / ".slipway-manifest.json").write_text(json.dumps({"version": version, "executables": sizes}))
    (tmp_path / "lib/containerd/current").symlink_to("1-aaa")
    (tmp_path / "bin").mkdir()
    for name in NAMES:
        (tmp_path / "bin" / name).symlink_to(tmp_path / "lib/containerd/current/bin" / name)
    (tmp_path / "containerd.service").write_text(f"# {MANAGED}\n[Service]\n")
    monkeypatch.setattr(switch, "_UNITS", str(tmp_path))
    return tmp_path


def planned(node: Path, version: str | None = "2-bbb", *, predicted: bool = False, **options: Any) -> ProgramSwitch:
    releases = [{"name": "containerd", "path": str(node / "lib/containerd" / version)}] if version else []
    params = {
        "prefix": str(node / "lib"),
        "link_dir": str(node / "bin"),
        "releases": releases,
        "packages": [],
        "replace_packages": [],
        "to_binary": None,
        "unit_content": None,
        **options,
    }
    return switch.plan_switch(RUNNER, params, "containerd.service", predicted=predicted)


def program(node: Path) -> str:
    """What the link to the daemon's program leads to."""
    return (node / "bin/containerd").read_text()


def test_the_links_lead_to_the_other_version(node: Path) -> None:
    plan = planned(node)
    assert plan.changed
    apply_switch(RUNNER, plan)
    assert program(node) == "2-bbb"
    assert not planned(node).changed


def test_everything_that_changes_is_named(node: Path) -> None:
    (node / "bin/old").symlink_to(node / "lib/containerd/current/bin/old")
    expected = {"lib/containerd/current", "bin/containerd", "bin/ctr", "bin/old", "containerd.service"}
    assert {str(Path(path).relative_to(node)) for path in planned(node).paths} == expected


def test_the_diff_shows_both_versions(node: Path) -> None:
    [shown] = planned(node).diff()
    assert (shown["before"], shown["after"]) == ("1-aaa\n", "2-bbb\n")


@pytest.mark.parametrize(
    ("version", "words"), [("3-ccc", "missing or damaged: stage it"), ("../runc/1-aaa", "releases.path must be an absolute path")]
)
def test_a_version_that_is_not_there_is_refused(node: Path, version: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned(node, version)


def test_a_version_that_is_not_there_yet_can_be_predicted(node: Path) -> None:
    assert planned(node, "3-ccc", predicted=True).changed


def test_a_damaged_version_is_refused(node: Path) -> None:
    (node / "lib/containerd/2-bbb/bin/ctr").write_text("")
    with pytest.raises(ValueError, match="missing or damaged"):
        planned(node)


def test_a_program_of_others_is_not_replaced(node: Path) -> None:
    (node / "bin/ctr").unlink()
    (node / "bin/ctr").write_text("theirs")
    with pytest.raises(ValueError, match="install the same version with that module and its option adopt, or move it away"):
        planned(node)


@pytest.mark.parametrize(("replaced", "unpacked"), [("ctr", True), ("containerd", False)])
def test_a_program_of_others_is_refused_in_a_prediction_too(node: Path, replaced: str, unpacked: bool) -> None:
    (node / "bin" / replaced).unlink()
    (node / "bin" / replaced).write_text("theirs")
    binary = str(node / "lib/containerd/2-bbb/bin/containerd") if unpacked else None
    with pytest.raises(ValueError, match=f"bin/{replaced} is a file and was not created by slipway.node.release_install"):
        planned(node, "3-ccc", predicted=True, to_binary=binary)


def test_a_release_has_the_name_of_its_directory(node: Path) -> None:
    with pytest.raises(ValueError, match="is not a version directory of runc"):
        planned(node, releases=[{"name": "runc", "path": str(node / "lib/containerd/2-bbb")}])


def test_packages_take_the_place_of_releases(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "pending", lambda *_arguments: ())
    plan = planned(node, None, packages=["containerd"])
    assert plan.unit.after is None
    apply_switch(RUNNER, plan)
    assert sorted(path.name for path in (node / "bin").iterdir()) == []
    assert sorted(path.name for path in (node / "lib/containerd").iterdir()) == ["1-aaa", "2-bbb"]
    assert not (node / "containerd.service").exists()
    assert not planned(node, None, packages=["containerd"]).changed


def test_a_unit_of_others_stays_with_packages(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "pending", lambda *_arguments: ())
    (node / "containerd.service").write_text("[Service]\n")
    assert not planned(node, None, packages=["containerd"]).unit.changed


def test_the_unit_is_written_in_the_place_of_a_link(node: Path) -> None:
    (node / "containerd.service").rename(node / "theirs")
    (node / "containerd.service").symlink_to("theirs")
    apply_switch(RUNNER, planned(node, None, unit_content="[Unit]"))
    assert (node / "containerd.service").read_text() == "[Unit]\n"
    assert (node / "theirs").read_text().startswith("#")
    assert not planned(node, None, unit_content="[Unit]").changed


def test_the_program_belongs_to_what_is_installed(node: Path) -> None:
    releases = [{"name": "containerd", "path": str(node / "lib/containerd/2-bbb")}]
    plan = planned(node)
    check_program(f"{node}/lib/containerd/2-bbb/bin/containerd", plan, releases, f"{node}/bin/containerd")
    check_program(f"{node}/bin/containerd", planned(node, None), [], f"{node}/bin/containerd")
    with pytest.raises(ValueError, match="to_binary: /usr/bin/env is in none of releases"):
        check_program("/usr/bin/env", plan, releases, f"{node}/bin/containerd")
