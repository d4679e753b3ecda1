# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upgrading containerd on a node: the run of the module containerd_upgrade."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.config.request import AUTO, FORCE, NONE, ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, at_least
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import COMMITTED, KEEPING
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.previous import plan_previous
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.proof import check_answers, running_containers
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.transaction import (
    Recovery,
    Transaction,
    recovery_of,
)
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.upgraded import NodeChange, plan_upgraded

UPGRADED, PREVIOUS, RECOVERED = "upgraded", "previous", "recovered"
OPTIONS: Mapping[str, Any] = {
    **SHARED_OPTIONS,
    "state": {"type": "str", "choices": [UPGRADED, PREVIOUS, RECOVERED], "default": UPGRADED},
    "to_binary": {"type": "path"},
    "releases": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "path": {"type": "path", "required": True}},
    },
    "prefix": {"type": "path", "default": "/usr/local/lib/slipway"},
    "link_dir": {"type": "path", "default": "/usr/local/bin"},
    "packages": {"type": "list", "elements": "str", "default": []},
    "replace_packages": {"type": "list", "elements": "str", "default": []},
    "unit_content": {"type": "str"},
    "generation": {"type": "int"},
    "restart": {"type": "str", "choices": [AUTO, FORCE], "default": AUTO},
    "keep": {"type": "int", "default": 2},
    "probe": {"type": "bool", "default": True},
    "enable_cri": {"type": "bool", "default": False},
    "service_directives": {"type": "dict", "default": {}},
    **Containerd.OPTIONS,
    "drop_in_file": {"type": "path", "default": "/etc/containerd/conf.d/60-slipway.toml"},
    "timeout": {"type": "int", "default": 60},
}
RULES: Mapping[str, Any] = {"required_if": [("state", UPGRADED, ("to_binary",))]}
ON_FAILURE: Mapping[str, Any] = {"rolled_back": False, "restarted": False}


@dataclass(frozen=True)
class Done:
    """The result of a change: its generation, and the number of containers that keep running."""

    generation: int | None = None
    containers: int = 0


def run(module: AnsibleModule) -> dict[str, Any]:
    """Upgrade containerd, one run at a time on a node."""
    params = module.params
    if os.geteuid() != 0:
        raise HostError("only root can upgrade containerd")
    at_least(1)("keep", params["keep"])
    with exclusive(params["timeout"], upgrades=True) if not module.check_mode else nullcontext(-1) as lock:
        return upgrade(module, lock)


def upgrade(module: AnsibleModule, lock: int) -> dict[str, Any]:
    """Take an interrupted run back, plan, and make the change unless it is check mode."""
    params = module.params
    containerd = Containerd.from_module(module)
    transaction = Transaction(containerd, lock=lock, timeout=params["timeout"], probes=params["probe"], warn=module.warn)
    journal = store.read_journal() if module.check_mode else None
    recovered = transaction.recover() if not module.check_mode else recovery_of(journal) if journal is not None else None
    if params["state"] == RECOVERED:
        return unchanged(recovered)
    if recovered is not None and recovered.step != COMMITTED:
        # A run that was still writing its generation has changed nothing.
        if module.check_mode and recovered.step != KEEPING:
            module.warn("an upgrade was interrupted: take it back first (state: recovered), and then predict the next one")
            return unchanged(recovered)
        # The warning is printed even if this run is refused.
        module.warn(f"an upgrade that was interrupted at the step {recovered.step} was taken back first")
    containerd = containerd.renewed()
    change = planned(module, containerd, lock)
    done = Done()
    if change.changed:
        if module.check_mode:
            done = Done(containers=running(containerd, strict=change.change.strict))
        else:
            found = transaction.apply(change.change, params["keep"])
            done = Done(change.change.manifest.number, found)
    return report(change, done, recovered)


def running(containerd: Containerd, *, strict: bool) -> int:
    """Return how many containers run; 0 if the daemon can't be asked and needn't be. Raises HostError."""
    try:
        if not strict:
            check_answers(containerd)
        return len(running_containers(containerd))
    except HostError:
        if strict:
            raise
        return 0


def planned(module: AnsibleModule, containerd: Containerd, lock: int) -> NodeChange:
    """Plan the change. Raises ValueError or HostError if it is refused."""
    params = module.params
    given = {**params, "state": "present", "unit_enabled": False, "probe": NONE}
    wanted = ConfigRequest.from_params(given)
    if params["state"] == PREVIOUS:
        return plan_previous(containerd, params["generation"], wanted, lock, module.warn)
    to_binary = absolute_path("to_binary", params["to_binary"])
    return plan_upgraded(module, containerd, wanted, to_binary, lock)


def unchanged(recovered: Recovery | None) -> dict[str, Any]:
    """Return the result of a run that only takes back an interrupted one."""
    taken_back = recovered is not None and recovered.step not in (KEEPING, COMMITTED)
    finished = recovered is not None and recovered.step == COMMITTED
    before, after = (recovered.version, recovered.to_version) if recovered is not None else ("", "")
    return {
        "changed": recovered is not None,
        "version": before,
        "to_version": after if finished else before,
        "generation": None,
        "rolled_back": taken_back,
        "restarted": taken_back,
        "containers": 0,
        "databases": "kept",
        "files": [],
        "effective": {},
        "recovered": recovered.to_dict() if recovered is not None else None,
        "diff": [],
    }


def report(change: NodeChange, done: Done, recovered: Recovery | None) -> dict[str, Any]:
    """Return the module's result."""
    config: EffectiveConfig | None = change.config
    return {
        "changed": change.changed or recovered is not None,
        "version": str(change.version),
        "to_version": str(change.to_version),
        "generation": done.generation,
        "rolled_back": False,
        "restarted": change.changed,
        "containers": done.containers,
        "databases": "kept",
        "files": [{"path": file.path, "changed": file.changed, "exists": file.after is not None} for file in change.files],
        "effective": config.to_dict() if config is not None else {},
        "recovered": recovered.to_dict() if recovered is not None else None,
        "diff": list(change.diff),
    }
