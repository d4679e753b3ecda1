# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError, MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host import node_files, plan
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.modules import LOADERS, stage_module
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.plan import first_work, run
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.stage_module import StageModule


@pytest.fixture(autouse=True)
def _real_modules() -> Iterator[None]:
    """Each test finds the real modules, but for those that it replaces."""
    stage_module.cache_clear()
    yield
    stage_module.cache_clear()


class Module:
    """Stands for node_plan's AnsibleModule: it runs no program."""

    check_mode = False

    def __init__(self, stages: list[dict[str, Any]] | None = None) -> None:
        self.params = {"stages": stages}
        self.warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)

    def get_bin_path(self, _arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        assert not required and opt_dirs
        return None


def given(*stages: tuple[str, str, dict[str, Any]]) -> Any:
    return cast(AnsibleModule, Module([{"part": a, "stage": b, "module": b, "arguments": c} for a, b, c in stages]))


def fake(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Any, warnings: tuple[str, ...] = ()) -> list[Any]:
    """Let a module have this result, or raise this error; returns what its runs saw."""
    seen: list[Any] = []

    def predicted(module: AnsibleModule) -> dict[str, Any]:
        seen.append(module)
        for warning in warnings:
            module.warn(warning)
        if isinstance(outcome, Exception):
            raise outcome
        found: dict[str, Any] = outcome
        return found

    spec = {"config_file": {"type": "path"}, "number": {"type": "int", "default": 3}}
    monkeypatch.setitem(cast(dict[str, Any], LOADERS), name, lambda: StageModule(predicted, spec))
    stage_module.cache_clear()
    return seen


UNCHANGED = {"changed": False}
FILE: dict[str, Any] = {"files": []}


def test_a_node_without_work_enters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake(monkeypatch, "one", UNCHANGED, ("a handler is odd",))
    module = given(("containerd", "one", {"number": "7"}), ("images", "one", {}), ("toolboxes", "files", FILE))
    assert run(module) == {"changed": False, "parts": [], "stage": None, "reason": ""}
    assert [(one.check_mode, one.params["number"]) for one in seen] == [(True, 7), (True, 3)]
    assert module.warnings == ["a handler is odd"] * 2


def test_the_first_part_with_work_and_all_later_ones_are_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "clean", UNCHANGED, ("a handler is odd",))
    fake(monkeypatch, "same", UNCHANGED, ("shown by the role",))
    fake(monkeypatch, "dirty", {"changed": True})
    later = fake(monkeypatch, "later", UNCHANGED)
    parts = {"clean": "containerd", "same": "images", "dirty": "images"}
    module = given(*((part, name, {}) for name, part in parts.items()), ("images", "later", {}), ("toolboxes", "later", {}))
    found = run(module)
    assert (found["parts"], found["stage"]) == (["images", "toolboxes"], "dirty")
    assert (later, found["changed"], module.warnings) == ([], False, ["a handler is odd"])


@pytest.mark.parametrize(
    "error",
    [HostError("the daemon doesn't answer"), ValueError("number: no"), MissingLibrary("tomlkit")],
    ids=["host", "value", "lib"],
)
def test_a_module_that_fails_is_entered(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fake(monkeypatch, "one", error)
    work, _ = first_work(cast(AnsibleModule, Module()), [{"part": "images", "stage": "s", "module": "one", "arguments": {}}])
    assert work is not None and str(error) in work.reason


@pytest.mark.parametrize(
    ("name", "arguments"), [("one", {"nosuch": 1}), ("one", {"number": "many"}), ("unplanned", {}), ("nosuch", {})]
)
def test_what_cannot_be_planned_is_entered(monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any]) -> None:
    seen = fake(monkeypatch, "one", UNCHANGED)
    assert run(given(("toolboxes", name, arguments)))["parts"] == ["toolboxes"]
    assert seen == []


def test_a_result_that_says_failed_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "one", {"changed": False, "failed": True, "msg": "an image is damaged"})
    assert run(given(("images", "one", {})))["reason"] == "an image is damaged"


def test_an_archive_that_has_to_be_read_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "one", {"needs_file": "now"})
    assert "controller" in run(given(("images", "one", {})))["reason"]


SETTINGS = {"changed": False, "previous_snapshotter": "overlayfs", "effective": {"snapshotter": "overlayfs"}}


@pytest.mark.parametrize(
    ("result", "warnings", "record", "work"),
    [
        (SETTINGS, (), None, False),
        ({**SETTINGS, "previous_snapshotter": None}, (), None, False),
        ({**SETTINGS, "effective": {"snapshotter": None}}, (), Record(), False),
        (SETTINGS, ("erofs: this fails outside of check mode",), None, True),
        ({**SETTINGS, "previous_snapshotter": "native"}, (), None, True),
        (SETTINGS, (), Record(unstarted=True), True),
        (SETTINGS, (), Record(pending={"/etc/containerd/config.toml": None}), True),
        ({**SETTINGS, "changed": True, "restart_reason": "it is down"}, (), None, True),
    ],
)
def test_what_only_a_real_run_of_the_settings_does_is_work(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    result: dict[str, Any],
    warnings: tuple[str, ...],
    record: Record | None,
    work: bool,
) -> None:
    path = str(tmp_path / "config.toml")
    if record is not None and record != Record():
        Path(record_path(path)).write_text(record.to_text() or "")
    fake(monkeypatch, "containerd_config", result, warnings)
    assert bool(run(given(("containerd", "containerd_config", {"config_file": path})))["parts"]) is work


HANDLERS: dict[str, Any] = {"changed": False, "files": [], "deferred": [], "unlisted": []}


@pytest.mark.parametrize("key", ["files", "deferred", "unlisted"])
def test_handlers_that_differ_are_work(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    fake(monkeypatch, "kata_config", HANDLERS)
    assert run(given(("containerd", "kata_config", {})))["parts"] == []
    fake(monkeypatch, "kata_config", {**HANDLERS, key: ["kata-qemu"]})
    assert run(given(("containerd", "kata_config", {})))["parts"] == ["containerd"]


def test_an_unlisted_toolbox_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for prunable in (False, True):
        fake(monkeypatch, "toolbox_snapshot_info", {"changed": False, "toolboxes": [{"prunable": prunable}]})
        assert bool(run(given(("toolboxes", "toolbox_snapshot_info", {})))["parts"]) is prunable


def test_a_program_is_asked_once(tmp_path: Path) -> None:
    count = f"echo x >> {tmp_path}/asked; wc -l < {tmp_path}/asked"

    def ask_twice(module: AnsibleModule) -> dict[str, Any]:
        said = [Runner(module).run("/bin/sh", "-c", command, doing="count") for command in (count, count, "echo $LC_ALL")]
        return {"said": [one.strip() for one in said]}

    # Module, which stands for AnsibleModule, runs no program.
    assert StageModule(ask_twice, {}).predict(cast(AnsibleModule, Module()), {})[0] == {"said": ["1", "1", "C"]}


def test_stages_import_nothing_that_only_a_change_needs() -> None:
    unwanted = [
        "ansible.module_utils.urls",
        "tomlkit",
        *(
            f"ansible_collections.slipway.node.plugins.module_utils.{name}"
            for name in ("config.host.apply", "integrity.host.compare", "probe.host.probe")
        ),
    ]
    program = f"""
import json, sys
from {LOADERS["kata_config"].__module__} import LOADERS
for name in json.loads(sys.argv[1]):
    LOADERS[name]()
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""
    argv = [sys.executable, "-c", program, json.dumps(sorted(LOADERS)), json.dumps(unwanted)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout or "null") == [], done.stderr


def secrets(name: str, arguments: dict[str, Any]) -> set[str]:
    found = stage_module(name)
    assert found is not None
    return found.secrets(arguments)


def test_secrets_of_stages_are_hidden() -> None:
    registries = [{"name": "a.example", "username": "node", "password": "hunter2"}]
    assert "hunter2" in secrets("containerd_registry", {"registries": registries})
    assert "hunter2" in secrets("containerd_image", {"name": ["a"], "password": "hunter2"})
    extra = {"extra_config": {"plugins": {"x": {"password": "hunter2"}}}}
    assert "hunter2" in secrets("containerd_config", {"settings": extra})
    assert "hunter2" in secrets("toolbox_snapshot", {"name": "a", "password": "hunter2"})
    module = object.__new__(plan.PlanModule)
    module.params = {"stages": [{"module": "unplanned", "arguments": {"password": "hunter2"}}]}
    assert module._secrets() == {"hunter2"}


def checked(**arguments: Any) -> str:
    return node_files.CHECKS["files"](cast(AnsibleModule, Module()), {"files": [], **arguments})


def test_a_file_is_work_if_its_content_its_mode_or_its_type_differs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    wanted = {"path": str(path), "content": "vhost\n", "mode": 0o644}
    assert "missing" in checked(files=[wanted])
    path.write_text("vhost\n")
    path.chmod(0o644)
    assert checked(files=[wanted]) == ""
    path.chmod(0o600)
    assert "mode" in checked(files=[wanted])
    path.chmod(0o644)
    path.write_text("vhost_net\n")
    assert "differs" in checked(files=[wanted])
    path.rename(tmp_path / "other")
    path.symlink_to("other")
    assert "type" in checked(files=[wanted])
    tmp_path.chmod(0o755)
    assert checked(files=[{"path": str(tmp_path), "mode": 0o755}]) == ""
    assert "type" in checked(files=[{**wanted, "path": str(tmp_path), "mode": 0o755}])


def test_a_file_of_ours_that_is_no_longer_wanted_is_work(tmp_path: Path) -> None:
    path = tmp_path / "toolbox"
    assert checked(unwanted=[str(path)], mark="ours") == ""
    path.write_text("of others\n")
    assert checked(unwanted=[str(path)], mark="ours") == ""
    path.write_text("# ours\n")
    assert "no longer wanted" in checked(unwanted=[str(path)], mark="ours")


def test_a_file_system_that_the_kernel_lacks_is_work() -> None:
    assert checked(filesystem="tmpfs") == ""
    assert "nosuch" in checked(filesystem="nosuch")


def test_packages_are_work_where_dpkg_is_missing() -> None:
    assert node_files.CHECKS["packages"](cast(AnsibleModule, Module()), {"names": ["containerd"]})


def test_a_release_for_another_architecture_is_refused() -> None:
    release = {"release": {"name": "kata", "version": "1"}, "releases": {"nosuch": {"src": "a", "sha256": "b"}}}
    with pytest.raises(ValueError, match="no release of kata"):
        node_files.release_of(release)
