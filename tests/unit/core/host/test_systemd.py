# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host import systemd
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Result, Runner

UNIT = "containerd.service"


class Systemctl:
    """Answers with what starts each unit."""

    def __init__(self, **started_by: str) -> None:
        self.started_by = started_by

    def run(self, *argv: str, doing: str) -> str:
        return "".join(f"WantedBy={self.started_by.get(name.partition('.')[0], '')}\nRequiredBy=\n\n" for name in argv[4:])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(systemd, "_DIRECTORIES", (str(tmp_path),))
    return tmp_path


@pytest.mark.parametrize(
    ("default", "link", "started_by", "starts"),
    [
        ("multi-user.target", "multi-user.target", {}, True),
        ("graphical.target", "multi-user.target", {}, True),
        ("rescue.target", "multi-user.target", {"containerd": "multi-user.target", "multi-user": "graphical.target"}, False),
        ("multi-user.target", "nothing.target", {"containerd": "nothing.target"}, False),
        (
            "multi-user.target",
            "own.target",
            {"containerd": "own.target", "own": "kubelet.service", "kubelet": "multi-user.target"},
            True,
        ),
        ("multi-user.target", "own.target", {"containerd": "own.target", "own": "containerd.service"}, False),
    ],
)
def test_a_unit_starts_at_boot_if_the_default_target_starts_it(
    directory: Path, default: str, link: str, started_by: dict[str, str], starts: bool
) -> None:
    (directory / "default.target").symlink_to(f"/usr/lib/systemd/system/{default}")
    (directory / f"{link}.wants").mkdir()
    (directory / f"{link}.wants" / UNIT).touch()
    unit = systemd.Unit(cast(Runner, Systemctl(**started_by)), UNIT)
    assert unit.starts_at_boot() is starts


class Analyzer(Systemctl):
    """Knows a unit that a generator made, and says what systemd-analyze says."""

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def run(self, *argv: str, doing: str) -> str:
        return f"LoadState={'loaded' if argv[-1] == 'data.mount' else 'not-found'}\n"

    def try_run(self, *argv: str, timeout: float) -> Result:
        failed = f"{UNIT}: ConditionPathExists=/nowhere failed.\nConditions failed.\n"
        lines = "".join(
            f"{UNIT}: Failed to create {UNIT}/start: Unit {one} not found.\n" for one in ("data.mount", "gone.service")
        )
        return Result(argv, 1, "", failed if "condition" in argv else lines)


def test_what_keeps_a_unit_from_starting_at_boot_is_read() -> None:
    unit = systemd.Unit(cast(Runner, Analyzer()), UNIT)
    said = unit.analysis()
    missing = "it needs gone.service, which is not installed"
    assert unit.boot_complaints(said, conditional=False) == (missing,)
    assert unit.boot_complaints(said, conditional=True) == ("ConditionPathExists=/nowhere failed", missing)
