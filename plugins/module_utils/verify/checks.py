# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""All checks of the node, and which of them run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.verify import (
    daemon_checks,
    handler_checks,
    image_checks,
    kata_checks,
    probe_checks,
    snapshotter_checks,
    surroundings_checks,
    thin_pool_checks,
    toolbox_checks,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Check, Expectation, Finding, NodeState

STATUSES = ("fail", "unknown", "warn", "ok")


def checks_in(file: object) -> dict[str, Check]:
    """Return the checks of one imported file by id, in the order of the file."""
    return {value.id: value for value in vars(file).values() if isinstance(value, Check)}


# In the order in which they run and are reported.
CHECKS: dict[str, Check] = {
    **checks_in(daemon_checks),
    **checks_in(handler_checks),
    **checks_in(surroundings_checks),
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


def summarize(findings: Sequence[Finding]) -> dict[str, Any]:
    """Count the findings of each status, and name the worst status."""
    counts: dict[str, Any] = {status: sum(finding.status == status for finding in findings) for status in STATUSES}
    worst = next((status for status in STATUSES if counts[status]), "unknown")
    return {**counts, "worst": worst}
