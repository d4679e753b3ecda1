# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade of many nodes: the entries of their loss reports, and what became of each node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.filter.finding_line import words
from ansible_collections.slipway.node.plugins.plugin_utils.fleet import STATUSES
from ansible_collections.slipway.node.plugins.plugin_utils.fleet_page import folded

# The variables that the playbook leaves on each host: what became of it, and the entries of its loss report.
OUTCOME = "__upgrade_outcome"
ENTRIES = "__upgrade_entries"
# What can become of a node. A node that is still pending after the waves was not touched.
PENDING, CURRENT, UPGRADED = "pending", "current", "upgraded"
ROLLED_BACK, FAILED, REFUSED, UNREACHABLE = "rolled_back", "failed", "refused", "unreachable"
# The nodes that count for upgrade_max_failed.
BAD = (ROLLED_BACK, FAILED, REFUSED, UNREACHABLE)
_WORDS = {
    UPGRADED: "upgraded",
    CURRENT: "nothing to do",
    ROLLED_BACK: "went back",
    FAILED: "failed",
    REFUSED: "refused, and left unchanged",
    UNREACHABLE: "not reached",
    PENDING: "left unchanged",
}
_PREDICTED = {PENDING: "would be upgraded"}
# With upgrade_state previous.
_PREVIOUS = {UPGRADED: "brought back"}
_PREVIOUS_PREDICTED = {PENDING: "would be brought back"}
_REMEDIES = {
    ROLLED_BACK: "correct the cause, and run the playbook again",
    FAILED: "correct the cause, and run the playbook again",
    REFUSED: "correct the cause, or accept entries of the report with upgrade_accept",
    PENDING: "correct the nodes that failed, and run the playbook again",
}
# An entry of the loss report that needs no action is not a finding.
_FINDINGS = {"fail": "fail", "warn": "warn", "unknown": "unknown", "info": "ok"}


# A remedy of node_verify.
_PROVISION = "slipway.node.provision"
_SETTING = re.compile(r"\bsettings\.([a-z_]+)")


def _words_of(outcome: Mapping[str, Any], *, predicted: bool) -> str:
    previous = outcome.get("state") == "previous"
    chosen = (_PREVIOUS_PREDICTED if previous else _PREDICTED) if predicted else (_PREVIOUS if previous else {})
    status: str = outcome["status"]
    return chosen.get(status, _WORDS[status])


def judge(entries: Sequence[Mapping[str, Any]], accept: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the entries with ``accepted``, ``refused`` and a ``line`` for people, and variables of the inventory in remedies.

    ``accept`` has kinds of entries, and mappings with ``kind`` and ``what``. Raises ValueError for anything else.
    """
    kinds, pairs = set(), set()
    for one in accept:
        if isinstance(one, str):
            kinds.add(one)
        elif isinstance(one, Mapping) and set(one) == {"kind", "what"}:
            pairs.add((str(one["kind"]), str(one["what"])))
        else:
            raise ValueError(f"upgrade_accept takes kinds of entries, and mappings with kind and what, not {one!r}")
    judged = []
    for entry in entries:
        accepted = entry["status"] == "fail" and (entry["kind"] in kinds or (entry["kind"], entry["what"]) in pairs)
        refused = entry["status"] == "fail" and not accepted
        # Each option of the settings is a variable of the inventory.
        named = {**entry, "remedy": _SETTING.sub(r"containerd_\1", entry["remedy"])}
        judged.append({**named, "accepted": accepted, "refused": refused, "line": _line(named, accepted=accepted)})
    return judged


def _line(entry: Mapping[str, Any], *, accepted: bool) -> str:
    status = "ACCEPTED" if accepted else str(entry["status"]).upper()
    line = f"{status} {entry['kind']}: {_difference(entry)}"
    return f"{line} -> {entry['remedy']}" if entry["remedy"] and not accepted else line


def _difference(entry: Mapping[str, Any]) -> str:
    source = f" ({entry['source']})" if entry["source"] and entry["source"] != entry["what"] else ""
    return f"{entry['what']}: now {_value(entry['now'])}, then {_value(entry['then'])}{source}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return words(value) or "empty"


def read_nodes(variables: Mapping[str, Mapping[str, Any]], hosts: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return what became of each node of this run, in the order of ``hosts``. Hosts outside of the run are left out."""
    # A fact contains no templates. To template it takes several milliseconds for each node.
    read = getattr(variables, "raw_get", variables.__getitem__)
    found = ((str(host), read(host).get(OUTCOME)) for host in hosts)
    return {host: outcome for host, outcome in found if outcome}


def progress(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``nodes`` (names by outcome), ``bad`` (the names that count for upgrade_max_failed) and the next ``wave``."""
    nodes: dict[str, list[str]] = {}
    for host, outcome in outcomes.items():
        nodes.setdefault(outcome["status"], []).append(host)
    return {
        "nodes": nodes,
        "bad": [host for host, outcome in outcomes.items() if outcome["status"] in BAD],
        "wave": 1 + max((int(outcome.get("wave") or 0) for outcome in outcomes.values()), default=0),
    }


def summary(outcomes: Mapping[str, Mapping[str, Any]], *, predicted: bool) -> list[str]:
    """Return the run in lines: how many nodes of which outcome, with their names, and the reason of each that is bad."""
    nodes = progress(outcomes)["nodes"]
    lines = []
    for status in _WORDS:
        names = nodes.get(status, [])
        if names:
            lines.append(f"{len(names)} {_words_of(outcomes[names[0]], predicted=predicted)}: {folded(names)}")
    lines += [f"{host}: {outcome['reason']}" for host, outcome in outcomes.items() if outcome["status"] in BAD]
    return lines + _advice(nodes, " ".join(lines), predicted=predicted)


def _advice(nodes: Mapping[str, Sequence[str]], reasons: str, *, predicted: bool) -> list[str]:
    """Return what to do about nodes that are bad."""
    if not any(status in nodes for status in BAD):
        return []
    text = "Correct the causes"
    if REFUSED in nodes:
        text += ", or accept entries of the report with upgrade_accept, and findings of checks with upgrade_verify_skip"
    if predicted:
        text += ". With more such nodes than upgrade_max_failed, a run starts no wave"
    else:
        text += ", and run the playbook again"
        text += ": it goes on with the nodes that are left unchanged" if PENDING in nodes else ""
    if UNREACHABLE in nodes:
        text += ". Leave out nodes that stay away with --limit"
    if _PROVISION in reasons:
        text += f". {_PROVISION} also installs the version of the inventory: set the installed version before you run it"
    return [f"{text}."]


def attention(variables: Mapping[str, Mapping[str, Any]], hosts: Iterable[str]) -> list[str]:
    """Return the entries of the nodes' loss reports that need attention, each once with the names of its nodes.

    Those for which a node is refused are left out: they are its reason.
    """
    read = getattr(variables, "raw_get", variables.__getitem__)
    found: dict[str, list[str]] = {}
    for host in map(str, hosts):
        for entry in read(host).get(ENTRIES) or ():
            if entry["status"] != "info" and not entry["refused"]:
                found.setdefault(str(entry["line"]), []).append(host)
    return [f"{line} ({len(names)} node{'s' * (len(names) > 1)}: {folded(names)})" for line, names in found.items()]


def line_of(outcome: Mapping[str, Any]) -> str:
    """Return what became of one node in a line for people."""
    now, then = outcome.get("version"), outcome.get("to_version")
    if outcome["status"] in BAD:
        return f"{_WORDS[outcome['status']]}: {outcome['reason']}"
    if outcome["status"] == CURRENT:
        return f"containerd {now}, nothing to do"
    containers = outcome.get("containers")
    kept = f", {containers} containers kept running" if containers else ""
    return f"containerd {now} -> {then}{kept}"


def findings(variables: Mapping[str, Any], *, predicted: bool) -> dict[str, Any]:
    """Return what became of a node in the shape of a result of node_verify, for the report on the fleet.

    Entries of the loss report are one finding for each kind.
    """
    outcome = variables.get(OUTCOME) or {"status": UNREACHABLE, "reason": "the run ended before this node"}
    if outcome["status"] == UNREACHABLE:
        return {"unreachable": True, "msg": outcome["reason"]}
    found = [_outcome_finding(outcome, predicted=predicted), *_entry_findings(variables.get(ENTRIES) or [])]
    counts = {status: sum(1 for one in found if one["status"] == status) for status in STATUSES if status != UNREACHABLE}
    version = outcome.get("to_version" if outcome["status"] == UPGRADED else "version")
    worst = next(status for status in STATUSES if counts.get(status))
    return {"version": version, "checks": found, "summary": {**counts, "worst": worst}}


def _outcome_finding(outcome: Mapping[str, Any], *, predicted: bool) -> dict[str, Any]:
    status = outcome["status"]
    bad, waits = status in BAD, status == PENDING and not predicted
    text = _words_of(outcome, predicted=predicted)
    return {
        "id": "upgrade",
        "status": "fail" if bad else "warn" if waits else "ok",
        "expected": "the node is upgraded",
        "found": f"{text}: {outcome['reason']}" if bad else text,
        "remedy": _REMEDIES.get(status, "") if bad or waits else "",
    }


def _entry_findings(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        kinds.setdefault(str(entry["kind"]), []).append(entry)
    return [_entry_finding(kind, own) for kind, own in kinds.items()]


def _entry_finding(kind: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def status_of(entry: Mapping[str, Any]) -> str:
        return "warn" if entry["accepted"] else _FINDINGS[entry["status"]]

    worst = min((status_of(entry) for entry in entries), key=STATUSES.index)
    shown = [entry for entry in entries if status_of(entry) != "ok"] or entries
    remedies = dict.fromkeys("accepted" if entry["accepted"] else entry["remedy"] for entry in shown)
    return {
        "id": kind,
        "status": worst,
        "expected": "the same with both versions",
        "found": "; ".join(_difference(entry) for entry in shown),
        "remedy": "; ".join(remedy for remedy in remedies if remedy),
    }
