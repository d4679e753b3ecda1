# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from typing import Any

import fleets
import pytest

from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet
from ansible_collections.slipway.node.plugins.plugin_utils.fleet_page import duration, folded, page_of

HOSTILE = "</script ><script>alert(1)</script>\u2028'\"&<img src=x onerror=alert(1)>"


def script(page: str, attributes: str) -> str:
    return page.partition(f"<script{attributes}>")[2].partition("</script>")[0]


class Elements(HTMLParser):
    """The elements of a page, and the text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        if self.names[-1:] not in (["script"], ["style"]):
            self.text += data


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


@pytest.fixture(scope="module")
def large() -> dict[str, dict[str, Any]]:
    return fleets.host_variables(5000)


@pytest.mark.parametrize("form", ["{name}", "gke-prod-pool-{first:08x}-{second:04x}.c.project.internal"])
def test_the_page_of_5000_nodes_is_small(large: dict[str, Any], form: str) -> None:
    chance = random.Random(1)
    variables = {
        form.format(name=name, first=chance.getrandbits(32), second=chance.getrandbits(16)): value
        for name, value in large.items()
    }
    assert len(fleets.page(variables).encode()) < 0.6 * 2**20


def test_the_pages_data_has_every_finding_that_is_not_ok() -> None:
    variables = fleets.host_variables(600)
    fleet = read_fleet(variables, list(variables), fleets.STARTED)
    data = json.loads(page_of(fleet, "", "")["data"])
    for node, (name, status, version, checked, found) in zip(fleet["nodes"], data["nodes"], strict=True):
        assert (name, data["statuses"][status]) == (node["name"], node["worst"])
        assert (data["versions"][version] if version >= 0 else None) == node["version"]
        assert [data["checks"][place] for place in data["sets"][checked]] == [
            one for one in data["checks"] if one in node["findings"]
        ]
        if node["worst"] == "unreachable":
            continue
        bad = [one for one in node["findings"].values() if one["status"] != "ok"]
        for one, entry in zip(bad, found, strict=True):
            number, *own = entry if isinstance(entry, list) else [entry]
            group, text = data["texts"][number]
            for part in own:
                text = text.replace("\ue000", part, 1)
            shown = text.split("\ue001")
            assert shown[2] == one["remedy"] and (not isinstance(one["found"], str) or shown[0] == one["found"])
            check, status = data["groups"][group]
            assert (data["checks"][check], data["statuses"][status]) == (one["id"], one["status"])


def test_names_and_findings_cannot_add_elements_to_the_page() -> None:
    variables = fleets.host_variables(20)
    checks = [
        {"id": f"kill_mode{HOSTILE}", "status": "fail", "expected": HOSTILE, "found": {HOSTILE: HOSTILE}, "remedy": HOSTILE}
    ]
    hostile = {"verify_node": {"version": HOSTILE, "checks": checks, "summary": fleets.summary(checks)}}
    gone = {"verify_node": {"unreachable": True, "msg": HOSTILE}}
    page = fleets.page({**variables, HOSTILE: hostile, f"gone{HOSTILE}": gone})
    elements = parsed(page)
    assert elements.names.count("script") == 2 and "img" not in elements.names
    assert "</script ><script>alert(1)</script> '\"&<img" in elements.text
    data = script(page, ' type="application/json" id="data"')
    assert HOSTILE[:8] in json.dumps(json.loads(data)) and not re.search("[<>&]", data)
    assert "\u2028" not in page


def test_the_page_runs_its_own_script_only_and_loads_nothing() -> None:
    page = fleets.page(fleets.host_variables(3))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; ")
    style = page.partition("<style>")[2].partition("</style>")[0]
    for text, kind in ((script(page, ""), "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.search(r"https?://|url\(|@import|\bon\w+=\"|\bstyle=\"", page)


def test_the_page_without_its_script_has_findings_nodes_and_remedies() -> None:
    variables = fleets.host_variables(300)
    fleet = read_fleet(variables, list(variables), fleets.STARTED)
    text = " ".join(parsed(fleets.page(variables)).text.split())
    for group in fleet["groups"]:
        assert group["remedy"] in text and " ".join(group["found"].split()) in text
    for status, count in fleet["summary"].items():
        assert f"{count} {status}" in text
    assert "300 nodes, 2026-11-29 14:15:54 UTC, read in 12 min 34 s" in text


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["node-1", "node-2", "node-3", "node-7"], "node-[1-3,7]"),
        (["node-098", "node-099", "node-100", "node-101"], "node-[098-101]"),
        (["node-9", "node-10"], "node-[9-10]"),
        (
            ["node-01.rack2.example", "node-02.rack2.example", "node-01.rack3.example"],
            "node-[01-02].rack2.example, node-01.rack3.example",
        ),
        (["10.0.0.8", "10.0.0.9", "10.0.1.9"], "10.0.0.[8-9], 10.0.1.9"),
        (["ip-10-0-1-23", "ip-10-0-1-24"], "ip-10-0-1-[23-24]"),
        (["b", "a"], "b, a"),
        (["node-007"], "node-007"),
        (["n٣", "n\u2028x"], "n٣, n x"),
        ([], ""),
    ],
)
def test_names_are_folded(names: list[str], line: str) -> None:
    assert folded(names) == line


def test_no_name_is_lost_in_a_range() -> None:
    names = [
        f"node-{number:0{width}}{after}"
        for number in (0, 1, 7, 9, 10, 11, 99, 100)
        for width in (1, 2, 3)
        for after in ("", ".a")
    ]
    names = sorted(set(names))
    unfolded = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", folded(names)):
        before, bracket, rest = part.strip().partition("[")
        runs, _end, after = rest.partition("]")
        for run in runs.split(",") if bracket else []:
            first, _dash, last = run.partition("-")
            unfolded += [f"{before}{number:0{len(first)}}{after}" for number in range(int(first), int(last or first) + 1)]
        unfolded += [] if bracket else [before]
    assert sorted(unfolded) == names


@pytest.mark.parametrize(("seconds", "words"), [(7, "7 s"), (60, "1 min 0 s"), (754, "12 min 34 s"), (7300, "2 h 1 min")])
def test_a_duration_has_two_units(seconds: int, words: str) -> None:
    assert duration(seconds) == words
