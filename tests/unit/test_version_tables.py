# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kata_tables import ROOT, updated
from version_tables import PAGES, SCRIPT

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES
from nodes.node import INVENTORY
from nodes.node import LINES as NODE_LINES

TESTED = {f"{line.major}.{line.minor}": line.tested for line in LINES if line.tested}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_says_what_the_code_does(path: Path) -> None:
    page = path.read_text()
    assert updated(page, PAGES[path], SCRIPT) == page, f"run .venv/bin/python tests/{SCRIPT}.py"


@pytest.mark.parametrize("path", ["README.md", "plugins/modules/containerd_config.py"])
def test_the_supported_lines_are_named_in_prose(path: str) -> None:
    oldest, newest = (f"{line.major}.{line.minor}" for line in (LINES[0], LINES[-1]))
    assert f"{oldest} to {newest}" in (ROOT / path).read_text()


def test_lines_are_in_order() -> None:
    assert [line.number for line in LINES] == sorted({line.number for line in LINES})
    assert all(line.tested.startswith(f"{line.major}.{line.minor}.") for line in LINES if line.tested)


def test_the_nodes_are_of_the_tested_lines() -> None:
    assert sorted(NODE_LINES.values()) == sorted(TESTED)
    hosts = yaml.safe_load((INVENTORY / "itest.yml").read_text())["all"]["children"]["nodes"]["children"]["upstream"]["hosts"]
    assert {facts["node_release"] for facts in hosts.values()} == {TESTED[facts["node_line"]] for facts in hosts.values()}
