# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions and the report of the playbook upgrade for many nodes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.filter.fleet import fleet
from ansible_collections.slipway.node.plugins.filter.upgrade_entries import upgrade_entries
from ansible_collections.slipway.node.plugins.filter.upgrade_findings import upgrade_findings
from ansible_collections.slipway.node.plugins.filter.upgrade_fleet import upgrade_fleet
from ansible_collections.slipway.node.plugins.filter.upgrade_line import upgrade_line

FILE = "/etc/containerd/config.toml"


def entry(kind: str, status: str = "fail", what: str = "key", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "status": status, "what": what, "now": "native", "then": None, "source": "", "remedy": "set it", **more}


def outcome(status: str, **more: Any) -> dict[str, Any]:
    return {"__upgrade_outcome": {"status": status, "version": "1.7.24", "to_version": "2.3.7", "reason": "CRI died", **more}}


FLEET = {
    "node-1": outcome("upgraded", wave=1),
    "node-2": outcome("rolled_back", wave=2),
    "node-3": outcome("pending"),
    "node-4": outcome("pending"),
    "node-5": outcome("current"),
    "other": {},
}


@pytest.mark.parametrize(
    ("accept", "refused"),
    [
        ([], ["a", "b"]),
        (["lost_key"], []),
        ([{"kind": "lost_key", "what": "a"}], ["b"]),
        ([{"kind": "registries", "what": "a"}], ["a", "b"]),
    ],
)
def test_losses_stop_the_upgrade_unless_they_are_accepted(accept: list[Any], refused: list[str]) -> None:
    judged = upgrade_entries([entry("lost_key", what="a"), entry("lost_key", what="b"), entry("default", "warn")], accept)
    assert [one["what"] for one in judged if one["refused"]] == refused
    assert [one["what"] for one in judged if one["accepted"]] == [name for name in "ab" if name not in refused]


def test_a_line_names_the_file_and_the_remedy() -> None:
    [lost, accepted, default] = upgrade_entries(
        [entry("lost_key", source=FILE), entry("cdi", now=False, then=True), entry("default", "info", remedy="")], ["cdi"]
    )
    assert lost["line"] == f"FAIL lost_key: key: now native, then nothing ({FILE}) -> set it"
    assert accepted["line"] == "ACCEPTED cdi: key: now no, then yes"
    assert default["line"] == "INFO default: key: now native, then nothing"


@pytest.mark.parametrize("accept", [[1], [{"kind": "cdi"}], [{"kind": "cdi", "what": "a", "then": 1}]])
def test_what_accepts_nothing_is_refused(accept: list[Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="upgrade_accept takes kinds"):
        upgrade_entries([], accept)


def test_the_nodes_of_the_next_wave_are_those_that_need_it_in_the_order_of_the_inventory() -> None:
    found = upgrade_fleet(FLEET, ["node-4", *FLEET])
    assert found["nodes"]["pending"] == ["node-4", "node-3"]
    assert (found["bad"], found["wave"]) == (["node-2"], 3)
    assert upgrade_fleet({"a": {}}, ["a"]) == {"nodes": {}, "bad": [], "wave": 1, "lines": []}


@pytest.mark.parametrize("status", ["rolled_back", "failed", "refused", "unreachable"])
def test_every_kind_of_failure_counts(status: str) -> None:
    assert upgrade_fleet({"a": outcome(status)}, ["a"])["bad"] == ["a"]


def test_the_last_lines_name_every_node_of_the_run() -> None:
    assert upgrade_fleet(FLEET, list(FLEET))["lines"] == [
        "1 upgraded: node-1",
        "1 nothing to do: node-5",
        "1 went back: node-2",
        "2 left unchanged: node-[3-4]",
        "node-2: CRI died",
        "Correct the causes, and run the playbook again: it goes on with the nodes that are left unchanged.",
    ]
    assert upgrade_fleet({"a": outcome("pending")}, ["a"], predicted=True)["lines"] == ["1 would be upgraded: a"]


@pytest.mark.parametrize(
    ("status", "predicted", "advice"),
    [
        ("failed", False, "Correct the causes, and run the playbook again."),
        (
            "refused",
            True,
            (
                "Correct the causes, or accept entries of the report with upgrade_accept, and findings of checks with "
                "upgrade_verify_skip. With more such nodes than upgrade_max_failed, a run starts no wave."
            ),
        ),
        ("unreachable", False, "Correct the causes, and run the playbook again. Leave out nodes that stay away with --limit."),
    ],
)
def test_the_last_line_says_what_to_do(status: str, predicted: bool, advice: str) -> None:
    assert upgrade_fleet({"a": outcome(status)}, ["a"], predicted=predicted)["lines"][-1] == advice


def test_the_remedy_of_a_check_does_not_upgrade_a_node_by_the_way() -> None:
    refused = outcome("refused", reason="FAIL daemon_binary: … -> run the playbook slipway.node.provision on this node")
    last = upgrade_fleet({"a": refused}, ["a"])["lines"][-1]
    assert "also installs the version of the inventory: set the installed version before you run it" in last


def test_a_prediction_names_the_entries_that_need_attention_once() -> None:
    entries = upgrade_entries(
        [entry("sandbox_image", "warn", remedy="set settings.sandbox_image to it"), entry("nri", "info"), entry("cni")]
    )
    nodes = {name: {**outcome("pending"), "__upgrade_entries": entries} for name in ("a-1", "a-2")}
    line = "WARN sandbox_image: key: now native, then nothing -> set containerd_sandbox_image to it (2 nodes: a-[1-2])"
    assert upgrade_fleet(nodes, list(nodes), predicted=True)["lines"] == ["2 would be upgraded: a-[1-2]", line]
    assert upgrade_fleet(nodes, list(nodes))["lines"] == ["2 left unchanged: a-[1-2]"]


def test_the_last_lines_of_a_way_back_are_its_own() -> None:
    nodes = {"a": outcome("upgraded", state="previous"), "b": outcome("pending", state="previous")}
    assert upgrade_fleet(nodes, ["a", "b"])["lines"] == ["1 brought back: a", "1 left unchanged: b"]
    assert upgrade_fleet(nodes, ["b"], predicted=True)["lines"] == ["1 would be brought back: b"]


def test_a_line_says_what_became_of_a_node() -> None:
    lines = [upgrade_line(outcome(status, containers=3)["__upgrade_outcome"]) for status in ("upgraded", "current", "failed")]
    assert lines == [
        "containerd 1.7.24 -> 2.3.7, 3 containers kept running",
        "containerd 1.7.24, nothing to do",
        "failed: CRI died",
    ]


def reported(variables: dict[str, dict[str, Any]], *, predicted: bool = False) -> dict[str, Any]:
    results = {host: {"verify_node": upgrade_findings(own, predicted=predicted)} for host, own in variables.items()}
    found: dict[str, Any] = fleet(results, list(results))
    return found


def test_the_fleets_report_has_the_losses_in_groups() -> None:
    entries = upgrade_entries(
        [entry("lost_key", what="a"), entry("lost_key", what="b"), entry("cdi"), entry("nri", "info")], ["cdi"]
    )
    found = reported({name: {**outcome("pending"), "__upgrade_entries": entries} for name in ("a", "b")}, predicted=True)
    groups = [(one["status"], one["check"], one["found"], one["remedy"], one["nodes"]) for one in found["groups"]]
    assert groups == [
        ("fail", "lost_key", "a: now native, then nothing; b: now native, then nothing", "set it", ["a", "b"]),
        ("warn", "cdi", "key: now native, then nothing", "accepted", ["a", "b"]),
    ]
    assert found["summary"] == {"fail": 2}


def test_the_fleets_report_has_what_became_of_the_nodes() -> None:
    found = reported({**FLEET, "gone": outcome("unreachable")})
    assert {node["name"]: (node["worst"], node["version"]) for node in found["nodes"]} == {
        "node-1": ("ok", "2.3.7"),
        "node-2": ("fail", "1.7.24"),
        "node-3": ("warn", "1.7.24"),
        "node-4": ("warn", "1.7.24"),
        "node-5": ("ok", "1.7.24"),
        "gone": ("unreachable", None),
        "other": ("unreachable", None),
    }
    [failed] = [group for group in found["groups"] if group["status"] == "fail"]
    assert (failed["check"], failed["found"]) == ("upgrade", "went back: CRI died")
    assert {node["reason"] for node in found["nodes"] if node["name"] == "gone"} == {"CRI died"}
