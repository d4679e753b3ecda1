# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of node_verify of many nodes: the fleet, its findings in groups, and queries over both."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.slipway.node.plugins.filter.finding_line import words
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS

# Worst first; a node that couldn't be read may be anything.
UNREACHABLE = "unreachable"
STATUSES = ("fail", UNREACHABLE, "unknown", "warn", "ok")
# The variables that the role verify leaves on each host: the result, and the time at which the run began.
RESULT = "verify_node"
STARTED = "__verify_started"
# Numbers and digests. Texts that differ only in these are alike.
VARYING = re.compile(r"\b[0-9a-f]{12,}\b|\d+(?:\.\d+)*")
# A fleet on which a query is tried before the nodes are read: functions that don't exist are found only when they are called.
SAMPLE: dict[str, Any] = {
    "summary": {"fail": 1},
    "checks": ["kill_mode"],
    "groups": [{"check": "kill_mode", "status": "fail", "count": 1, "texts": [{"found": "", "count": 1}], "nodes": ["node"]}],
    "nodes": [{"name": "node", "worst": "fail", "summary": {}, "findings": {"kill_mode": {"id": "kill_mode", "status": "fail"}}}],
}


@dataclass
class Text:
    """One text of a group, ``(found, expected, remedy)`` as the first node has it, and the nodes with a text alike."""

    parts: tuple[str, str, str]
    nodes: list[str] = field(default_factory=list)


@dataclass
class Group:
    """The findings of one check with one status and one remedy; the most frequent text is the first."""

    check: str
    status: str
    texts: list[Text]

    @property
    def nodes(self) -> list[str]:
        """Return the names of the nodes, in the order of the texts."""
        return [name for text in self.texts for name in text.nodes]

    def to_dict(self) -> dict[str, Any]:
        found, expected, remedy = self.texts[0].parts
        texts = [{"found": text.parts[0], "count": len(text.nodes)} for text in self.texts]
        shown = {"found": found, "expected": expected, "remedy": remedy}
        return {
            "check": self.check,
            "status": self.status,
            "count": len(self.nodes),
            **shown,
            "texts": texts,
            "nodes": self.nodes,
        }


def read_fleet(variables: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], now: float) -> dict[str, Any]:
    """Return the fleet: ``date``, ``seconds``, ``summary``, ``checks``, ``groups`` and ``nodes``, worst first.

    ``variables`` are those of all hosts, ``now`` the time of the report in seconds since the epoch.
    """
    # A registered result contains no templates. To template it takes several milliseconds for each node.
    read = getattr(variables, "raw_get", variables.__getitem__)
    nodes, started = [], []
    for host in hosts:
        found = read(host)
        nodes.append(_node(str(host), found.get(RESULT) or {}))
        if found.get(STARTED):
            started.append(float(found[STARTED]))
    nodes.sort(key=lambda node: (STATUSES.index(node["worst"]), -node["summary"].get("fail", 0), natural(node["name"])))
    used = {check for node in nodes for check in node["findings"]}
    counts = Counter(node["worst"] for node in nodes)
    return {
        "date": datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(now - min(started)) if started else None,
        "summary": {status: counts[status] for status in STATUSES if counts[status]},
        "checks": [check for check in CHECKS if check in used] + sorted(used - CHECKS.keys()),
        "groups": [group.to_dict() for group in groups_of(nodes)],
        "nodes": nodes,
    }


def _node(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    summary = dict(result.get("summary") or {})
    return {
        "name": name,
        "version": result.get("version"),
        "worst": summary.get("worst", UNREACHABLE),
        "summary": summary,
        "reason": "" if summary else str(result.get("msg") or ""),
        "reached": bool(result) and not result.get("unreachable"),
        "findings": {finding["id"]: finding for finding in result.get("checks", [])},
    }


def natural(name: str) -> list[tuple[int, str]]:
    """Return the key by which node-2 comes before node-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def alike(text: str) -> str:
    """Return a text without the numbers in which the texts of two nodes may differ."""
    return VARYING.sub("0", text)


def reported(node: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, str, str]]]:
    """Return the findings of a node that are not ok: check, status, and the text. An unread node has one, with the reason."""
    if node["worst"] == UNREACHABLE:
        reason = node["reason"] or "the run reported no reason"
        remedy = "correct the reported error, and verify again"
        if not node["reached"]:
            remedy = "test the connection with 'ansible -m ping NODE'"
        return [(UNREACHABLE, UNREACHABLE, (reason, "the node is read", remedy))]
    return [
        (check, one["status"], (words(one["found"]), words(one["expected"]), one["remedy"]))
        for check, one in node["findings"].items()
        if one["status"] != "ok"
    ]


def groups_of(nodes: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return the findings that are not ok in groups: worst first, then by the number of nodes, then by check.

    Findings of one check are in one group if their status is the same and their remedies are alike.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, str], Text]] = {}
    for node in nodes:
        for check, status, parts in reported(node):
            texts = groups.setdefault((check, status, alike(parts[2])), {})
            texts.setdefault((alike(parts[0]), alike(parts[1])), Text(parts)).nodes.append(node["name"])
    order = {check: place for place, check in enumerate(CHECKS)}
    found = [
        Group(check, status, sorted(texts.values(), key=lambda text: -len(text.nodes)))
        for (check, status, _remedy), texts in groups.items()
    ]
    found.sort(key=lambda group: (STATUSES.index(group.status), -len(group.nodes), order.get(group.check, len(order))))
    return found


def to_json(fleet: Mapping[str, Any]) -> str:
    """Return the fleet as JSON, with each group and each node on a line of its own."""
    lines = []
    for key, value in fleet.items():
        shown = json.dumps(value)
        if key in ("groups", "nodes"):
            shown = "[" + ",".join(f"\n  {json.dumps(one, separators=(',', ':'))}" for one in value) + "\n]"
        lines.append(f"{json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(lines) + "\n}"


def query_error(expression: Any) -> str:
    """Return why an expression can't be used, as a sentence that names the option; empty if it can."""
    try:
        import jmespath  # noqa: PLC0415 - only queries need the library
        from jmespath import exceptions  # noqa: PLC0415
    except ImportError:
        return "verify_query needs the Python library jmespath on the controller: install jmespath, or remove verify_query"
    if not isinstance(expression, str):
        return f"verify_query is not a text: {expression!r}: set it to a JMESPath expression"
    try:
        jmespath.search(expression, SAMPLE)
    except (
        exceptions.ParseError,
        exceptions.EmptyExpressionError,
        exceptions.UnknownFunctionError,
        exceptions.ArityError,
    ) as error:
        reason = str(error).splitlines()[0].rstrip(":.").rpartition("expression: ")[2]
        return f"verify_query is not a JMESPath expression: {expression!r}: {reason}: correct the expression"
    except exceptions.JMESPathError:
        pass  # The types of the fleet's values may suit the function.
    return ""


def select(fleet: Mapping[str, Any], expression: str) -> Any:
    """Return what a JMESPath expression selects from the fleet. Raises ValueError with a sentence that names the option."""
    problem = query_error(expression)
    if problem:
        raise ValueError(problem)
    import jmespath  # noqa: PLC0415
    from jmespath.exceptions import JMESPathError  # noqa: PLC0415

    # The functions of JMESPath take exactly the types of JSON, not Ansible's types that are derived from them.
    plain = json.loads(json.dumps(fleet))
    try:
        return jmespath.search(expression, plain)
    except JMESPathError as error:
        raise ValueError(f"verify_query: {expression!r} cannot be applied to the fleet: {error}") from error
