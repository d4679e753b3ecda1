# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the images: whether they are there, whether more can come, and whether they stay."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.model import effective, mounts, pulls
from ansible_collections.slipway.node.plugins.module_utils.model.findings import (
    CONFIGURE,
    Check,
    Expectation,
    Finding,
    FoundImage,
    NodeState,
    fail,
    ok,
    registering,
    unknown,
    unread,
    warn,
)

CHECKS: dict[str, Check] = {}
check = registering(CHECKS)


@check("images_present")
def images_present(state: NodeState, expectation: Expectation) -> Finding | None:
    """Expected images are there, unpacked, mountable and on disk."""
    if not expectation.images:
        return None
    expected = sorted({image.name for image in expectation.images})
    if state.images is None:
        return unread("images_present", expected, state, "images", "dump", "version")
    lacking = _said([(image, image.problem) for image in state.images])
    if lacking:
        return fail("images_present", expected, lacking, CONFIGURE)
    unread_ones = _said([(image, image.trouble) for image in state.images])
    if unread_ones:
        return Finding("images_present", "unknown", expected, unread_ones, "look at the reasons, and run this again")
    unsynced = _said([(one, "" if one.synced else "there, but whether it is on disk is not known") for one in state.images])
    if unsynced:
        return warn("images_present", expected, unsynced, CONFIGURE)
    return ok("images_present", expected, "all there and unpacked")


def _said(reasons: Sequence[tuple[FoundImage, str]]) -> dict[str, str]:
    """The reasons that aren't empty, by image."""
    found: dict[str, str] = {}
    for image, reason in reasons:
        key = f"{image.name} in {image.namespace}"
        if reason and reason not in found.get(key, ""):
            found[key] = "; ".join(one for one in (found.get(key), reason) if one)
    return found


@check("layer_headroom")
def layer_headroom(state: NodeState, expectation: Expectation) -> Finding | None:
    """overlayfs can mount images of as many layers as are asked for."""
    expected = f"room for images of {expectation.layers_min} layers"
    if state.dump is None:
        return unread("layer_headroom", expected, state, "dump", "version")
    if (effective.read(state.dump)["snapshotter"] or "overlayfs") != "overlayfs":
        return None
    room = state.headroom
    if room is None:
        return unread("layer_headroom", expected, state, "overlay", "daemon")
    if room.layers_max < expectation.layers_min:
        remedy = "drain the node and provision it again with an empty root, whose ids start from 1, or with a shorter one"
        return fail("layer_headroom", expected, f"for {room.layers_max}: {room.reason}", remedy)
    if room.layers_lasting < expectation.layers_min:
        found = f"for {room.layers_max} now, for {room.layers_lasting} once snapshot ids have 7 digits"
        return warn("layer_headroom", expected, found, "move the root to a shorter path when the node is made again")
    return ok("layer_headroom", expected, f"for {room.layers_max} now, for {room.layers_lasting} for the node's life")


@check("unfinished_pulls")
def unfinished_pulls(state: NodeState, expectation: Expectation) -> Finding:
    """No record of a pull is left whose layers may not be on disk."""
    expected = "no pull cut short"
    if state.pulls is None or state.boot is None:
        return unread("unfinished_pulls", expected, state, "pulls", "boot", "daemon", "version")
    if not state.pulls:
        return ok("unfinished_pulls", expected, "none")
    lost = pulls.lost(state.pulls, state.boot)
    namespaces = ", ".join(sorted({pull.namespace for pull in lost or state.pulls}))
    names = ", ".join(sorted({name for pull in lost or state.pulls for name in pull.names})) or "no image by name"
    remedy = f"{CONFIGURE}, or slipway.node.containerd_image for the namespace {namespaces}: it judges them and finishes"
    if lost:
        return fail("unfinished_pulls", expected, f"cut short before this boot, so layers may be lost: {names}", remedy)
    return warn("unfinished_pulls", expected, f"another run is at work or was killed: {names}", remedy)


@check("root_filesystem")
def root_filesystem(state: NodeState, expectation: Expectation) -> Finding:
    """The file systems of containerd and its snapshotters keep what is synced."""
    expected = "what is synced stays"
    if not state.mounts:
        return unread("root_filesystem", expected, state, "mounts", "daemon", "version")
    found = {path: (mount, mounts.weakness(mount)) for path, mount in state.mounts.items()}
    for status in (mounts.FAIL, mounts.UNKNOWN, mounts.WARN):
        weak = {path: weakness for path, (_mount, weakness) in found.items() if weakness and weakness.status == status}
        if weak:
            remedies = dict.fromkeys(weakness.remedy for weakness in weak.values())
            reasons = {path: weakness.reason for path, weakness in weak.items()}
            return Finding("root_filesystem", status, expected, reasons, "; ".join(remedies))
    if "mounts" in state.trouble:
        return unknown("root_filesystem", expected, state.trouble["mounts"], "see where the snapshotter keeps its data")
    return ok("root_filesystem", expected, list(dict.fromkeys(str(mount) for mount, _none in found.values())))
