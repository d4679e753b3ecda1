# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_site_lists_every_page() -> None:
    sections = yaml.safe_load((DOCS / "docsite" / "extra-docs.yml").read_text())["sections"]
    listed = [page for section in sections for page in section["toctree"]]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md"))


def test_every_decision_is_in_the_index() -> None:
    decisions = {page.name for page in (DOCS / "decisions").glob("0*.md")}
    index = (DOCS / "decisions" / "README.md").read_text()
    assert {name for name in decisions if f"]({name})" not in index} == set()
    assert len(decisions) >= 8


def test_the_design_names_every_package() -> None:
    utils = ROOT / "plugins" / "module_utils"
    packages = {path.parent.name for path in utils.glob("*/__init__.py")} - {"model", "host"}
    design = (DOCS / "design.md").read_text()
    assert {name for name in packages if f"| `{name}` |" not in design} == set()


def test_the_changelog_names_everything_there_is() -> None:
    text = (ROOT / "changelogs" / "changelog.yaml").read_text()
    files = [path for kind in ("modules", "filter") for path in (ROOT / "plugins" / kind).glob("[a-z]*.py")]
    names = [*(path.stem for path in files), *(path.name for path in (ROOT / "roles").iterdir())]
    names += [f"slipway.node.{path.stem}" for path in (ROOT / "playbooks").glob("*.yml")]
    assert [name for name in names if not re.search(rf"(?:``|name: ){re.escape(name)}\b(?!_)", text)] == []
