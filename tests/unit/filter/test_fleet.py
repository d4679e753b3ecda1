# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fleets
import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.filter.fleet import fleet
from ansible_collections.slipway.node.plugins.filter.fleet_query_error import fleet_query_error
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS
from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet, to_json

ROOT = Path(__file__).parents[3]
CONFIGURE = "run the playbook"


def finding(check: str, status: str = "ok", found: Any = "good", remedy: str = "") -> dict[str, Any]:
    return {"id": check, "status": status, "expected": "good", "found": found, "remedy": remedy}


def read(*findings: dict[str, Any]) -> dict[str, Any]:
    return {"verify_node": {"summary": fleets.summary(list(findings)), "checks": list(findings), "version": "1.7.24"}}


def groups(variables: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    found = fleet(variables, list(variables))
    return [(group["status"], group["check"], group["nodes"]) for group in found["groups"]]


def test_a_node_that_could_not_be_read_says_why() -> None:
    variables: dict[str, Any] = {
        "well": read(finding("cri_plugin")),
        "odd": {"verify_node": {"failed": True, "msg": "only names no check 'nosuch'"}},
        "gone": {"verify_node": {"unreachable": True, "msg": "Failed to connect to the host via ssh"}},
        "new": {},
    }
    found = fleet(variables, list(variables))
    assert [(node["name"], node["worst"], node["reached"], node["reason"]) for node in found["nodes"]] == [
        ("gone", "unreachable", False, "Failed to connect to the host via ssh"),
        ("new", "unreachable", False, ""),
        ("odd", "unreachable", True, "only names no check 'nosuch'"),
        ("well", "ok", True, ""),
    ]
    assert (found["checks"], found["summary"]) == (["cri_plugin"], {"unreachable": 3, "ok": 1})


def test_checks_are_in_the_order_of_the_checks() -> None:
    variables = {
        "a": read(finding("toolboxes", "fail"), finding("nosuch"), finding("kill_mode")),
        "b": read(finding("daemon_running")),
    }
    assert fleet(variables, ["a", "b"])["checks"] == ["daemon_running", "kill_mode", "toolboxes", "nosuch"]
    everything = fleet(fleets.host_variables(200), list(fleets.host_variables(200)))["checks"]
    assert everything == [check for check in CHECKS if check in everything] and len(everything) > 40


def test_groups_are_worst_first_then_largest_first() -> None:
    variables = {
        "a": read(finding("kill_mode", "warn"), finding("daemon_uuid", "fail")),
        "b": read(finding("kill_mode", "warn"), finding("toolboxes", "fail"), finding("cri_plugin", "unknown")),
        "c": read(finding("toolboxes", "fail")),
        "d": {},
    }
    assert groups(variables) == [
        ("fail", "toolboxes", ["b", "c"]),
        ("fail", "daemon_uuid", ["a"]),
        ("unreachable", "unreachable", ["d"]),
        ("unknown", "cri_plugin", ["b"]),
        ("warn", "kill_mode", ["a", "b"]),
    ]


def test_findings_with_another_remedy_are_another_group() -> None:
    variables = {
        "a": read(finding("sandbox_image", "warn", "missing", "provision")),
        "b": read(finding("sandbox_image", "warn", "missing", "provision")),
        "c": read(finding("sandbox_image", "warn", "not pinned", "pin it")),
    }
    assert groups(variables) == [("warn", "sandbox_image", ["a", "b"]), ("warn", "sandbox_image", ["c"])]


def test_texts_that_differ_only_in_numbers_count_as_one() -> None:
    texts = ["3.9 % free", "21 % free", "read-only"]
    variables = {text: read(finding("storage_space", "fail", {"/var": text}, "free space")) for text in texts}
    (group,) = fleet(variables, texts)["groups"]
    assert (group["count"], group["found"]) == (3, "/var: 3.9 % free")
    assert group["texts"] == [{"found": "/var: 3.9 % free", "count": 2}, {"found": "/var: read-only", "count": 1}]


def test_node_2_is_before_node_10() -> None:
    variables = {name: read(finding("kill_mode", "fail")) for name in ("node-10", "node-2", "node-1")}
    assert [node["name"] for node in fleet(variables, list(variables))["nodes"]] == ["node-1", "node-2", "node-10"]


def test_results_are_read_without_templating_them() -> None:
    class HostVars(dict[str, Any]):
        """As Ansible's: an element is templated, which takes milliseconds."""

        def __getitem__(self, name: str) -> Any:
            raise AssertionError(name)

        def raw_get(self, name: str) -> Any:
            return dict.__getitem__(self, name)

    assert fleet(HostVars(a=read(finding("kill_mode"))), ["a"])["summary"] == {"ok": 1}


def test_the_date_is_the_reports() -> None:
    variables = {"a": {**read(finding("kill_mode")), "__verify_started": 1000.0}, "b": {"__verify_started": 1060.4}}
    found = read_fleet(variables, ["a", "b"], 1754.2)
    assert (found["date"], found["seconds"]) == ("1970-01-01T00:29:14Z", 754)
    assert read_fleet({"a": {}}, ["a"], 0)["seconds"] is None


def test_the_json_is_the_fleet_with_a_line_for_each_node() -> None:
    variables = fleets.host_variables(40)
    found = read_fleet(variables, list(variables), fleets.STARTED)
    text = to_json(found)
    assert json.loads(text) == found
    assert len(text.splitlines()) == 6 + len(found["groups"]) + len(found["nodes"]) + 4


def examples() -> list[str]:
    """The queries of the documentation."""
    section = (ROOT / "docs" / "verify.md").read_text().partition("\n## Queries\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \|", section.replace("\\|", "|"), re.MULTILINE)


SMALL: dict[str, Any] = {
    "node-1": read(finding("sandbox_image", "fail", "registry.k8s.io/pause:3.10 is missing", CONFIGURE), finding("kill_mode")),
    "node-2": read(
        finding("sandbox_image", "fail", "registry.k8s.io/pause:3.10 is missing", CONFIGURE), finding("kill_mode", "warn")
    ),
    "node-3": {"verify_node": {**read(finding("sandbox_image"), finding("kill_mode"))["verify_node"], "version": "2.3.7"}},
    "node-4": {"verify_node": {"unreachable": True, "msg": "Connection refused"}},
}
ANSWERS = [
    ["node-1", "node-2"],
    ["node-1", "node-2"],
    [
        {"check": "sandbox_image", "count": 2, "remedy": CONFIGURE},
        {"check": "unreachable", "count": 1, "remedy": "test the connection with 'ansible -m ping NODE'"},
        {"check": "kill_mode", "count": 1, "remedy": ""},
    ],
    {"node-4": "Connection refused"},
    ["node-1", "node-2"],
]


@pytest.mark.parametrize("number", range(5))
def test_the_queries_of_the_documentation(number: int) -> None:
    queries = examples()
    assert len(queries) == len(ANSWERS)
    answer = ANSWERS[number]
    if isinstance(answer, dict):
        answer = [{"name": name, "reason": reason} for name, reason in answer.items()]
    assert fleet_query_error(queries[number]) == ""
    assert fleet(SMALL, list(SMALL), query=queries[number]) == answer


def test_the_functions_of_a_query_take_ansibles_types() -> None:
    class Tagged(str):
        """As the texts of Ansible: of a type that JMESPath's functions don't know."""

        __slots__ = ()

    variables = {found: read(finding("kill_mode", "fail", Tagged(found))) for found in ("mixed", "control-group")}
    query = "nodes[?starts_with(findings.kill_mode.found, 'mix')].name"
    assert fleet(variables, list(variables), query=query) == ["mixed"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("nodes[?worst='fail'].name", "Unknown token '='"),
        ("nodes[", "Incomplete expression"),
        ("", "cannot be empty"),
        ("nodes[].first(findings)", "Unknown function: first()"),
        ("length(nodes, groups)", "Expected 1 argument for function length(), received 2"),
        (3, "is not a text"),
    ],
)
def test_a_wrong_query_is_one_sentence(query: Any, reason: str) -> None:
    sentence = fleet_query_error(query)
    assert sentence.startswith("verify_query ") and reason in sentence and "\n" not in sentence
    with pytest.raises(AnsibleFilterError, match="verify_query"):
        fleet(SMALL, list(SMALL), query=query)


def test_a_query_without_its_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    assert fleet_query_error("nodes").startswith("verify_query needs the Python library jmespath on the controller")


def test_a_query_that_does_not_suit_the_values_is_one_sentence() -> None:
    assert fleet_query_error("abs(date)") == ""
    with pytest.raises(AnsibleFilterError, match=r"^verify_query: 'abs\(date\)' cannot be applied to the fleet: "):
        fleet(SMALL, list(SMALL), query="abs(date)")


def test_loading_the_filters_does_not_import_the_checks() -> None:
    """Ansible loads all filters of a collection in each worker that uses one."""
    names = sorted(path.stem for path in (ROOT / "plugins" / "filter").glob("fleet*.py"))
    own = "ansible_collections.slipway.node.plugins"
    loads = "; ".join(f"import {own}.filter.{name}" for name in names)
    program = f"import sys; {loads}; print([name for name in sys.modules if name.startswith('{own}.module_utils.verify')])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".work" / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert (len(names), done.stdout) == (3, "[]\n")
