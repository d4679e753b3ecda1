# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check of the active probe."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import REFUSED, UNKNOWN
from ansible_collections.slipway.node.plugins.module_utils.kata.state import KataState
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import FAILED, NONE, STARTED
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    DAEMON_UNREACHABLE,
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
from ansible_collections.slipway.node.plugins.module_utils.verify.kata_checks import NotReadable, inspect


def unsafe_handlers(kata: KataState | None, config: EffectiveConfig | None) -> Mapping[str, str]:
    """Return the Kata handlers that aren't started, with the reason: such a guest could be given the host's own disk.

    Accepted risks count as well, because they are accepted for images that the inventory knows.
    """
    default = config.default_snapshotter if config is not None else "overlayfs"
    unsafe = {}
    for handler in kata.handlers if kata is not None else ():
        try:
            verdict = inspect(handler, default).verdict
        except NotReadable as error:
            unsafe[handler.name] = str(error)
            continue
        if verdict is None or verdict.transport in (REFUSED, UNKNOWN):
            unsafe[handler.name] = verdict.reason if verdict is not None else "an unknown hypervisor"
    return unsafe


def _unread(expected: str, state: NodeState) -> Finding:
    reason = state.trouble.get("probe", DAEMON_UNREACHABLE)
    if state.daemon is None or state.daemon.plugins is None or state.config is None:
        return unread(expected, state, "version", "daemon", "config", "probe")
    return unknown(expected, reason, "remove the cause, and verify again")


@check
def handler_starts(state: NodeState, expectation: Expectation) -> Finding | None:
    """A container, or a pod, starts with each handler."""
    if expectation.probe == NONE:
        return None
    expected = f"a {expectation.probe} starts with each handler"
    report = state.probe
    if report is None:
        return _unread(expected, state)
    found = {one.handler: one.shown() for one in report.outcomes}
    states = {one.state for one in report.outcomes}
    if FAILED in states:
        remedy = f"read 'journalctl -u {state.unit}', and correct the runtime or the options of the named handlers"
        return fail(expected, {**found, **({"left behind": report.left} if report.left else {})}, remedy)
    if report.left:
        return warn("nothing is left behind", report.left, "verify again: the next probe removes it")
    if states == {STARTED}:
        return ok(expected, found)
    remedy = "start a container with each of these handlers yourself, or correct their settings"
    return unknown(expected, found or "the configuration declares no handler", remedy)
