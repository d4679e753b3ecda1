# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of pulls: registries, image verifiers, and durability."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import BY_NAME, METADATA_NO_SYNC
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted
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

_FLUSH = "after such a pull, run 'sync -f' on the daemon's root"


def _durability(path: str, state: NodeState, asked: bool | None, remedy: str) -> Finding | None:
    """Judge a pull path. ``asked``: whether the inventory asks for its durability; None if it says nothing."""
    if state.config is None or state.version is None:
        return unread(durability.DURABLE, state, "config", "version")
    if path not in durability.paths(state.version):
        return None
    verdict = state.config.pull_durability(state.version)[path]
    found = f"{verdict['durability']}: {verdict['reason']}"
    if verdict["durability"] == durability.DURABLE:
        return ok(durability.DURABLE, found)
    if state.config.metadata_no_sync:
        remedy = f"remove {dotted(METADATA_NO_SYNC)}"
    elif asked is False:
        return ok("any, because the inventory asks for none", f"{found}; {remedy}")
    elif verdict["durability"] == durability.UNKNOWN:
        return unknown(durability.DURABLE, found, _FLUSH)
    return (fail if asked else warn)(durability.DURABLE, found, remedy)


@check
def registry_directories(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI reads each directory of registries that it was given."""
    expected = "CRI reads each directory of hosts.toml files"
    if state.config is None or state.version is None or state.unread_hosts_dirs is None:
        return unread(expected, state, "config", "version", "unread_hosts_dirs")
    if not state.config.cri_enabled:
        return None
    if not state.unread_hosts_dirs:
        return ok(expected, list(state.config.hosts_dirs(state.version)))
    found = f"not read, because CRI pulls through the transfer service: {', '.join(state.unread_hosts_dirs)}"
    # With image_pull_sync_fs, CRI would not ask the verifiers.
    remedy = "set registry_config_path to one directory" + ("" if state.verifiers else ", or image_pull_sync_fs to true")
    return fail(expected, found, remedy)


@check
def image_verifiers(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI asks the image verifiers of the node before it pulls."""
    expected = "CRI asks the image verifiers"
    if state.config is None or state.version is None or state.verifiers is None:
        return unread(expected, state, "config", "version", "verifiers")
    if not state.config.cri_enabled:
        return None
    found = state.config.unverified_pulls(state.version, state.verifiers)
    if not found:
        return ok(expected, list(state.verifiers))
    remedy = "set image_pull_sync_fs to false, and the named keys to their defaults"
    if not state.version.at_least("2.1.0"):
        remedy = "upgrade containerd to 2.1 or newer"
    allowed = expectation.settings.allow_unverified_pulls
    return (warn if allowed else fail)(expected, found, remedy)


@check
def durability_cri(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that CRI pulls are on disk when the pull ends."""
    if state.config is not None and not state.config.cri_enabled:
        return None
    remedy = "set image_pull_sync_fs to true"
    if state.verifiers:
        remedy = "list the images in containerd_images, which flushes them to disk; with image_pull_sync_fs CRI asks no verifiers"
    elif state.version is not None and not state.version.at_least(*BY_NAME["image_pull_sync_fs"].since):
        remedy = "list the images in containerd_images, which flushes them to disk"
    finding = _durability("cri", state, expectation.settings.image_pull_sync_fs, remedy)
    if finding is None or finding.status != "ok" or state.config is None or state.version is None:
        return finding
    others = state.config.handlers_durability(state.version)
    for verdict, judged in ((durability.NOT_DURABLE, warn), (durability.UNKNOWN, unknown)):
        found = [f"for {name} {verdict}: {one['reason']}" for name, one in others.items() if one["durability"] == verdict]
        if found:
            remedy = "list the images of these handlers in containerd_images, with snapshotter, which flushes them to disk"
            return judged(durability.DURABLE, "; ".join(found), remedy)
    return finding


@check
def durability_ctr(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that ``ctr`` pulls are on disk when the pull ends, where image_pull_sync_fs also flushes these pulls."""
    known = state.version is not None and state.version.at_least(*BY_NAME["diff_sync_fs"].since)
    asked = known and bool(expectation.settings.image_pull_sync_fs)
    return _durability("ctr", state, asked, CONFIGURE if asked else _FLUSH)


@check
def durability_transfer(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that the transfer service pulls are on disk when the pull ends."""
    return _durability("transfer", state, False, _FLUSH)
