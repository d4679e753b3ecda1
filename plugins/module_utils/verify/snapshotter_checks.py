# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the snapshotters."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    not_answering,
    ok,
    unread,
    warn,
)


@check
def snapshotters(state: NodeState, expectation: Expectation) -> Finding:
    """The snapshotters in use are ok in the daemon; otherwise, its own message."""
    if state.daemon is None or state.config is None:
        return unread("ok", state, "config", "daemon", "version")
    names = list(expectation.settings.chosen_snapshotters())
    names += [name for name in state.config.used_snapshotters if name not in names]
    expected = dict.fromkeys(names, "ok")
    if state.daemon.plugins is None:
        return not_answering(expected, state)
    states = {one.id: one.status for one in state.daemon.plugins if one.is_snapshotter}
    found = {name: states.get(name, "not loaded") for name in names}
    if found == expected:
        return ok(expected, found)
    found = {name: ": ".join(filter(None, (one, state.plugin_reasons.get(name)))) for name, one in found.items()}
    return fail(expected, found, f"set up the snapshotter as containerd's message says, then {CONFIGURE}")


@check
def snapshotter_requirements(state: NodeState, expectation: Expectation) -> Finding | None:
    """Their requirements are met: pools, scratch files, programs, services."""
    if state.config is None:
        return unread("all met", state, "config", "version")
    names = list(dict.fromkeys((*state.config.used_snapshotters, *expectation.settings.chosen_snapshotters())))
    if not names:
        return None
    if state.missing_requirements is None:
        return unread("all met", state, "missing_requirements", "daemon")
    if state.missing_requirements:
        return fail("all met", dict(state.missing_requirements), "; ".join(state.missing_requirements.values()))
    return ok("all met", f"all requirements of {', '.join(names)}")


@check
def images_unpacked(state: NodeState, expectation: Expectation) -> Finding | None:
    """Every image that CRI lists as present is unpacked for a snapshotter that pods use."""
    if state.config is None:
        return unread("CRI's images unpacked", state, "config", "version")
    used = state.config.used_snapshotters
    if not used:
        return None
    expected = f"CRI's images unpacked for {' or '.join(used)}"
    if state.stranded is None:
        return unread(expected, state, "stranded", "daemon", "version")
    if state.stranded:
        found = {one.name: f"unpacked for {', '.join(one.snapshotters)} alone" for one in state.stranded}
        remedy = f"unpack them with slipway.node.containerd_image (name, namespace: k8s.io, snapshotter: {used[0]})"
        return warn(expected, found, f"{remedy}, or starting pods unpack them without flushing them to disk")
    return ok(expected, "all of them")


@check
def discarded_layers(state: NodeState, expectation: Expectation) -> Finding | None:
    """Blobs are kept if a second snapshotter needs images that were unpacked for the first."""
    if state.config is None:
        return unread("blobs kept", state, "config", "version")
    used = state.config.used_snapshotters
    if not used:
        return None
    expected = f"blobs kept where {' and '.join(used)} need them"
    if not state.config.discards_layers:
        return ok(expected, "blobs are kept")
    if len(used) == 1:
        return ok(expected, "blobs are discarded after unpacking; there is no second snapshotter")
    remedy = "set discard_unpacked_layers to false, and pull again the images that a handler can't find (containerd#11390)"
    return fail(expected, "discard_unpacked_layers is true", remedy)
