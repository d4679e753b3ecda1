# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the node and its registries, and plan the steps for the images of a request. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images import plan as model
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import Listed
from ansible_collections.slipway.node.plugins.module_utils.images.host.current_images import CurrentImages
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import ImageRepairer
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair_plan import NOT_ASKED, RepairPlanner, not_fetchable
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan, Step
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.plan import ArchiveNeeded, CurrentImage, RemoteImage
from ansible_collections.slipway.node.plugins.module_utils.integrity import levels
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import read_overlay, snapshot_ids
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import (
    Verdict,
    judge_present,
    judge_pull,
    layers_guaranteed,
    next_id,
)
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName

# An image and its position in the archive; -1 if it comes from a registry.
Remote = tuple[RemoteImage, int]
_Result = TypeVar("_Result")


class ImagePlanner:
    """Reads the node when it is created. Raises HostError if containerd or the node fails, and ValueError for invalid images.

    ``watch``: leave nothing on the node, not even for a moment. An archive on the controller isn't read: the plan then
    contains UNREAD images if that suffices, otherwise ArchiveNeeded is raised.
    """

    def __init__(self, target: ImageTarget, *, watch: bool) -> None:
        self._target = target
        self._request = target.request
        self._watch = watch
        self.current = CurrentImages.read(target)

    def plan(self) -> ImagePlan:
        """Return what every image needs; registries are asked only about those that have to come, or may have been moved."""
        platform = self._request.platform
        found = self._wanted()
        needed = [name for name, one in found.items() if self._request.always or model.is_missing(one, platform)]
        failures: dict[str, str] = {}
        if self._request.every:
            remote, failures = self._replacements(needed)
            found = {name: one for name, one in found.items() if str(name) not in failures}
        else:
            remote = self._remotes(needed)
        steps = tuple(self._step(name, one, remote.get(name)) for name, one in found.items())
        refusals = [f"{step.name}: {reason}" for step in steps if (reason := self._refusal(step))]
        if refusals:
            raise ValueError("; ".join(refusals))
        steps, damaged = self._compared(steps)
        return ImagePlan(self.current, steps, {**failures, **damaged})

    def mount_refusal(self, image: RemoteImage) -> str:
        """Return why an image can't be mounted on this node; empty if it can, or if unknown."""
        if self._target.snapshotter != "overlayfs":
            return ""
        verdict = self._headroom(image)
        return f"overlayfs can't mount it on this node: {verdict.reason}" if verdict.mountable is False else ""

    @property
    def _names(self) -> tuple[ImageName, ...]:
        """Of the images that are asked for by name."""
        if self._request.on_controller and not self._request.names:
            raise ArchiveNeeded
        archive = self._target.archive
        if self._request.names or archive is None:
            return self._request.names
        return tuple(dict.fromkeys(name.within(self._request.namespace) for name in archive.names()))

    def _wanted(self) -> dict[ImageName, CurrentImage | None]:
        """Return the images that are asked for, and those that an earlier run has left without their layers."""
        found: dict[ImageName, CurrentImage | None] = {}
        if self._request.every:
            there = self.current.unpacked()
            found.update({name: one for name, one in there.items() if name not in self._request.excluded})
        else:
            found.update({name: self.current.find(name) for name in self._names})
        return {**found, **self.current.left_packed()}

    def _remote(self, name: ImageName) -> Remote:
        """Return the image as the registry or the archive has it."""
        if self._request.on_controller:
            return self._unread(), -1
        archive = self._target.archive
        if archive is None:
            return self._target.registry().image(name, self._request.platform), -1
        image, position = archive.find(name, self._request.platform, only=len(self._names) == 1)
        if name.digest and image.digest != name.digest:
            raise ValueError(f"archive {archive.path} has it with another digest: {image.digest or 'none'}")
        return image, position

    def _remotes(self, names: Sequence[ImageName]) -> dict[ImageName, Remote]:
        """Return the images as the registries or the archive have them."""
        return dict(zip(names, self._map_parallel(self._remote, names)))

    def _unread(self) -> RemoteImage:
        """Return the image of an archive that wasn't read. Only a change of the image under its name isn't predicted then."""
        if not self._watch or self._request.always:
            raise ArchiveNeeded
        return model.UNREAD

    def _replacements(self, names: Sequence[ImageName]) -> tuple[dict[ImageName, Remote], dict[str, str]]:
        """Return replacements for images with damaged documents, and by name why others can't be replaced."""
        remote, failures = {}, {}
        for name in names:
            try:
                if self._request.repair:
                    remote[name] = self._remote(name)
                    continue
                reason = NOT_ASKED
            except (HostError, ValueError) as error:
                reason = not_fetchable(error)
            found = self.current.find(name)
            failures[str(name)] = f"{name}: {found.trouble if found is not None else ''}; {reason}"
        return remote, failures

    def _map_parallel(self, work: Callable[[ImageName], _Result], names: Sequence[ImageName]) -> list[_Result]:
        """Return the results of the work on each name, several at a time. Raises one error for all that failed."""
        troubles, results = [], []
        with ThreadPoolExecutor(self._request.parallel) as pool:
            pending = {name: pool.submit(work, name) for name in names}
        for name, one in pending.items():
            try:
                results.append(one.result())
            except (HostError, ValueError) as error:
                text = str(error)
                troubles.append(text if text.startswith(str(name)) else f"{name}: {text}")
        if troubles:
            raise HostError("; ".join(sorted(troubles)))
        return results

    def _step(self, name: ImageName, found: CurrentImage | None, remote: Remote | None) -> Step:
        if remote is not None and (model.is_missing(found, self._request.platform) or model.moved(found, remote[0])):
            image, position = remote
            action = model.IMPORT if self._request.archive else model.PULL
            damaged = found.damaged if found is not None else ()
            missing = image.missing(self.current.blobs.difference(damaged))
            return Step(name, action, image.digest, image, missing, position, damaged)
        if found is None or found.image is None:
            raise HostError(f"{name}: nothing is known of it")  # it would be missing then
        # Looking at everything that is there isn't taking it over.
        adopting = self._request.durable and (self._request.repair or not self._request.every)
        return Step(name, model.local_action(found, adopting), found.digest, found.image, alias=found.alias)

    def _refusal(self, step: Step) -> str:
        """Return why the image must not be unpacked; empty if it may."""
        if step.image.platform is not None and (foreign := oci.foreign(step.image.platform, self._request.platform)):
            return foreign
        refusal = self._target.pull_refusal() if step.action == model.PULL else ""
        return refusal or (self.mount_refusal(step.image) if step.action in (model.PULL, model.IMPORT, model.UNPACK) else "")

    def _headroom(self, image: RemoteImage) -> Verdict:
        containerd, snapshots = self._target.containerd, self.current.snapshots
        overlay = read_overlay(containerd.ctr, containerd.config)
        existing = snapshot_ids(overlay)
        unpacked = sum(chain in snapshots for chain in image.chain or ())
        if image.layers > layers_guaranteed(overlay) and not self._watch:
            existing = (*existing, self._target.store.snapshots(self._target.snapshotter).latest_id())
            if not unpacked:
                return judge_pull(overlay, image.layers, next_id(existing))
        return judge_present(overlay, image.layers, unpacked, existing)

    def _compared(self, steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], Mapping[str, str]]:
        """Return the steps with the results of integrity checking, if that is requested."""
        if self._request.integrity == levels.INTEGRITY_NONE:
            return steps, {}
        current = self.current
        listed = Listed(tuple(current.references.values()), current.blobs, current.snapshots)
        repairer = ImageRepairer(self._target.comparer())
        repairs = RepairPlanner(repairer, self._remote, listed, repair=self._request.repair, keep=not self._watch)
        return repairs.compared(steps)
