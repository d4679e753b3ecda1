# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a toolbox: find it, check it, and pull it as any other image."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.provision import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RemoteImage, Request
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName


class ToolboxImage:
    """``lock``: a descriptor that keeps other runs away; None if nothing may be changed."""

    def __init__(self, containerd: Containerd, request: Request, name: ImageName, lock: int | None) -> None:
        self._target = ImageTarget(containerd, request)
        self._planner = ImagePlanner(self._target, watch=lock is None)
        self._name = name
        self._lock = lock
        self._plan: ImagePlan | None = None

    def chain_there(self) -> str | None:
        """Return the chain ID of the image as the node has it, empty if it has no layers; None if it isn't there."""
        found = self._planner.current.find(self._name)
        return _top(found.image) if found is not None and found.image is not None else None

    def judged(self) -> str:
        """Return the chain ID of the image after the run. The registry is asked if the node lacks the image.

        Raises ValueError or HostError if it can't be had, or couldn't be mounted.
        """
        self._plan = self._planner.plan()
        image = next(step.image for step in self._plan.steps if step.name == self._name)
        reason = self._planner.mount_refusal(image)
        if reason:
            raise ValueError(f"{self._name}: {reason}")
        chain = _top(image)
        if chain is None:
            raise HostError(f"{self._name}: its layers aren't known: pull it again")
        return chain

    @property
    def comes(self) -> bool:
        """Whether it lacks anything, or an earlier run was cut short. Known after it has been judged."""
        return self._plan is not None and self._plan.changed

    def bring(self) -> None:
        """Pull and unpack the image, and flush it to disk."""
        if self._lock is None:
            return
        outcome = ImageProvisioner(self._target, self._lock).bring(self._plan or self._planner.plan())
        if str(self._name) in outcome.failures:
            raise HostError(outcome.failures[str(self._name)])


def _top(image: RemoteImage) -> str | None:
    if image.chain is None:
        return None
    return image.chain[-1] if image.chain else ""
