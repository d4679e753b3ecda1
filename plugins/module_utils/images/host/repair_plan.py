# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The damaged images of a node, and whether they can be repaired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images import plan
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import Listed
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import (
    DISCARDED,
    FAILED,
    ImageRepairer,
    RepairResult,
    in_use_message,
)
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RemoteImage
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName

_UNREADABLE = "what describes it can't be read"
NOT_ASKED = "set repair to repair it"


class RepairPlanner:
    """Changes nothing. ``remote`` asks the registry or the archive for an image, ``listed`` is what the namespace has.

    Raises HostError where containerd fails.
    """

    def __init__(
        self,
        repairer: ImageRepairer,
        remote: Callable[[ImageName], tuple[RemoteImage, int]],
        listed: Listed,
        *,
        repair: bool,
        keep: bool,
    ) -> None:
        self._repairer = repairer
        self._listed = listed
        self._remote = remote
        self._repair = repair
        self._keep = keep

    def compared(self, steps: Sequence[Step]) -> tuple[tuple[Step, ...], Mapping[str, str]]:
        """Return the steps with what was found of images that are there, and by name why what is wrong stays so."""
        there = {str(step.name): step.present for step in steps if step.action in (plan.NONE, plan.SYNC, plan.TAG)}
        judged = self._repairer.comparer.compare(there.values(), keep=self._keep, listed=self._listed)
        used = self._repairer.in_use(judged) if self._repair else {}
        verdicts = {
            str(step.name): self._judged(step, judged[present], used.get(present, ()))
            for step in steps
            if (present := there.get(str(step.name), "")) in judged
        }
        failures = {name: failure for name, (_step, failure) in verdicts.items() if failure}
        return tuple(verdicts[str(step.name)][0] if str(step.name) in verdicts else step for step in steps), failures

    def _judged(self, step: Step, found: Comparison, used: Sequence[str]) -> tuple[Step, str]:
        """Return the step as it has to be, and why what is wrong stays so; empty if nothing does."""
        step = replace(step, found=found)
        again = blobs_to_fetch(found)
        if not (found.damaged or (self._repair and again)):
            return step, ""
        reason = NOT_ASKED if not self._repair else in_use_message(used)
        if not reason:
            try:
                return self._fetchable(step, again) if again else replace(step, action=plan.REPAIR), ""
            except (HostError, ValueError) as error:
                reason = not_fetchable(error)
        return replace(step, action=plan.NONE), f"{step.name}: {found.summary()}; {reason}"

    def _fetchable(self, step: Step, damaged: tuple[str, ...]) -> Step:
        """Plan to delete damaged blobs only if they can be fetched again, even if the name now means another image."""
        image, position = self._remote(step.name)
        if image is plan.UNREAD:
            return replace(step, action=plan.REPAIR, damaged=damaged)
        if position < 0 and image.digest != step.digest:
            image, position = self._remote(replace(step.name, digest=step.digest))
        size = {blob.digest: blob.size for blob in image.blobs}
        if not size.keys() >= set(damaged):
            raise ValueError("there is another image of that name")
        missing = sum(size[digest] for digest in damaged)
        return replace(step, action=plan.REPAIR, position=position, missing=missing, damaged=damaged)


def blobs_to_fetch(found: Comparison) -> tuple[str, ...]:
    """Return the damaged and missing blobs to fetch, also discarded ones if files have to be compared or unpacked again."""
    needed = found.discarded if found.differences or found.unknown else ()
    return (*found.damaged_blobs, *needed)


def not_fetchable(error: Exception) -> str:
    """Return why damaged blobs can't be replaced."""
    return f"it can't be fetched again: {error}"


def needs_check(step: Step, snapshots: Set[str], *, compared: bool) -> bool:
    """Return whether an image has to be looked at, or looked at again, before it gets its name.

    ``snapshots`` were there before the run; ``compared``: integrity checking was asked for.
    """
    if step.action in (plan.SYNC, plan.REPAIR):
        return True
    return step.action != plan.NONE and compared and not snapshots.isdisjoint(step.image.chain or ())


def repair_images(repairer: ImageRepairer, steps: Sequence[Step], *, repair: bool) -> Outcome:
    """Unpack again what is wrong; what can't be repaired is a failure. Without ``repair``, only what is taken over is."""
    repairer.sweep()
    unjudged = [step for step in steps if step.found is None or step.damaged]
    found = repairer.comparer.compare((step.present for step in unjudged), keep=True)
    judged = {step.present: found.get(step.present) or step.found or Comparison(unknown=_UNREADABLE) for step in steps}
    compared = {str(step.name): judged[step.present] for step in unjudged if step.found is None or step.found.unknown}
    wanted = [step.present for step in steps if repair or step.action == plan.SYNC]
    repaired = {one.name: one for one in repairer.repair({name: judged[name] for name in wanted})}
    own = {step.present: str(step.name) for step in steps}
    failed = {name: one.reason for name, one in repaired.items() if one.outcome == FAILED and name not in own}
    for step in steps:
        trouble = _left(step, judged[step.present], repaired.get(step.present))
        if trouble:
            failed[str(step.name)] = trouble
    return Outcome(
        failures={name: f"{name}: {trouble}" for name, trouble in failed.items()},
        found=compared,
        repaired=tuple(replace(one, name=own.get(name, name)) for name, one in repaired.items()),
    )


def _left(step: Step, found: Comparison, repaired: RepairResult | None) -> str:
    """Return the problem that an image still has; empty if none is known."""
    if repaired is None:
        return f"{found.summary()}; {NOT_ASKED}" if found.damaged else ""
    if repaired.outcome in (FAILED, DISCARDED):
        return repaired.reason
    if step.damaged and step.action == plan.REPAIR and found.blob_summary():
        return f"fetched again, and still: {found.blob_summary()}"
    return ""
