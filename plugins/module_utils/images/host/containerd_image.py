# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that are present or absent: the run of the module containerd_image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd import durability
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.uuid import recreate_uuid, uuid_problem
from ansible_collections.slipway.node.plugins.module_utils.core.controller_file import LATER, NEEDS_FILE, NOW
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.images import plan as image_plan
from ansible_collections.slipway.node.plugins.module_utils.images.host.archive import ImageArchive
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.provision import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import FAILED, RECREATED, REPAIRED, RepairResult
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.plan import ArchiveNeeded, Removal, Request, plan_removal
from ansible_collections.slipway.node.plugins.module_utils.images.pull_path import PullPath
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import DAMAGED
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.reference import is_staged

OPTIONS: Mapping[str, Any] = {
    "name": {"type": "list", "elements": "str", "aliases": ["names"]},
    "all": {"type": "bool", "default": False},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "pull": {"type": "str", "choices": ["missing", "always"], "default": "missing"},
    "archive": {"type": "path"},
    "remote_src": {"type": "bool", "default": False},
    "platform": {"type": "str"},
    "snapshotter": {"type": "str"},
    "namespace": {"type": "str", "default": "default"},
    "hosts_dir": {"type": "path"},
    "plain_http": {"type": "bool", "default": False},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "parallel": {"type": "int", "default": 3},
    "durable": {"type": "bool", "default": True},
    "integrity": {"type": "str", "choices": ["none", "metadata", "content"], "default": "none"},
    "repair": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 1800},
    **Containerd.OPTIONS,
}


class Report:
    """The module's result, of what was planned and, unless in check mode, done."""

    def __init__(self, steps: tuple[Step, ...], outcome: Outcome, request: Request, pull_path: PullPath) -> None:
        self._steps = steps
        self._outcome = outcome
        self._request = request
        self._pull_path = pull_path

    def to_dict(self, recovered: tuple[RepairResult, ...], seconds: float, changed: bool) -> dict[str, Any]:
        outcome = self._outcome
        judged = (*recovered, *outcome.repaired)
        actions = {str(step.name): step.action for step in self._steps if step.action != image_plan.NONE}
        return {
            "changed": changed,
            "images": [self._image(step) for step in self._steps],
            **({"recovered": [one.to_dict() for one in judged]} if judged else {}),
            "synced": [one.to_dict() for one in outcome.synced],
            "downloaded_bytes": sum(step.missing for step in self._steps),
            "duration": round(seconds, 3),
            "summary": self._summary(judged),
            "snapshotter": self._pull_path.snapshotter,
            "diff": {"before": "", "after": "".join(f"{name}: {action}\n" for name, action in actions.items())},
        }

    def _image(self, step: Step) -> dict[str, Any]:
        chain, unread = step.image.chain, step.image is image_plan.UNREAD
        return {
            "name": str(step.name),
            "action": step.action,
            "digest": self._outcome.digests.get(str(step.name), step.digest) or None,
            "platform": step.image.platform,
            "layers": None if unread else step.image.layers,
            "chain_id": chain[-1] if chain else None,
            "size_bytes": None if unread else step.image.size,
            "downloaded_bytes": None if unread else step.missing,
            "duration": round(self._outcome.seconds.get(str(step.name), 0.0), 3),
            "durability": self._durability(step),
            **self._integrity(step),
        }

    def _durability(self, step: Step) -> str:
        failed = step.action != image_plan.NONE and str(step.name) in self._outcome.failures
        return self._pull_path.durability if self._request.durable and not failed else durability.NOT_DURABLE

    def _integrity(self, step: Step) -> dict[str, Any]:
        comparison = self._outcome.found.get(str(step.name), step.found)
        if comparison is None:
            return {"integrity": None}
        found = comparison.to_result()
        repaired = {one.name for one in self._outcome.repaired}.difference(self._outcome.failures)
        if found["integrity"] == DAMAGED and str(step.name) in repaired:
            found["integrity"] = REPAIRED
        return found

    def _summary(self, judged: tuple[RepairResult, ...]) -> list[str]:
        lines = [self._line(step) for step in self._steps if step.action != image_plan.NONE]
        shown = {str(step.name) for step in self._steps if step.action == image_plan.REPAIR}
        others = [one for one in judged if one.reason and one.name not in shown and not is_staged(one.name)]
        lines += [f"{one.name}: {one.outcome}, {one.reason}" for one in others]
        return [*lines, *(f"{one.path}: flushed in {one.seconds:.1f} s" for one in self._outcome.synced)]

    def _line(self, step: Step) -> str:
        """Return the action on an image, with its damage, its download and its time as far as there are any."""
        name, comes = str(step.name), step.comes and step.image is not image_plan.UNREAD
        seconds = self._outcome.seconds.get(name)
        parts = [f"{name}: {step.action}"]
        if step.action == image_plan.REPAIR:
            # Files can be compared only once their layers have been fetched again.
            found = (step.found, self._outcome.found.get(name))
            parts += dict.fromkeys(one.summary() for one in found if one is not None and not one.intact)
        parts += [f"{step.missing / 1e6:.1f} MB"] if comes else []
        return ", ".join(parts) + (f" in {seconds:.1f} s" if seconds is not None else "")


def ensure_present(module: AnsibleModule, containerd: Containerd, request: Request) -> dict[str, Any]:
    """Bring the images, or only plan in check mode."""
    check = module.check_mode
    containerd.read_ahead()
    with nullcontext(None) if check else exclusive(request.timeout) as lock:
        started = time.monotonic()
        archive = ImageArchive(request.archive) if request.archive and not request.on_controller else None
        target = ImageTarget(containerd, request, archive)
        provisioner = ImageProvisioner(target, lock) if lock is not None else None
        if request.on_controller and provisioner is not None and provisioner.is_interrupted():
            # Its repair may need the archive.
            raise ArchiveNeeded
        recovery = provisioner.recover() if provisioner is not None else None
        recovered = recovery.repaired if recovery is not None else ()
        plan = ImagePlanner(target, watch=check).plan()
        changed = plan.changed
        outcome = provisioner.apply(plan, recovery) if changed and provisioner is not None else plan.outcome
        damaged_uuid = uuid_problem(target.root, containerd.version) if request.repair else ""
        if damaged_uuid:
            changed = True
            recovered = (*recovered, RepairResult("the daemon's UUID", RECREATED, damaged_uuid))
            if not check:
                recreate_uuid(target.root)
        result = Report(plan.steps, outcome, request, target.pull_path).to_dict(recovered, time.monotonic() - started, changed)
    if request.on_controller and any(step.comes for step in plan.steps):
        result[NEEDS_FILE] = LATER
    broken = [f"{one.name}: {one.reason}" for one in recovered if one.outcome == FAILED]
    if outcome.failures or broken:
        result["failed"] = True
        result["msg"] = "; ".join([*outcome.failures.values(), *broken])
    return result


def ensure_absent(module: AnsibleModule, store: NamespaceStore, request: Request) -> dict[str, Any]:
    """Remove the images that no container uses."""
    with nullcontext(None) if module.check_mode else exclusive(request.timeout):
        references = {one.name: one.digest for one in store.images.references()}
        removal = plan_removal(request.names, references, store.containers.by_image(), module.params["namespace"])
        if removal.names and not module.check_mode:
            store.images.remove(*removal.names, sync=True)
    return {
        "changed": bool(removal.names),
        "images": [_absent_result(str(name), removal) for name in request.names],
        "diff": {"before": "".join(f"{name}\n" for name in removal.names), "after": ""},
    }


def _absent_result(name: str, removal: Removal) -> dict[str, Any]:
    return {
        "name": name,
        "action": image_plan.REMOVE if name in removal.names else image_plan.NONE,
        "digest": None,
        "used_by": list(removal.used_by.get(name, ())),
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Ensure that images are present or absent."""
    containerd = Containerd.from_module(module)
    request = Request.from_params(module.params, containerd.platform)
    containerd.check_installed()
    if not request.present:
        return ensure_absent(module, NamespaceStore(containerd.ctr, request.namespace), request)
    try:
        return ensure_present(module, containerd, request)
    except ArchiveNeeded:
        return {NEEDS_FILE: NOW}
