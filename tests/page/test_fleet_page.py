# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fleet.html in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fleets
import pytest
from browser import Tab, browser

from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet

NODES = 5000
HOSTILE = "</script ><img src=x onerror=alert(1)>'\"&"
NAMES = "[...document.querySelectorAll('#nodes tbody th')].map((one) => one.textContent)"
MATCHES = "document.getElementById('matches').textContent"

# The texts of the counts and findings that the window shows without scrolling.
ON_SCREEN = """[...document.querySelectorAll('.counts b, summary')].filter((one) => {
  const place = one.getBoundingClientRect();
  return place.height && place.bottom <= innerHeight;
}).map((one) => one.textContent)"""
# The number of findings that aren't shown with their nodes.
HIDDEN = """[...document.querySelectorAll('.group')].filter((one) =>
  !one.getBoundingClientRect().height || !one.querySelector('.names').getBoundingClientRect().height).length"""
# The number of controls without a name for screen readers.
UNNAMED = """[...document.querySelectorAll('button, input, select, a')].filter((one) =>
  !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length"""
# The texts whose contrast is below 4.5, the limit of WCAG's level AA, by the formula of WCAG 2.
LOW_CONTRAST = r"""(() => {
  const linear = (one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
  const light = ([red, green, blue]) => 0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const color = parts(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const ratio = (one) => {
    const [bright, dark] = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    return (bright + 0.05) / (dark + 0.05);
  };
  return [...document.querySelectorAll('h1, p, .counts *, summary *, .body *, th, td, .badge, .legend b')]
    .filter((one) => one.textContent.trim() && ratio(one) < 4.5).map((one) => [ratio(one), one.className, one.textContent]);
})()"""


@pytest.fixture(scope="module")
def variables() -> dict[str, dict[str, Any]]:
    return fleets.host_variables(NODES)


@pytest.fixture(scope="module")
def fleet(variables: dict[str, Any]) -> dict[str, Any]:
    return read_fleet(variables, list(variables), fleets.STARTED)


@pytest.fixture(scope="module")
def page(variables: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "fleet.html"
    path.write_text(fleets.page(variables))
    return path


@pytest.fixture(scope="module")
def running() -> Iterator[Tab]:
    with browser() as tab:
        yield tab


@pytest.fixture
def tab(running: Tab) -> Iterator[Tab]:
    """A tab whose page shows no error, and asks for nothing but itself."""
    running.open("about:blank")
    running.javascript(on=True)
    running.media()
    running.size(1280, 900)
    running.requests.clear()
    running.problems.clear()
    yield running
    assert running.problems == []
    assert [request for request in set(running.requests) if not request.startswith(("file:", "about:"))] == []
    assert len({request.partition("#")[0] for request in running.requests}) <= 1


@pytest.fixture
def opened(tab: Tab, page: Path) -> Tab:
    tab.open(page)
    return tab


def click(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector({selector!r}).click()")


def texts(tab: Tab, selector: str) -> list[str]:
    found: list[str] = tab.run(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent.trim())")
    return found


def enter(tab: Tab, selector: str, value: str, event: str) -> None:
    field = f"document.querySelector({selector!r})"
    tab.run(f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('{event}'))")


def choose(tab: Tab, key: str, value: str) -> None:
    enter(tab, f"[data-key={key}]", value, "change")


def search(tab: Tab, words: str) -> None:
    enter(tab, "#search", words, "input")


def names(fleet: dict[str, Any], wanted: Callable[[dict[str, Any]], bool] = bool) -> list[str]:
    return [node["name"] for node in fleet["nodes"] if wanted(node)]


def test_a_page_of_rows_is_drawn(opened: Tab, fleet: dict[str, Any]) -> None:
    assert opened.run(NAMES) == names(fleet)[:100]
    assert opened.run("document.querySelectorAll('*').length") < 6000


def test_the_first_screen_has_the_counts_and_the_worst_findings(opened: Tab, fleet: dict[str, Any]) -> None:
    seen = opened.run(ON_SCREEN)
    assert [int(count.replace(",", "")) for count in seen[:5]] == list(fleet["summary"].values())
    worst = fleet["groups"][0]
    for words in (worst["status"], str(worst["count"]), worst["check"], worst["found"], worst["remedy"]):
        assert words in seen[5]
    assert len(seen) >= 15


def test_a_count_filters(opened: Tab, fleet: dict[str, Any]) -> None:
    click(opened, "[data-status=unreachable] button")
    unreachable = [node for node in fleet["nodes"] if node["worst"] == "unreachable"]
    assert opened.run(NAMES) == [node["name"] for node in unreachable]
    reasons = texts(opened, "#nodes td.reason")
    assert [reason for node, reason in zip(unreachable, reasons, strict=True) if node["reason"] not in reason] == []
    assert texts(opened, ".counts [aria-pressed=true]") == [f"{len(unreachable)} unreachable"]
    assert opened.run("document.activeElement.id") == "nodes-title"
    click(opened, "[data-status=unreachable] button")
    assert opened.run(MATCHES) == "5,000 of 5,000 nodes"


def test_a_name_is_found(opened: Tab) -> None:
    search(opened, "WORKER-0815.")
    assert sorted(opened.run(NAMES)) == ["worker-0815.ams.example.net", "worker-0815.fra.example.net"]
    search(opened, "no such node")
    assert (opened.run(NAMES), opened.run(MATCHES)) == ([], "0 of 5,000 nodes")
    click(opened, "#clear")
    assert opened.run(MATCHES) == "5,000 of 5,000 nodes"


def test_the_text_of_a_finding_is_found(opened: Tab, fleet: dict[str, Any]) -> None:
    search(opened, "vhost-vsock")
    assert opened.run(NAMES) == names(fleet, lambda node: node["findings"].get("kata_devices", {}).get("status") == "fail")


def test_filters_are_combined(opened: Tab, fleet: dict[str, Any]) -> None:
    choose(opened, "status", "fail")
    choose(opened, "version", "0")
    wanted = names(fleet, lambda node: node["worst"] == "fail" and node["version"] == "1.7.24")
    assert opened.run(NAMES) == wanted[:100]
    assert opened.run(MATCHES) == f"{len(wanted)} of 5,000 nodes"


def test_a_finding_shows_its_nodes(opened: Tab, fleet: dict[str, Any]) -> None:
    click(opened, "#f1 .body button")
    assert sorted(opened.run(NAMES)) == sorted(fleet["groups"][1]["nodes"])


def test_names_are_sorted_in_both_directions(opened: Tab, fleet: dict[str, Any]) -> None:
    click(opened, "[data-sort=name]")
    assert opened.run(NAMES) == sorted(names(fleet))[:100]
    click(opened, "[data-sort=name]")
    assert opened.run(NAMES) == sorted(names(fleet), reverse=True)[:100]
    assert opened.run("[...document.querySelectorAll('th[aria-sort]')].map((one) => [one.textContent, one.ariaSort])") == [
        ["Node", "descending"]
    ]


def test_a_check_is_sorted_worst_first(opened: Tab, fleet: dict[str, Any]) -> None:
    place = fleet["checks"].index("kata_devices")
    click(opened, f'[data-sort="{place}"]')
    wanted = names(fleet, lambda node: node["findings"].get("kata_devices", {}).get("status") == "fail")
    assert opened.run(NAMES)[: len(wanted)] == wanted


def test_columns_are_in_the_order_of_the_checks(opened: Tab, fleet: dict[str, Any]) -> None:
    reported = {group["check"] for group in fleet["groups"]}
    assert texts(opened, "#nodes th.check") == [check for check in fleet["checks"] if check in reported]
    click(opened, "#all-checks")
    assert texts(opened, "#nodes th.check") == fleet["checks"]


def test_pages_are_turned(opened: Tab, fleet: dict[str, Any]) -> None:
    click(opened, "[aria-label='Next page']")
    assert opened.run(NAMES) == names(fleet)[100:200]
    assert texts(opened, "#range") == ["101\u2013200 of 5,000"]
    click(opened, "[aria-label='Last page']")
    assert opened.run(NAMES) == names(fleet)[4900:]
    assert opened.run("document.querySelector(\"[aria-label='Next page']\").disabled") is True
    click(opened, "[aria-label='Previous page']")
    click(opened, "[aria-label='First page']")
    assert opened.run(NAMES) == names(fleet)[:100]


def test_a_mark_leads_to_the_remedy(opened: Tab, fleet: dict[str, Any]) -> None:
    for _time in range(2):  # also when the address already names the finding
        opened.run("scrollTo(0, document.body.scrollHeight)")
        group = opened.run("document.querySelector('#nodes td.check.fail a').getAttribute('href').slice(2)")
        click(opened, "#nodes td.check.fail a")
        opened.run("new Promise((done) => setTimeout(done, 100))")
        found = f"document.getElementById('f{group}')"
        assert opened.run(f"{found}.open && !{found}.hidden && {found}.contains(document.activeElement)") is True
        assert opened.run(
            f"(() => {{ const place = {found}.getBoundingClientRect(); return place.top >= -1 && place.top < innerHeight; }})()"
        )
        assert fleet["groups"][int(group)]["remedy"] in opened.run(f"{found}.textContent")


def test_a_name_shows_all_findings_of_its_node(opened: Tab, fleet: dict[str, Any]) -> None:
    click(opened, "#nodes tbody th button")
    bad = [finding for finding in fleet["nodes"][0]["findings"].values() if finding["status"] != "ok"]
    bad.sort(key=lambda finding: ["fail", "unknown", "warn"].index(finding["status"]))
    lines = texts(opened, "tr.more li")
    for finding, line in zip(bad, lines, strict=True):
        assert finding["id"] in line and finding["status"] in line and finding["remedy"] in line
    assert opened.run("document.querySelector('#nodes tbody th button').ariaExpanded") == "true"
    click(opened, "#nodes tbody th button")
    assert texts(opened, "tr.more") == []


def test_the_names_stay_in_view(opened: Tab) -> None:
    click(opened, "#all-checks")
    opened.run("document.querySelector('.table').scrollTo(500, 500)")
    left = opened.run("document.querySelector('.table').getBoundingClientRect().left")
    places = opened.run(
        "['#nodes tbody th', '#nodes thead th'].map((one) => document.querySelector(one).getBoundingClientRect().left)"
    )
    assert [round(place - left) for place in places] == [1, 1]
    assert opened.run("document.querySelector('.table').scrollLeft") == 500
    top = "document.querySelector({!r}).getBoundingClientRect().top"
    assert round(opened.run(top.format("#nodes thead th")) - opened.run(top.format(".table"))) == 1


def test_the_keyboard_is_enough(opened: Tab) -> None:
    opened.run("document.querySelector('[data-status=fail] button').focus()")
    opened.press("Enter")
    assert texts(opened, ".counts [aria-pressed=true]") != []
    opened.run("document.querySelector('#nodes [data-sort=name]').focus()")
    opened.press(" ", "Space")
    assert opened.run("document.activeElement.dataset.sort") == "name"
    reached = set()
    opened.run("document.querySelector('.counts button').focus()")
    for _key in range(60):
        opened.press("Tab")
        reached.add(
            opened.run("document.activeElement.tagName + (document.activeElement.id ? '#' + document.activeElement.id : '')")
        )
    assert {"SUMMARY", "INPUT#search", "INPUT#all-checks", "SELECT"} <= reached
    assert opened.run(UNNAMED) == 0


def test_nothing_is_lost_without_javascript(tab: Tab, page: Path, fleet: dict[str, Any]) -> None:
    tab.javascript(on=False)
    tab.open(page)
    text = tab.call("Runtime.evaluate", expression="document.body.innerText", returnByValue=True)["result"]["value"]
    assert "The table of the nodes needs JavaScript" in text
    for group in fleet["groups"]:
        assert group["check"] in text and group["remedy"] in text
    assert len(texts(tab, ".group")) == len(fleet["groups"])
    assert texts(tab, "#nodes") == []


def test_paper_has_the_findings_with_the_chosen_nodes(opened: Tab, fleet: dict[str, Any]) -> None:
    choose(opened, "status", "unknown")
    opened.media("print")
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert texts(opened, "#print tbody th") == names(fleet, lambda node: node["worst"] == "unknown")
    assert opened.run(HIDDEN) == 0
    assert opened.run("getComputedStyle(document.querySelector('.table')).display") == "none"
    assert opened.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened: Tab, scheme: str) -> None:
    opened.media(scheme=scheme)
    low = opened.run(LOW_CONTRAST)
    assert low == []


def test_hostile_names_and_texts_are_shown_as_they_are(tab: Tab, tmp_path: Path) -> None:
    checks = [{"id": "kill_mode", "status": "fail", "expected": HOSTILE, "found": HOSTILE, "remedy": HOSTILE}]
    hostile = {"verify_node": {"version": HOSTILE, "checks": checks, "summary": fleets.summary(checks)}}
    page = tmp_path / "fleet.html"
    page.write_text(fleets.page({HOSTILE: hostile, **fleets.host_variables(3)}))
    tab.open(page)
    assert tab.run(NAMES)[0] == HOSTILE
    click(tab, "#nodes tbody th button")
    assert texts(tab, "tr.more li")[0].count(HOSTILE) == 3
    assert tab.run("document.querySelectorAll('img').length") == 0


def test_a_script_that_is_not_the_pages_own_does_not_run(tab: Tab, page: Path, tmp_path: Path) -> None:
    changed = tmp_path / "fleet.html"
    changed.write_text(page.read_text().replace("</body>", "<script>document.title = 'foreign'</script></body>"))
    tab.open(changed)
    assert tab.run("document.title") == "Container nodes"
    assert any("Content Security Policy" in problem for problem in tab.problems)
    tab.problems.clear()
