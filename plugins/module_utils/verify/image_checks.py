# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the images: they are present and intact, further ones can be pulled, and the file systems keep them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.durability import DURABLE
from ansible_collections.slipway.node.plugins.module_utils.core import mounts
from ansible_collections.slipway.node.plugins.module_utils.images import intent
from ansible_collections.slipway.node.plugins.module_utils.images.expected import FoundImage
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import AUTO, INTEGRITY_NONE
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    REPAIR,
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

# The worst fault first: the status, the reason for an image (empty if it has no such fault), and the remedy.
_FAULTS: tuple[tuple[Callable[..., Finding], Callable[[FoundImage], str], str], ...] = (
    (fail, lambda one: one.problem, CONFIGURE),
    (unknown, lambda one: one.trouble, "resolve the reported errors and verify again"),
    (warn, lambda one: "" if one.synced else "on the node, but possibly not on disk", CONFIGURE),
    (
        unknown,
        lambda one: "" if one.durability == DURABLE else "the snapshotter's files can't be flushed together with the image",
        "compare the images with their layers after a power cut (integrity: metadata)",
    ),
)


@check
def images_present(state: NodeState, expectation: Expectation) -> Finding | None:
    """Expected images are present, unpacked, mountable and on disk."""
    if not expectation.images:
        return None
    expected = sorted({image.name for image in expectation.images})
    if state.images is None:
        return unread(expected, state, "images", "config", "version")
    for report, reason, remedy in _FAULTS:
        found = _said([(image, reason(image)) for image in state.images])
        if found:
            return report(expected, found, remedy)
    return ok(expected, "all on the node and unpacked")


def _said(reasons: Sequence[tuple[FoundImage, str]]) -> dict[str, str]:
    """Return the reasons that aren't empty, by image."""
    found: dict[str, str] = {}
    for image, reason in reasons:
        key = f"{image.name} in {image.namespace}"
        if reason and reason not in found.get(key, ""):
            found[key] = "; ".join(one for one in (found.get(key), reason) if one)
    return found


@check
def layer_headroom(state: NodeState, expectation: Expectation) -> Finding | None:
    """overlayfs can mount images with the expected number of layers."""
    expected = f"room for images of {expectation.min_layers} layers"
    if state.config is None:
        return unread(expected, state, "config", "version")
    if "overlayfs" not in state.config.own_snapshotters:
        return None
    room = state.headroom
    if room is None:
        return unread(expected, state, "overlay", "daemon")
    if room.layers_max < expectation.min_layers:
        remedy = "drain the node and provision it again with an empty root, whose snapshot ids start at 1, or with a shorter path"
        return fail(expected, f"for {room.layers_max}: {room.reason}", remedy)
    if room.layers_guaranteed < expectation.min_layers:
        found = f"for {room.layers_max} now, for {room.layers_guaranteed} once snapshot ids have 7 digits"
        return warn(expected, found, "move the root to a shorter path when the node is reinstalled")
    return ok(expected, f"for {room.layers_max} now, for {room.layers_guaranteed} for the lifetime of the node")


@check
def interrupted_pulls(state: NodeState, expectation: Expectation) -> Finding:
    """No record of a pull is left whose layers may not be on disk."""
    expected = "no interrupted pull"
    if state.pulls is None or state.boot is None:
        return unread(expected, state, "pulls", "boot", "daemon", "version")
    if not state.pulls:
        return ok(expected, "none")
    lost = intent.lost(state.pulls, state.boot)
    namespaces = ", ".join(sorted({pull.namespace for pull in lost or state.pulls}))
    names = ", ".join(sorted({name for pull in lost or state.pulls for name in pull.names})) or "images without a name"
    remedy = f"{CONFIGURE}, or slipway.node.containerd_image for the namespace {namespaces}, which completes the pulls"
    if lost:
        return fail(expected, f"interrupted before this boot, so layers may be lost: {names}", remedy)
    return warn(expected, f"another run is active or was killed: {names}", remedy)


@check
def image_integrity(state: NodeState, expectation: Expectation) -> Finding | None:
    """No file of an unpacked image differs from its layers. By default, this is compared only after an unclean shutdown."""
    if expectation.integrity == INTEGRITY_NONE:
        return None
    if state.shutdown is None or (state.judged is None and state.compared != INTEGRITY_NONE):
        return unread("images equal to their layers", state, "judged", "shutdown", "daemon", "version")
    why = f" ({state.shutdown.evidence})" if expectation.integrity == AUTO else ""
    if state.judged is None:
        return ok("images equal to their layers", f"not compared, because the node was shut down cleanly{why}")
    expected = f"images equal to their layers, by {state.compared}{why}"
    damaged = {str(image): image.damage for image in state.judged if image.damage}
    if damaged:
        return fail(expected, damaged, REPAIR)
    doubtful = {str(image): image.unknown for image in state.judged if image.unknown}
    if doubtful:
        return unknown(expected, doubtful, "resolve the reported errors, or pull the images again")
    return ok(expected, f"{len(state.judged)} compared, none differs")


@check
def daemon_uuid(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon can read its UUID, which it writes without syncing it."""
    expected = "the daemon's UUID is readable"
    if state.uuid_problem is None:
        return unread(expected, state, "uuid_problem", "daemon", "version")
    if state.uuid_problem:
        return fail(expected, state.uuid_problem, REPAIR)
    return ok(expected, "readable")


@check
def storage_filesystem(state: NodeState, expectation: Expectation) -> Finding:
    """The file systems of containerd and its snapshotters keep synced data."""
    expected = "flushed data is kept"
    if not state.mounts:
        return unread(expected, state, "mounts", "daemon", "version")
    found = {path: (mount, mounts.weakness(mount)) for path, mount in state.mounts.items()}
    for status in (mounts.FAIL, mounts.UNKNOWN, mounts.WARN):
        weak = {path: weakness for path, (_mount, weakness) in found.items() if weakness and weakness.status == status}
        if weak:
            remedies = dict.fromkeys(weakness.remedy for weakness in weak.values())
            reasons = {path: weakness.reason for path, weakness in weak.items()}
            return Finding(status, expected, reasons, "; ".join(remedies))
    if "mounts" in state.trouble:
        return unknown(expected, state.trouble["mounts"], "check the directory of the snapshotter")
    return ok(expected, list(dict.fromkeys(str(mount) for mount, _none in found.values())))
