# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image that a toolbox is made of: found, judged, and brought onto the node as any image."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.image_node import ImageNode
from ansible_collections.slipway.node.plugins.module_utils.host.image_steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.model import image_plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import Offer
from ansible_collections.slipway.node.plugins.module_utils.model.reference import ImageName


class ToolboxImage:
    """``lock``: a descriptor that keeps other runs away; None if nothing may be changed."""

    def __init__(self, node: ImageNode, name: ImageName, lock: int | None) -> None:
        self._node = node
        self._name = name
        self._lock = lock
        self._steps: tuple[Step, ...] = ()

    def chain_there(self) -> str | None:
        """The chain ID of the image as the node has it, empty if it has no layers; None if it isn't there."""
        found = self._node.found(self._name)
        return _top(found.offer) if found is not None and found.offer is not None else None

    def judged(self) -> str:
        """The same of the image as it will be. The registry is asked if it isn't there.

        Raises ValueError or HostError if it can't be had, or couldn't be mounted.
        """
        self._steps = self._node.steps(Outcome())
        offer = next(step.offer for step in self._steps if step.name == self._name)
        reason = self._node.mount_refusal(offer)
        if reason:
            raise ValueError(f"{self._name}: {reason}")
        chain = _top(offer)
        if chain is None:
            raise HostError(f"{self._name}: its layers aren't known: pull it again")
        return chain

    @property
    def comes(self) -> bool:
        """Whether it lacks anything, or an earlier run was cut short. Asked after it has been judged."""
        return self._node.unfinished or any(step.action != image_plan.NONE for step in self._steps)

    def bring(self) -> None:
        """Have it there, unpacked, and on disk."""
        if self._lock is None:
            return
        outcome = Outcome()
        if self._node.lost:
            self._node.recover()
            self._steps = self._node.steps(outcome)
        self._node.apply(self._steps, [self._lock], outcome)
        if str(self._name) in outcome.failures:
            raise HostError(outcome.failures[str(self._name)])


def _top(offer: Offer) -> str | None:
    if offer.chain is None:
        return None
    return offer.chain[-1] if offer.chain else ""
