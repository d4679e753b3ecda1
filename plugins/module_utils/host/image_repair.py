# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of the images that are there are damaged, and whether that can be mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.image_steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.host.integrity import Comparison
from ansible_collections.slipway.node.plugins.module_utils.host.mending import Mender, describe, kept
from ansible_collections.slipway.node.plugins.module_utils.model import image_plan as plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import Offer
from ansible_collections.slipway.node.plugins.module_utils.model.reference import ImageName


class RepairPlan:
    """Nothing is changed by it. ``offer`` asks the registry or the archive for an image.

    Raises HostError where containerd fails.
    """

    def __init__(self, mender: Mender, offer: Callable[[ImageName], tuple[Offer, int]], *, repair: bool, keep: bool) -> None:
        self._mender = mender
        self._offer = offer
        self._repair = repair
        self._keep = keep

    def compared(self, steps: Sequence[Step], outcome: Outcome) -> tuple[Step, ...]:
        """The steps, with what was found of images that are there; what is wrong and stays so is a failure in ``outcome``."""
        there = [str(step.name) for step in steps if step.action in (plan.NONE, plan.SYNC)]
        judged = self._mender.judge(there, keep=self._keep)
        used = self._mender.in_use(judged) if self._repair else {}
        return tuple(
            self._judged(step, judged[str(step.name)], used.get(str(step.name), ()), outcome)
            if str(step.name) in judged
            else step
            for step in steps
        )

    def _judged(self, step: Step, found: Comparison, used: Sequence[str], outcome: Outcome) -> Step:
        step = replace(step, found=found)
        if not found.differences and not found.damaged_blobs:
            return step
        reason = "set repair to have it mended" if not self._repair else kept(used)
        if not reason:
            try:
                return self._fetchable(step, found) if found.damaged_blobs else replace(step, action=plan.REPAIR)
            except (HostError, ValueError) as error:
                reason = f"it can't be fetched again: {error}"
        outcome.failures[str(step.name)] = f"{step.name}: {describe(found)}; {reason}"
        return replace(step, action=plan.NONE)

    def _fetchable(self, step: Step, found: Comparison) -> Step:
        """Blobs are given up only if they can be had again, whatever the name stands for by now."""
        offer, position = self._offer(step.name)
        if position < 0 and offer.digest != step.digest:
            offer, position = self._offer(replace(step.name, digest=step.digest))
        size = {blob.digest: blob.size for blob in offer.blobs}
        if not size.keys() >= set(found.damaged_blobs):
            raise ValueError("there is another image of that name")
        missing = sum(size[digest] for digest in found.damaged_blobs)
        return replace(step, action=plan.REPAIR, position=position, missing=missing, damaged=found.damaged_blobs)
