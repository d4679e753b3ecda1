# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# antsibull-changelog writes links to anchors of its own.
PAGES = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")) if path.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\((?P<path>[^)\s#]*)(?:#(?P<anchor>[^)\s]+))?[^)]*\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    texts = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


def broken(page: Path) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", page.read_text())):
        path, anchor = match["path"], match["anchor"]
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield match[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


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
