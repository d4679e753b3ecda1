# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pull path of an image, by the daemon's version and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.store import oci

_TRANSFER = ("plugins", "io.containerd.transfer.v1.local", "unpack_config")


@dataclass(frozen=True)
class PullPath:
    """``local``: ctr unpacks instead of the daemon's transfer service; None where a version has only one of them.

    ``synced_by_daemon``: each layer is flushed as it is unpacked, so that nothing has to be flushed again. ``no_sync``: the
    daemon doesn't flush its metadata. Image verifiers are asked unless ``local``.
    """

    snapshotter: str
    local: bool | None
    synced_by_daemon: bool
    no_sync: bool = False

    @property
    def durability(self) -> str:
        """Of an image that was pulled on this path and synced."""
        return durability.of_flushed(self.snapshotter, no_sync=self.no_sync)


def select_pull_path(
    config: EffectiveConfig, version: Version, *, snapshotter: str | None, platform: str, machine: str
) -> PullPath:
    """Return how an image is pulled. ``machine`` is the node's own platform."""
    chosen = snapshotter or config.default_snapshotter
    local = None
    # The transfer service is the faster one, and containerd 2's default; on 1.7 it can't be told of plain HTTP.
    if version.at_least("2.0.0"):
        local = not _transfer_unpacks(config, chosen) or not oci.runs_on(platform, machine)
    pull = durability.Pull(
        path="transfer" if local is False else "ctr",
        version=version,
        snapshotter=chosen,
        diff_sync_fs=bool(config.diff_sync_fs),
        no_sync=config.metadata_no_sync,
    )
    synced = durability.classify(pull).durability == durability.DURABLE
    return PullPath(chosen, local, synced, config.metadata_no_sync)


def _transfer_unpacks(config: EffectiveConfig, snapshotter: str) -> bool:
    """Return whether the transfer service unpacks for a snapshotter. No list: the default (plugins/transfer/plugin.go)."""
    listed = config.lookup(_TRANSFER) or []
    names = {entry.get("snapshotter") for entry in listed if isinstance(entry, Mapping)}
    return snapshotter in (names or {"overlayfs"})
