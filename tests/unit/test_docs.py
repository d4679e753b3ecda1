# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.node_spec.test_spec import UNSET, resolved

ROOT = Path(__file__).parents[2]
COLUMNS = 120
# CHANGELOG.md is written by antsibull-changelog, and neither wrapped nor linked by hand.
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md", "bench/*.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?(?:\s+\"[^\"]*\")?\)")
LINK_WHOLE = re.compile(r"\[[^]]*\]\([^)]*\)")
FENCE = re.compile(r"\s*(```|~~~)")
HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The arguments of pytest in the last column of a table, or after the name of the program.
PYTEST = re.compile(r"(?:\| |\.venv/bin/pytest )`?(tests/[^`|…]*)`")
TEST_FILE = re.compile(r"\btests/[\w./-]*\w\.py\b")
# The variables of all roles.
VARIABLES = {
    name
    for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
    for name in entry.get("options", {})
}
PREFIXES = {name.partition("_")[0] for name in VARIABLES}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# The measurements show variables of other collections.
by_page_of_this = pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "bench"], ids=lambda page: str(page.relative_to(ROOT))
)


def outside_code(text: str) -> Iterator[tuple[int, str]]:
    """The lines that aren't in a fenced block, with their numbers."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence:
            yield number, line


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    found = set()
    for _number, line in outside_code(text):
        heading = HEADING.match(line)
        if not heading:
            continue
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if anchor in seen else anchor)
        seen[anchor] = seen.get(anchor, 0) + 1
    return found


def links(text: str) -> Iterator[tuple[str, str]]:
    """Target and anchor of each link to a file or a heading."""
    prose = "\n".join(re.sub(r"`[^`]*`(?!\])", "", line) for _number, line in outside_code(text))
    for target, anchor in LINK.findall(prose):
        if "://" not in target and not target.startswith("mailto:"):
            yield target, anchor


def linked_path(page: Path, target: str) -> Path:
    return Path(os.path.normpath(page.parent / target)) if target else page


def broken(page: Path, text: str) -> Iterator[str]:
    for target, anchor in links(text):
        path = linked_path(page, target)
        if path != page and not path.exists():
            yield f"{target} doesn't exist"
        elif anchor and anchor not in anchors(text if path == page else path.read_text()):
            yield f"{target}#{anchor} has no such heading"


def too_long(text: str) -> Iterator[str]:
    """Lines of prose that are too long, but not tables, headings, markers, and links that reach over the margin."""
    for number, line in outside_code(text):
        words = LINK_WHOLE.sub(lambda link: link[0].replace(" ", "_"), line).rsplit(maxsplit=1)
        breakable = len(words) > 1 and (len(words[0]) > COLUMNS or "](" not in words[1])
        if len(line) > COLUMNS and breakable and not line.lstrip().startswith(("|", "#", "<!--")):
            yield f"line {number} has {len(line)} columns"


@by_page
def test_no_link_is_broken(page: Path) -> None:
    assert list(broken(page, page.read_text())) == []


@by_page
def test_prose_is_wrapped(page: Path) -> None:
    assert list(too_long(page.read_text())) == []


@by_page
def test_every_example_is_yaml(page: Path) -> None:
    for example in EXAMPLE.findall(page.read_text()):
        assert isinstance(yaml.safe_load(example), (dict, list)), example


def inventories(text: str) -> Iterator[dict[str, Any]]:
    """The examples that are variables of roles."""
    for example in map(yaml.safe_load, EXAMPLE.findall(text)):
        if isinstance(example, dict):
            variables = {name: value for name, value in example.items() if name.partition("_")[0] in PREFIXES}
            if variables:
                yield variables


@by_page_of_this
def test_every_variable_of_an_example_exists(page: Path) -> None:
    assert [name for variables in inventories(page.read_text()) for name in variables if name not in VARIABLES] == []


@by_page_of_this
def test_the_specification_accepts_every_example(page: Path) -> None:
    for variables in inventories(page.read_text()):
        assert resolved(**{name: value for name, value in variables.items() if name in UNSET})


@by_page
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in TEST_FILE.findall(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """The arguments of pytest in all pages."""
    return [shlex.split(found) for page in PAGES for found in PYTEST.findall(page.read_text())]


@pytest.fixture(scope="module")
def collected(commands: list[list[str]]) -> list[str]:
    """The ids of all tests below the paths that the pages name."""
    paths = sorted({argument for command in commands for argument in command if argument.startswith("tests/")})
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    argv = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_every_command_of_a_page_selects_tests(commands: list[list[str]], collected: list[str]) -> None:
    """Each of its paths, and each word of its expression, which pytest compares with the names of files and tests."""
    assert len(commands) > 30
    empty = []
    for command in commands:
        paths = [argument for argument in command if argument.startswith("tests/")]
        words = command[command.index("-k") + 1].split(" or ") if "-k" in command else [""]
        parts = [*(([path], words) for path in paths), *((paths, [word]) for word in words)]
        empty += [part for part in parts if not selected(collected, *part)]
    assert empty == []


def selected(collected: list[str], paths: list[str], words: list[str]) -> list[str]:
    below = [nodeid for nodeid in collected for path in paths if nodeid.startswith((f"{path}/", f"{path}::"))]
    return [nodeid for nodeid in below if any(word.lower() in nodeid.rpartition("/")[2].lower() for word in words)]


def test_every_page_of_docs_is_linked() -> None:
    linked = {
        path for page in PAGES for target, _anchor in links(page.read_text()) if (path := linked_path(page, target)) != page
    }
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert [str(page.relative_to(ROOT)) for page in sorted(pages - linked)] == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One\n\n## Two `words`, here\n\n## One\n")
    good = "[a](other.md) [b](other.md#two-words-here) [c](other.md#one-1) [d](#top) [e](https://host/x#y)\n# Top\n"
    assert list(broken(page, f"{good}```\n[code](missing.md)\n```\n`[code](missing.md)`\n")) == []
    assert list(broken(page, f"{good}[f](missing.md) [`g`](other.md#three)\n[h](#bottom)\n")) == [
        "missing.md doesn't exist",
        "other.md#three has no such heading",
        "#bottom has no such heading",
    ]


def test_a_long_line_is_seen() -> None:
    long = "word " * 30
    assert list(too_long(f"{long}\n")) == ["line 1 has 150 columns"]
    assert list(too_long(f"```\n{long}\n```\n| {long} |\nshort [a link]({'x' * 120}).\n")) == []
    assert list(too_long(f"short [link]({'x' * 120}) and more\n")) == ["line 1 has 143 columns"]
