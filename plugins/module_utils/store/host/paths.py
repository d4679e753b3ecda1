# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directories in which the daemon keeps content and snapshots."""

from __future__ import annotations

import os
import re

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import Overlay

_ROOT_EXPORT = re.compile(r"^ +root +(/.*?) *$", re.MULTILINE)
# There if the kernel can switch the overlay index off; the snapshotter then does so in every mount.
_INDEX_PARAMETER = "/sys/module/overlay/parameters/index"


def parse_root(stdout: str) -> str | None:
    """Return the directory that a plugin exports, from ``ctr plugins ls --detailed``."""
    found = _ROOT_EXPORT.search(stdout)
    return found[1] if found else None


def content_root(ctr: Ctr) -> str:
    """Return the content store's directory. Raises HostError if the daemon doesn't say."""
    root = parse_root(ctr.plugin_details("content"))
    if root is None:
        raise HostError("the daemon doesn't say where its content store is")
    return root


def containerd_root(ctr: Ctr) -> str:
    """Return the daemon's own directory, in which each plugin has its own."""
    return os.path.dirname(content_root(ctr))


def snapshotter_root(ctr: Ctr, name: str) -> str:
    """Return a snapshotter's directory; the default one where 1.6 doesn't report it."""
    found = parse_root(ctr.plugin_details(name))
    return found or os.path.join(containerd_root(ctr), f"io.containerd.snapshotter.v1.{name}")


def read_overlay(ctr: Ctr, config: EffectiveConfig) -> Overlay:
    """Return where the running daemon has its overlayfs snapshots, and with which options it mounts them.

    Raises HostError if the daemon has no such snapshotter.
    """
    root = parse_root(ctr.plugin_details("overlayfs"))
    if root is None:
        raise HostError("the daemon has no overlayfs snapshotter")
    options = [str(option) for option in config.snapshotter_table("overlayfs").get("mount_options") or ()]
    # plugins/snapshots/overlay/overlay.go, NewSnapshotter
    if os.path.exists(_INDEX_PARAMETER) and "index" not in options:
        options.append("index=off")
    return Overlay(root, os.sysconf("SC_PAGE_SIZE"), tuple(options))


def snapshot_ids(overlay: Overlay) -> tuple[int, ...]:
    """Return the ids of the snapshots, of all namespaces, that have directories. Raises HostError if they can't be read."""
    return ids_in(os.path.join(overlay.root, "snapshots"))


def ids_in(directory: str) -> tuple[int, ...]:
    """Return the names in a directory that are numbers. Raises HostError if it can't be read."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise HostError(f"cannot read {directory}: {error.strerror}") from error
    return tuple(int(name) for name in names if name.isascii() and name.isdigit())
