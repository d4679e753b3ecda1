# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_upgrade_info with the programs of both versions, on the cases of upgrades.yml. Only one test needs a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.local_module import LocalModule
from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.config.plan import CurrentConfig, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES, Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.read import Inventory, read_upgrade
from ansible_collections.slipway.node.plugins.module_utils.upgrade.report import report
from nodes import daemon
from nodes.node import CHECKOUT, Node, run
from nodes.node import LINES as LINE_OF_SUITE
from nodes.upstream import unpacked, unpacked_package

CASES = yaml.safe_load(Path(__file__).with_name("upgrades.yml").read_text())
NAMES = {"CRI": "io.containerd.grpc.v1.cri", "RUNTIME": "io.containerd.cri.v1.runtime", "IMAGES": "io.containerd.cri.v1.images"}
# Kinds of entries that depend on the machine that runs the tests, or on a daemon.
ELSEWHERE = (
    "the network of pods",
    "deprecated features in use",
    "snapshots of snapshotters that the new version lacks",
    "cgroup v1",
)


def program(line: str) -> str:
    """The path of the containerd of a line, from Debian's package or upstream's release."""
    suite = next(suite for suite, one in LINE_OF_SUITE.items() if one == line)
    if suite != line:
        return str(unpacked_package("containerd", suite) / "usr/bin/containerd")
    version = next(one.tested for one in LINES if f"{one.major}.{one.minor}" == line)
    return str(unpacked("containerd", version) / "bin/containerd")


class Files:
    """The files of a case, in a directory."""

    def __init__(self, directory: Path, case: dict[str, Any], version: Version) -> None:
        self.directory = directory
        self.root, self.drop_in = directory / "config.toml", directory / "60-slipway.toml"
        text = (CHECKOUT / "tests/unit/recorded" / case["recorded"]).read_text() if "recorded" in case else case["root"]
        for name, content in case.get("drop_ins", {}).items():
            path = self.drop_ins / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.filled(content))
        self.root.write_text(self.filled(text))
        self.settings = Settings.from_params(case.get("settings", {}))
        if case.get("settings"):
            self.write_settings(version)

    @property
    def drop_ins(self) -> Path:
        return self.directory / "conf.d"

    def filled(self, text: Any) -> Any:
        if isinstance(text, list):
            return [self.filled(one) for one in text]
        if not isinstance(text, str):
            return text
        for name, value in {**NAMES, "DIR": str(self.drop_ins), "ROOT": str(self.root)}.items():
            text = text.replace(name, value)
        return text

    def write_settings(self, version: Version) -> None:
        """Write the files as the collection does for the installed version, unless it refuses to."""
        found = CurrentConfig(version, "amd64", str(self.root), str(self.drop_in), self.root.read_text(), None, Record())
        plan = plan_config(found, self.settings)
        for file in plan.files:
            if file.after is not None:
                Path(file.path).write_text(file.after)
        text = plan.record.to_text()
        if text is not None:
            Path(f"{self.root}.slipway.json").write_text(text)


def entries(files: Files, now: str, then: str) -> list[dict[str, Any]]:
    installed = Containerd(
        Runner(Programs()),
        config_file=str(files.root),
        unit="containerd.service",
        address=str(files.directory / "none.sock"),
        binary=program(now),
    )
    inventory = Inventory(files.settings, enable_cri=False, drop_in_file=str(files.drop_in))
    found = [entry.to_dict() for entry in report(read_upgrade(installed, installed.with_binary(program(then)), inventory))]
    return [entry for entry in found if entry["what"] not in ELSEWHERE]


def matches(wanted: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether an entry has these values. Texts have to contain the value."""
    for key, value in wanted.items():
        found = entry[key]
        inside = key in ("then", "remedy") and isinstance(value, str) and isinstance(found, str) and value in found
        if found != value and not inside:
            return False
    return True


@pytest.mark.parametrize(
    ("case", "now", "then"),
    [
        pytest.param(case, str(now), str(then), id=f"{case['name']}, {now} to {then}")
        for case in CASES
        for now, then in case["versions"]
    ],
)
def test_the_report_names_what_the_new_version_reads_otherwise(case: dict[str, Any], now: str, then: str, tmp_path: Path) -> None:
    files = Files(tmp_path, case, Version.parse(f"{now}.99"))
    found = entries(files, now, then)
    wanted = [{"status": "fail", **{key: files.filled(value) for key, value in one.items()}} for one in case["entries"]]
    assert [one for one in wanted if not any(matches(one, entry) for entry in found)] == [], found
    assert [one for one in found if one["status"] == "fail" and not any(matches(entry, one) for entry in wanted)] == []
    assert not case.get("quiet") or {entry["status"] for entry in found} <= {"info"}, found
    assert all(entry["remedy"] for entry in found if entry["status"] in ("fail", "warn"))


def test_the_module_answers_the_same_twice(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    module = LocalModule("containerd_upgrade_info", tmp_path_factory.mktemp("collections"))
    case = next(case for case in CASES if case["name"] == "a snapshotter that the migration drops")
    files = Files(tmp_path, case, Version.parse("1.7.24"))
    options: dict[str, Any] = {
        "config_file": str(files.root),
        "binary": program("1.7"),
        "to_binary": program("2.3"),
        "address": str(tmp_path / "none.sock"),
        "drop_in_file": str(files.drop_in),
    }
    first, checked = module(**options), module(**options, check=True)
    assert (first["changed"], first["failed"], first["version"], first["to_version"]) == (False, False, "1.7.24", "2.3.7")
    assert [entry["kind"] for entry in first["entries"][:2]] == ["lost_key", "snapshotter"]
    assert first["summary"]["fail"] >= 2 and first["summary"]["unknown"] == 2
    assert checked["entries"] == first["entries"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]
    wrong = module(**{**options, "to_binary": "/nonexistent/containerd"})
    assert wrong["failed"] and wrong["msg"].startswith("to_binary: there is no program /nonexistent/containerd")


def test_a_node_in_use_is_left_as_it_is(modern: Node) -> None:
    theirs = f"""version = 2
[plugins."{NAMES["CRI"]}".containerd]
snapshotter = "native"
[plugins."{NAMES["CRI"]}".registry.mirrors."registry.example"]
endpoint = ["https://mirror.example"]
"""
    daemon.reset(modern, theirs)
    [release] = json.loads(run([str(CHECKOUT / "tests/upstream"), "--releases", "containerd", "2.4.2"]).stdout).values()
    options = {"name": "containerd", "version": "2.4.2", "prefix": "/usr/local/lib/staged", **release}
    staged = modern.module("release_install", {**options, "state": "staged"})
    # The daemon writes its UUID when it is first asked for it.
    modern.ssh("ctr version")
    before = daemon.etc_hashes(modern)
    found = modern.module("containerd_upgrade_info", {"to_binary": f"{staged['path']}/bin/containerd"})
    assert daemon.etc_hashes(modern) == before
    entries = found["entries"]
    assert found["summary"]["unknown"] == 0
    # 2.3 has lost the snapshotter already.
    lost = ["lost_key", "snapshotter"] if modern.line < (2, 0) else []
    assert [one["kind"] for one in entries if one["status"] == "fail"] == lost
    assert [one["what"] for one in entries if one["kind"] == "deprecation"] == ["cri-registry-mirrors"]
    wanted = {"settings": {"snapshotter": "native", "sandbox_image": "registry.k8s.io/pause:3.8"}}
    kept = modern.module("containerd_upgrade_info", {"to_binary": f"{staged['path']}/bin/containerd", **wanted})
    assert [one for one in kept["entries"] if one["status"] == "fail"] == []
    modern.ssh("rm -r /usr/local/lib/staged")
