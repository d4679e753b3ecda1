# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""All checks of the node, and the choice of those that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.verify import (
    config_checks,
    daemon_checks,
    handler_checks,
    image_checks,
    kata_checks,
    pod_checks,
    probe_checks,
    pull_checks,
    registry_checks,
    snapshotter_checks,
    surroundings_checks,
    thin_pool_checks,
    toolbox_checks,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    Check,
    Expectation,
    Finding,
    NodeState,
    unknown,
)

STATUSES = ("fail", "unknown", "warn", "ok")
# The id of the finding that combines findings that can't be determined for the same reason.
UNDETERMINED = "undetermined"


def checks_in(file: object) -> dict[str, Check]:
    """Return the checks of one imported file by id, in the order of the file."""
    return {value.id: value for value in vars(file).values() if isinstance(value, Check)}


# In the order in which they run and are reported.
CHECKS: dict[str, Check] = {
    **checks_in(daemon_checks),
    **checks_in(config_checks),
    **checks_in(pull_checks),
    **checks_in(handler_checks),
    **checks_in(surroundings_checks),
    **checks_in(pod_checks),
    **checks_in(registry_checks),
    **checks_in(snapshotter_checks),
    **checks_in(image_checks),
    **checks_in(toolbox_checks),
    **checks_in(kata_checks),
    **checks_in(thin_pool_checks),
    **checks_in(probe_checks),
}


def run_checks(state: NodeState, expectation: Expectation, only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Finding]:
    """Return the findings of the chosen checks that apply. Raises ValueError for an unknown id."""
    findings = (CHECKS[name].run(state, expectation) for name in chosen(only, skip))
    return [finding for finding in findings if finding is not None]


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Return the ids of the checks to run. Raises ValueError for an unknown id."""
    for option, names in (("only", only), ("skip", skip)):
        for name in names:
            if name not in CHECKS:
                raise ValueError(f"{option} names no check {name!r}: choose from {', '.join(CHECKS)}")
    return [name for name in CHECKS if (not only or name in only) and name not in skip]


def report(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings as they are reported: one for each cause, and the worst first."""
    return sorted(fold(findings), key=lambda finding: STATUSES.index(finding.status))


def fold(findings: Sequence[Finding]) -> list[Finding]:
    """Replace the findings with a common cause or reason by one finding that counts and names them."""
    failed = {finding.id: finding for finding in findings if finding.status == "fail"}
    of_one = Counter(finding.cause for finding in findings if finding.cause and finding.status == "unknown")
    causes: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.cause in failed or (of_one[finding.cause] > 1 and finding.status == "unknown"):
            causes.setdefault(_first_cause(finding.cause, failed), []).append(finding)
    folded = [finding for several in causes.values() for finding in several]
    if not folded:
        return list(findings)
    found = {f"{_checks(several)} because of {cause}": ", ".join(one.id for one in several) for cause, several in causes.items()}
    remedies = dict.fromkeys(
        f"correct {cause} first" if cause in failed else several[0].remedy for cause, several in causes.items()
    )
    rest = [finding for finding in findings if finding not in folded]
    return [*rest, replace(unknown("every check is determined", found, "; ".join(remedies)), id=UNDETERMINED)]


def _first_cause(cause: str, failed: Mapping[str, Finding]) -> str:
    while cause in failed and failed[cause].cause in failed:
        cause = failed[cause].cause
    return cause


def _checks(several: Sequence[Finding]) -> str:
    return f"{len(several)} {'check' if len(several) == 1 else 'checks'}"


def summarize(findings: Sequence[Finding]) -> dict[str, Any]:
    """Count the findings of each status, and name the worst status."""
    counts: dict[str, Any] = {status: sum(finding.status == status for finding in findings) for status in STATUSES}
    worst = next((status for status in STATUSES if counts[status]), "unknown")
    return {**counts, "worst": worst}
