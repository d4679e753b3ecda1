# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The active probe of a node whose state has been read."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.probe.host.probe import probe
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import DAEMON_UNREACHABLE, NodeState
from ansible_collections.slipway.node.plugins.module_utils.verify.probe_checks import unsafe_handlers

# A run that changes containerd may restart it, or pull images for a long time.
_LOCK_SECONDS = 60


def with_probe(state: NodeState, containerd: Containerd, kind: str) -> NodeState:
    """Return the state with what became of a container or a pod (``kind``) with each handler."""
    if state.daemon is None or state.daemon.plugins is None or state.config is None or state.kata is None:
        why = next((state.trouble[part] for part in ("version", "daemon", "config", "kata") if part in state.trouble), None)
        return replace(state, trouble={**state.trouble, "probe": why or DAEMON_UNREACHABLE})
    try:
        with exclusive(_LOCK_SECONDS):
            report = probe(containerd, kind, unsafe=unsafe_handlers(state.kata, state.config))
    except HostError as error:
        return replace(state, trouble={**state.trouble, "probe": str(error)})
    return replace(state, probe=report)
