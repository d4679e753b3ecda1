# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_upgrade_info with the programs of both versions, on the files of others in upgrades.yml. No daemon is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.config.plan import CurrentConfig, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES, Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.read import Inventory, read_upgrade
from ansible_collections.slipway.node.plugins.module_utils.upgrade.report import report
from nodes.node import CHECKOUT
from nodes.node import LINES as LINE_OF_SUITE
from nodes.upstream import unpacked, unpacked_package

CASES = yaml.safe_load(Path(__file__).with_name("upgrades.yml").read_text())
NAMES = {"CRI": "io.containerd.grpc.v1.cri", "RUNTIME": "io.containerd.cri.v1.runtime", "IMAGES": "io.containerd.cri.v1.images"}
# What depends on the machine that runs the tests, or on a daemon.
ELSEWHERE = (
    "the network of pods",
    "deprecated features in use",
    "snapshots of snapshotters that the new version lacks",
    "cgroup v1",
)


def program(line: str) -> str:
    """The path of containerd of a line: Debian's, or upstream's."""
    suite = next(suite for suite, one in LINE_OF_SUITE.items() if one == line)
    if suite != line:
        return str(unpacked_package("containerd", suite) / "usr/bin/containerd")
    version = next(one.tested for one in LINES if f"{one.major}.{one.minor}" == line)
    return str(unpacked("containerd", version) / "bin/containerd")


class Files:
    """The files of a case below a directory."""

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
        Path(f"{self.root}.slipway.json").write_text(plan.record.to_text())


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
    """Whether an entry has these values; words are looked for in longer texts."""
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
