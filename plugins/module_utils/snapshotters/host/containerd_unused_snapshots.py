# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listing and removing unused snapshots: the run of the module containerd_unused_snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.options import at_least, plain_name
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.unused import SnapshotCleanup
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.unused import UnusedSnapshots

OPTIONS: Mapping[str, Any] = {
    "keep_snapshotters": {"type": "list", "elements": "str", "default": []},
    "namespaces": {"type": "list", "elements": "str"},
    "remove": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
    **Containerd.OPTIONS,
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """List the snapshots of unused snapshotters, and remove them if requested."""
    params = module.params
    containerd = Containerd.from_module(module)
    keep = [plain_name("keep_snapshotters", name) for name in params["keep_snapshotters"]]
    timeout = at_least(1)("timeout", params["timeout"])
    containerd.check_installed()
    removing = params["remove"] and not module.check_mode
    with exclusive(timeout) if removing else nullcontext():
        cleanup = SnapshotCleanup(containerd, keep)
        found = cleanup.find(params["namespaces"] or containerd.namespaces)
        result = report(cleanup, found, remove=params["remove"])
        for one in found:
            if one.keys and removing:
                cleanup.remove(one)
    return result


def report(cleanup: SnapshotCleanup, found: list[UnusedSnapshots], *, remove: bool) -> dict[str, Any]:
    """Return the module's result."""
    removable = [one for one in found if one.keys] if remove else []
    lines = [f"{one.namespace}: {len(one.keys)} layers of {one.snapshotter}\n" for one in removable]
    return {
        "changed": bool(removable),
        "unused_snapshots": [one.to_dict(cleanup.users(one)) for one in found],
        "freed_bytes": sum(one.removable for one in removable),
        "diff": {"before": "".join(lines), "after": ""},
    }
