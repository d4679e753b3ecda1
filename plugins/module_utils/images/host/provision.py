# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pull or import images, flush them to disk, and only then name them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import run_program
from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import sync_file_systems, writing_back
from ansible_collections.slipway.node.plugins.module_utils.images import plan as model
from ansible_collections.slipway.node.plugins.module_utils.images.host.current_images import CurrentImages
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import boot_id, read_pulls, write_pulls
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import FAILED, ImageRepairer, RepairResult
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair_plan import needs_check, repair_images
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan, Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import Archive, ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, lost
from ansible_collections.slipway.node.plugins.module_utils.images.pull_errors import explain
from ansible_collections.slipway.node.plugins.module_utils.integrity import levels
from ansible_collections.slipway.node.plugins.module_utils.store.reference import is_staged


@dataclass(frozen=True)
class Recovery:
    """The outcomes of images after a power cut. ``unresolved`` are pulls whose record stays, because a part is still damaged."""

    repaired: tuple[RepairResult, ...]
    unresolved: tuple[Pull, ...] = ()


class ImageProvisioner:
    """The only place that changes images. Raises HostError where containerd or the node fails.

    ``lock`` is a descriptor that programs inherit: an orphan of a killed run holds the lock too, so that no other run meets
    its pull half done.
    """

    def __init__(self, target: ImageTarget, lock: int) -> None:
        self._target = target
        self._request = target.request
        self._store = target.store
        self._inherit = [lock]

    def bring(self, plan: ImagePlan) -> Outcome:
        """Apply a plan; what a power cut may have undone is recovered first, and planned again."""
        recovery = self.recover()
        if recovery is not None:
            plan = ImagePlanner(self._target, watch=False).plan()
        return self.apply(plan, recovery)

    def is_interrupted(self) -> bool:
        """Return whether a power cut may have undone a pull, so that recover() would do something."""
        return bool(self._lost())

    def recover(self) -> Recovery | None:
        """Judge and repair what was pulled before a power cut; None if there was none. The record stays until all is synced."""
        target = self._target
        pulls = self._lost()
        if not pulls:
            return None
        repaired = ImageRepairer(target.comparer()).recover(pulls)
        directory = os.path.join(target.snapshotter_root, "snapshots")
        if os.path.isdir(directory):
            self._store.snapshots(target.snapshotter).remove_orphan_directories(directory)
        broken = any(one.outcome == FAILED for one in repaired)
        return Recovery(repaired, pulls if broken else ())

    def _lost(self) -> tuple[Pull, ...]:
        target = self._target
        return lost((pull for pull in read_pulls(target.root) if target.owns(pull)), boot_id())

    def apply(self, plan: ImagePlan, recovery: Recovery | None = None) -> Outcome:
        """Return the outcome; images that haven't failed are on disk and have their names."""
        target, durable = self._target, self._request.durable
        local = any(step.action in (model.SYNC, model.REPAIR) for step in plan.steps)
        flush = durable and (plan.unfinished or not target.pull_path.synced_by_daemon or local)
        roots = (target.content_root, target.snapshotter_root) if flush else ()
        pulls = self._record(plan) if durable else ()
        with writing_back(roots):
            outcome = self._bring(plan)
        if flush:
            outcome = outcome.plus(Outcome(synced=sync_file_systems(roots)))
        outcome = outcome.plus(self._name(outcome.successful(plan.steps), plan))
        if durable:
            unresolved = recovery.unresolved if recovery is not None else ()
            write_pulls(target.root, [pull for pull in pulls if not target.owns(pull) or pull in unresolved])
        return outcome

    def _record(self, plan: ImagePlan) -> tuple[Pull, ...]:
        """Add the plan to the record on disk, and return the whole record."""
        current = plan.current
        # Layers that were unpacked or fetched again are whole, and so are the images that share them.
        again = {key for step in plan.steps if step.action in (model.SYNC, model.REPAIR) for key in step.image.chain or ()}
        names = {str(step.name) for step in plan.steps if step.action != model.NONE}
        if again:
            found = {one.name: current.describe(one).image for one in current.references.values()}
            names.update(name for name, image in found.items() if image is not None and again.intersection(image.chain or ()))
        blobs = current.blobs.difference(*(step.damaged for step in plan.steps))
        there = (tuple(sorted(names)), tuple(sorted(current.snapshots.difference(again))), tuple(sorted(blobs)))
        pull = Pull(boot_id(), self._request.namespace, self._target.snapshotter, *there)
        # What another namespace's part of the same run has cleared meanwhile is not brought back.
        pulls = (*read_pulls(self._target.root), pull)
        write_pulls(self._target.root, pulls)
        return pulls

    def _bring(self, plan: ImagePlan) -> Outcome:
        """Pull, import, unpack and repair, but don't give names."""
        steps = plan.steps
        self._store.content.remove({digest for step in steps for digest in step.damaged})
        outcome = plan.outcome
        outcome = outcome.plus(self._pull([step for step in steps if step.comes and step.position < 0]))
        outcome = outcome.plus(self._import([step for step in steps if step.comes and step.position >= 0]))
        outcome = outcome.plus(self._unpack([step for step in steps if step.action == model.UNPACK]))
        outcome = outcome.plus(self._prove(outcome.successful(steps)))
        return outcome.plus(self._repair(outcome.successful(steps), plan))

    def _pull(self, steps: Sequence[Step]) -> Outcome:
        # Names of the same image are one pull.
        once = {step.staged: step for step in steps}
        with ThreadPoolExecutor(self._request.parallel) as pool:
            results = dict(zip(once, pool.map(self._pull_one, once.values())))
        self._delete_staged([step for staged, step in once.items() if results[staged][1]])
        return Outcome(
            seconds={str(step.name): results[staged][0] for staged, step in once.items()},
            failures={str(step.name): results[step.staged][1] for step in steps if results[step.staged][1]},
        )

    def _pull_one(self, step: Step) -> tuple[float, str]:
        """Pull one image; return the seconds that it took, and why it failed, empty if it didn't."""
        registry, started = self._target.registry(), time.monotonic()
        options: dict[str, Any] = {"platform": step.platform(self._request.platform), "inherit": self._inherit}
        failure = ""
        try:
            if step.action == model.REPAIR:
                registry.fetch(step.name, step.staged, **options)
            else:
                registry.pull(step.name, step.staged, snapshotter=self._target.snapshotter, **options)
        except HostError as error:
            failure = str(error)
        return time.monotonic() - started, failure

    def _import(self, steps: Sequence[Step]) -> Outcome:
        archive, outcome = self._target.archive, Outcome()
        if archive is not None:
            by_platform: dict[str, list[Step]] = {}
            for step in steps:
                by_platform.setdefault(step.platform(self._request.platform), []).append(step)
            for platform, some in by_platform.items():
                outcome = outcome.plus(self._import_some(archive, some, platform))
        return outcome

    def _import_some(self, archive: Archive, steps: Sequence[Step], platform: str) -> Outcome:
        staged, started = {step.position: step.staged for step in steps}, time.monotonic()
        options = ["--platform", platform, "--snapshotter", self._target.snapshotter]
        options += ["--local"] * bool(self._target.pull_path.local)
        ctr = self._target.containerd.ctr
        output = run_program(
            ctr.command("--namespace", self._request.namespace, "images", "import", *options, "-"),
            timeout=self._request.timeout * len(steps),
            feed=lambda stream: archive.write_staged(stream, staged),
            inherit=self._inherit,
            server=ctr.address,
        )
        seconds = dict.fromkeys((str(step.name) for step in steps), time.monotonic() - started)
        if output.code == 0:
            return Outcome(seconds=seconds)
        self._delete_staged(steps)
        trouble = f"cannot import {archive.path}: {explain(output.stderr)}"
        return Outcome(seconds=seconds, failures={name: f"{name}: {trouble}" for name in seconds})

    def _delete_staged(self, steps: Sequence[Step]) -> None:
        """Remove blobs and layers of failed steps, so that a full disk doesn't stay full."""
        if not steps:
            return
        with suppress(HostError):
            self._store.images.remove(*(step.staged for step in steps))
        # Also of what has not become an image.
        with suppress(HostError):
            self._store.leases.collect_garbage()

    def _unpack(self, steps: Iterable[Step]) -> Outcome:
        seconds, failures = {}, {}
        for step in steps:
            started = time.monotonic()
            try:
                self._store.snapshots(self._target.snapshotter).unpack(step.digest)
            except HostError as error:
                failures[str(step.name)] = f"{step.name}: {error}"
            seconds[str(step.name)] = time.monotonic() - started
        return Outcome(seconds=seconds, failures=failures)

    def _prove(self, steps: Iterable[Step]) -> Outcome:
        """Look whether what was to be unpacked is: ctr also ends well where it has passed over all of an image's layers."""
        steps = [step for step in steps if step.action in (model.PULL, model.IMPORT, model.UNPACK)]
        current = CurrentImages.read(self._target) if steps else None
        failures: dict[str, str] = {}
        for step in steps:
            reference = current.references.get(step.present) if current is not None else None
            # One that is gone was removed by others, which is found when it is to be named.
            found = current.describe(reference) if current is not None and reference is not None else None
            if found is not None and (trouble := model.unpacking_trouble(found, self._target.snapshotter)):
                failures[str(step.name)] = f"{step.name}: {trouble}"
        self._delete_staged([step for step in steps if str(step.name) in failures and step.action != model.UNPACK])
        return Outcome(failures=failures)

    def _repair(self, steps: Iterable[Step], plan: ImagePlan) -> Outcome:
        """Compare and repair images that other tools pulled, damaged images, and images on layers that were here before."""
        compared = self._request.integrity != levels.INTEGRITY_NONE
        wrong = [step for step in steps if needs_check(step, plan.current.snapshots, compared=compared)]
        return repair_images(ImageRepairer(self._target.comparer()), wrong, repair=self._request.repair) if wrong else Outcome()

    def _name(self, steps: Sequence[Step], plan: ImagePlan) -> Outcome:
        """Give the images their names, and take away all staged ones, also those of earlier runs."""
        there = {one.name: one.digest for one in plan.current.references.values() if is_staged(one.name)}
        there.update({step.staged: step.digest for step in steps if step.comes})
        if any(step.action == model.IMPORT for step in steps):
            # An archive may not say what its images' digests are.
            there.update({one.name: one.digest for one in self._store.images.references() if is_staged(one.name)})
        with ThreadPoolExecutor(self._request.parallel) as pool:
            named = list(zip(steps, pool.map(lambda step: self._name_one(step, there), steps)))
            work = [
                pool.submit(self._store.images.mark_synced, str(step.name), self._target.snapshotter, digest)
                for step, (digest, failure) in named
                if self._request.durable and step.action != model.NONE and not failure
            ]
            work.append(pool.submit(self._store.images.remove, *there))
        for one in work:
            one.result()
        return Outcome(
            digests={str(step.name): digest for step, (digest, _failure) in named},
            failures={str(step.name): failure for step, (_digest, failure) in named if failure},
        )

    def _name_one(self, step: Step, there: Mapping[str, str]) -> tuple[str, str]:
        """Return the digest that the name stands for, and why it couldn't be given, if it couldn't."""
        digest = there.get(step.staged, "") if step.action in (model.PULL, model.IMPORT) else step.digest
        if step.present == str(step.name):
            return digest, ""
        try:
            self._store.images.tag(step.present, str(step.name))
        except HostError as error:
            return digest, f"{step.name}: it was removed during the run: run this again ({error})"
        return digest, ""
