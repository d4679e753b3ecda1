# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of toolboxes and of all other writable snapshots without a container."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.toolbox.faults import PROVISION, RELOAD
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import Risk, ToolboxState
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unknown,
    unread,
    warn,
)

_LOOK = "resolve the reported errors and verify again"
_KEEP = "'ctr -n NAMESPACE snapshots --snapshotter SNAPSHOTTER label KEY containerd.io/gc.root=kept'"


@check
def toolboxes(state: NodeState, expectation: Expectation) -> Finding | None:
    """Expected toolboxes are pinned, have no lease that expires, and can be used now and after a reboot."""
    if not expectation.toolboxes:
        return None
    expected = [f"{one.path} {one.state}" for one in expectation.toolboxes]
    if state.toolboxes is None:
        return unread(expected, state, "toolboxes", "config", "version")
    wrong = {one.expected.path: one.problem for one in state.toolboxes.expected if one.problem}
    if wrong and not state.toolboxes.trouble:
        return fail(expected, wrong, _remedy(state.toolboxes.expected))
    doubtful = {one.expected.path: one.trouble for one in state.toolboxes.expected if one.trouble}
    if wrong or doubtful:
        # A toolbox that wasn't found may be in a part that couldn't be read.
        reasons = {**wrong, **doubtful, **({"": state.toolboxes.trouble} if state.toolboxes.trouble else {})}
        return unknown(expected, reasons, _LOOK)
    return ok(expected, "as expected")


def _remedy(toolboxes: Sequence[ToolboxState]) -> str:
    """Return the steps of all toolboxes: files first, then systemd's reload, then what is mounted. The playbook comes last."""
    steps = dict.fromkeys(step for one in toolboxes if one.problem for step in one.remedies or (PROVISION,))
    files = [step for step in steps if step.startswith(("/", "remove /"))]
    mounts = [step for step in steps if step not in (*files, RELOAD, PROVISION)]
    reload = [RELOAD] if RELOAD in steps else []
    return ", then ".join([*files, *reload, *mounts, *([CONFIGURE] if PROVISION in steps else [])])


@check
def unlisted_snapshots(state: NodeState, expectation: Expectation) -> Finding | None:
    """Every pinned writable snapshot belongs to a container or to the inventory, if that lists toolboxes."""
    if expectation.toolboxes is None:
        counted = f"{state.toolboxes.pinned} pinned" if state.toolboxes else None
        return ok("any, because toolboxes aren't listed", counted) if counted else None
    expected = "every pinned snapshot is listed"
    if state.toolboxes is None:
        return unread(expected, state, "toolboxes", "config", "version")
    if state.toolboxes.unlisted:
        sizes = {key: "size unknown" if size is None else f"{size} bytes" for key, size in state.toolboxes.unlisted.items()}
        remedy = "list them in toolbox_snapshots, or remove them: toolbox_prune_unlisted, toolbox_prune_after, or manually"
        return warn(expected, sizes, remedy)
    if state.toolboxes.trouble:
        return unknown(expected, state.toolboxes.trouble, _LOOK)
    return ok(expected, "none")


@check
def snapshots_at_risk(state: NodeState, expectation: Expectation) -> Finding:
    """Garbage collection deletes no writable snapshot while it is mounted."""
    expected = "no mounted snapshot that garbage collection deletes"
    if state.toolboxes is None:
        return unread(expected, state, "toolboxes", "daemon", "config", "version")
    certain = _said([risk for risk in state.toolboxes.at_risk if risk.certain])
    lost = dict.fromkeys(state.toolboxes.lost, "its snapshot has been deleted, with its data")
    if certain or lost:
        remedy = f"list toolboxes in toolbox_snapshots, which pins them; else run {_KEEP}"
        if not certain:
            remedy = "unmount it (umount PATH); slipway.node.provision then recreates a toolbox of the inventory"
        return fail(expected, {**certain, **lost}, remedy)
    doubtful = _said(state.toolboxes.at_risk)
    if doubtful or state.toolboxes.trouble:
        reasons = {**doubtful, **({"": state.toolboxes.trouble} if state.toolboxes.trouble else {})}
        remedy = f"find out whether it is in use; {_KEEP} keeps it"
        return unknown(expected, reasons, remedy if doubtful else _LOOK)
    return ok(expected, "none")


def _said(risks: Sequence[Risk]) -> dict[str, str]:
    """Return the reasons by snapshot."""
    return {
        f"{risk.key} in {risk.namespace} ({risk.snapshotter})": f"mounted at {risk.mount_point}: {risk.reason}"
        if risk.mount_point
        else risk.reason
        for risk in risks
    }
