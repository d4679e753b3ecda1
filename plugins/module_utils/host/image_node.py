# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of one namespace and snapshotter: looked at, brought, made durable, and only then named."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.image_archive import ImageArchive
from ansible_collections.slipway.node.plugins.module_utils.host.image_repair import (
    NOT_ASKED,
    RepairPlan,
    cant_be_had,
    may_be_wrong,
    mend,
)
from ansible_collections.slipway.node.plugins.module_utils.host.image_steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.host.images import (
    DamagedDocumentError,
    Reference,
    content_root,
    read_overlay,
    snapshot_ids,
    snapshotter_root,
)
from ansible_collections.slipway.node.plugins.module_utils.host.integrity import METADATA
from ansible_collections.slipway.node.plugins.module_utils.host.mending import (
    BROKEN,
    Mended,
    Mender,
    trees_directory,
)
from ansible_collections.slipway.node.plugins.module_utils.host.programs import run_program
from ansible_collections.slipway.node.plugins.module_utils.host.pulls import boot_id, read_pulls, write_pulls
from ansible_collections.slipway.node.plugins.module_utils.host.registry import Registry, hosts_dir
from ansible_collections.slipway.node.plugins.module_utils.host.syncing import sync_file_systems, writing_back
from ansible_collections.slipway.node.plugins.module_utils.model import image_plan as plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import Found, Offer, Request
from ansible_collections.slipway.node.plugins.module_utils.model.layers import (
    Verdict,
    judge_present,
    judge_pull,
    layers_lasting,
    next_id,
)
from ansible_collections.slipway.node.plugins.module_utils.model.pull_errors import explain
from ansible_collections.slipway.node.plugins.module_utils.model.pull_way import select_pull_path
from ansible_collections.slipway.node.plugins.module_utils.model.pulls import Pull, lost
from ansible_collections.slipway.node.plugins.module_utils.model.reference import ImageName, is_staged


class ImageNode:
    """Raises HostError where containerd or the node fails, and ValueError for what can't be had."""

    def __init__(self, containerd: Containerd, request: Request, *, watch: bool) -> None:
        """``watch``: leave nothing on the node, not even for a moment."""
        self._containerd = containerd
        self._ctr = ctr = containerd.ctr
        config = containerd.config
        self._request = request.reached_through(hosts_dir(config))
        self.pull_path = select_pull_path(
            config,
            containerd.version,
            snapshotter=request.snapshotter,
            platform=request.platform,
            machine=containerd.platform,
        )
        self._watch = watch
        self.store = containerd.store(request.namespace)
        self._archive = ImageArchive(request.archive) if request.archive else None
        self._content_root = content_root(ctr)
        self.root = os.path.dirname(self._content_root)
        self._pulls = read_pulls(self.root)
        self._unmended: tuple[Pull, ...] = ()
        self._look()

    @property
    def names(self) -> tuple[ImageName, ...]:
        """Of the images that are asked for."""
        if self._request.every:
            return plan.images_there({one.name: one.digest for one in self._references.values()})
        return self._request.names or (self._archive.names() if self._archive else ())

    def _look(self) -> None:
        with ThreadPoolExecutor() as pool:
            references = pool.submit(self.store.references)
            blobs = pool.submit(self.store.blobs)
            snapshots = pool.submit(self.store.snapshots, self.pull_path.snapshotter)
        self._references = {one.name: one for one in references.result()}
        self._blobs = blobs.result()
        self._snapshots = snapshots.result()

    @property
    def _ours(self) -> tuple[Pull, ...]:
        return tuple(pull for pull in self._pulls if pull.is_for(self._request.namespace, self.pull_path.snapshotter))

    @property
    def unfinished(self) -> bool:
        """Whether an earlier run was cut short, so that there is something to be done though nothing is missing."""
        return bool(self._ours)

    @property
    def lost(self) -> tuple[Pull, ...]:
        """Pulls that a power cut may have undone."""
        return lost(self._ours, boot_id())

    def recover(self) -> tuple[Mended, ...]:
        """Judge and mend what was pulled before a power cut. The record of it stays until everything is synced."""
        mended = self._mender().recover(self.lost)
        directory = os.path.join(snapshotter_root(self._ctr, self.pull_path.snapshotter), "snapshots")
        if os.path.isdir(directory):
            self.store.take_back_directories(self.pull_path.snapshotter, directory)
        self._look()
        if any(one.outcome == BROKEN for one in mended):
            self._unmended = self.lost
        return mended

    def _mender(self) -> Mender:
        return Mender(
            self._ctr,
            self._request.namespace,
            self.pull_path.snapshotter,
            content_root=self._content_root,
            platform=self._request.platform,
            level=METADATA if self._request.integrity == plan.UNCOMPARED else self._request.integrity,
            trees=trees_directory(self._content_root),
        )

    def found(self, name: ImageName) -> Found | None:
        reference = self._references.get(str(name))
        return self._understood(reference) if reference else None

    def _understood(self, reference: Reference) -> Found:
        synced = self.pull_path.snapshotter in reference.synced
        try:
            content = self.store.content(reference, self._request.platform, self._blobs)
        except DamagedDocumentError as error:
            return Found(reference.digest, None, False, False, synced, str(error), (error.digest,))
        except (ValueError, HostError) as error:
            return Found(reference.digest, None, False, False, synced, str(error))
        chain = content.config.chain_ids
        blobs = (content.manifest.config, *content.manifest.layers)
        offer = Offer(
            reference.digest, content.config.platform, chain, len(chain), blobs, content.manifest.config.digest, content.size
        )
        unpacked = not chain or chain[-1] in self._snapshots
        whole = all(blob.digest in self._blobs for blob in blobs)
        return Found(reference.digest, offer, unpacked, whole, synced)

    def steps(self, outcome: Outcome) -> tuple[Step, ...]:
        """What every image needs; registries are asked only about those that have to come, or may have been moved.

        Of images that nobody has named, those that can't be had are failures in ``outcome``, and have no step.
        """
        found = {name: self.found(name) for name in self.names}
        if self._request.every:
            # Others are kept by their tools without being unpacked, or are for another platform.
            found = {name: one for name, one in found.items() if one is not None and (one.unpacked or one.damaged)}
        found.update(self._left_behind())
        needed = [name for name, one in found.items() if self._request.always or plan.is_missing(one, self._request.platform)]
        if self._request.every:
            offers = self._offers_at_hand(needed, outcome)
            found = {name: one for name, one in found.items() if str(name) not in outcome.failures}
        else:
            offers = dict(zip(needed, self._together(self._offer, needed)))
        steps = [self._step(name, one, offers.get(name)) for name, one in found.items()]
        refusals = [f"{step.name}: {reason}" for step in steps if (reason := self._refusal(step))]
        if refusals:
            raise ValueError("; ".join(refusals))
        return tuple(steps)

    def _offers_at_hand(self, names: Sequence[ImageName], outcome: Outcome) -> dict[ImageName, tuple[Offer, int]]:
        """Of images whose documents are damaged, as far as they are to be mended and can be."""
        offers = {}
        for name in names:
            try:
                if self._request.repair:
                    offers[name] = self._offer(name)
                    continue
                reason = NOT_ASKED
            except (HostError, ValueError) as error:
                reason = cant_be_had(error)
            found = self.found(name)
            outcome.failures[str(name)] = f"{name}: {found.trouble if found is not None else ''}; {reason}"
        return offers

    def _left_behind(self) -> dict[ImageName, Found]:
        """Images that an earlier run has taken layers from, and not unpacked again."""
        recorded = {name for pull in self._ours for name in pull.names}
        digests = {one.name: one.digest for one in self._references.values() if one.name in recorded}
        found = {name: self._understood(self._references[str(name)]) for name in plan.images_there(digests)}
        return {name: one for name, one in found.items() if one.whole and not one.unpacked}

    def compared(self, steps: Sequence[Step], outcome: Outcome) -> tuple[Step, ...]:
        """With what integrity checking finds of images that are there, if that is asked for."""
        if self._request.integrity == plan.UNCOMPARED:
            return tuple(steps)
        repairs = RepairPlan(self._mender(), self._offer, repair=self._request.repair, keep=not self._watch)
        return repairs.compared(steps, outcome)

    def _together(self, work: Callable[[ImageName], Any], names: Sequence[ImageName]) -> list[Any]:
        """The results of the work on each name, several at a time. All that failed is said at once."""
        troubles: list[str] = []

        def attempt(name: ImageName) -> Any:
            try:
                return work(name)
            except (HostError, ValueError) as error:
                text = str(error)
                troubles.append(text if text.startswith(str(name)) else f"{name}: {text}")
                return None

        with ThreadPoolExecutor(self._request.parallel) as pool:
            results = list(pool.map(attempt, names))
        if troubles:
            raise HostError("; ".join(sorted(troubles)))
        return results

    def _offer(self, name: ImageName) -> tuple[Offer, int]:
        """What there is, and its position in the archive."""
        if self._archive is None:
            return self._registry().offer(name, self._request.platform), -1
        entry = self._archive.entry(name, only=len(self.names) == 1)
        offer = self._archive.offer(entry, self._request.platform)
        if name.digest and offer.digest != name.digest:
            raise ValueError(f"archive {self._archive.path} has it with another digest: {offer.digest or 'none'}")
        return offer, entry.position

    def _registry(self) -> Registry:
        request = self._request
        return Registry(
            self._ctr, request.access, namespace=request.namespace, timeout=request.timeout, local=self.pull_path.local
        )

    def _step(self, name: ImageName, found: Found | None, offered: tuple[Offer, int] | None) -> Step:
        if offered is not None and (plan.is_missing(found, self._request.platform) or plan.moved(found, offered[0])):
            offer, position = offered
            action = plan.PULL if self._archive is None else plan.IMPORT
            damaged = found.damaged if found is not None else ()
            return Step(name, action, offer.digest, offer, offer.missing(self._blobs.difference(damaged)), position, damaged)
        if found is None or found.offer is None:
            raise HostError(f"{name}: nothing is known of it")  # it would be missing then
        # Looking at everything that is there isn't taking it over.
        adopting = self._request.durable and (self._request.repair or not self._request.every)
        return Step(name, plan.local_action(found, adopting), found.digest, found.offer)

    def _refusal(self, step: Step) -> str:
        """Why the image must not be unpacked; empty if it may."""
        if not plan.runs_here(step.offer, self._request.platform):
            return f"the image is not for {self._request.platform}: it is for {step.offer.platform}"
        return self.mount_refusal(step.offer) if step.action in (plan.PULL, plan.IMPORT, plan.UNPACK) else ""

    def mount_refusal(self, offer: Offer) -> str:
        """Why an image can't be mounted on this node; empty if it can, or if that can't be told."""
        if self.pull_path.snapshotter != "overlayfs":
            return ""
        verdict = self._headroom(offer)
        return f"overlayfs can't mount it on this node: {verdict.reason}" if verdict.mountable is False else ""

    def _headroom(self, offer: Offer) -> Verdict:
        overlay = read_overlay(self._ctr, self._containerd.config)
        existing = snapshot_ids(overlay)
        unpacked = sum(chain in self._snapshots for chain in offer.chain or ())
        if offer.layers > layers_lasting(overlay) and not self._watch:
            existing = (*existing, self.store.latest_id(self.pull_path.snapshotter))
            if not unpacked:
                return judge_pull(overlay, offer.layers, next_id(existing))
        return judge_present(overlay, offer.layers, unpacked, existing)

    def apply(self, steps: Sequence[Step], inherit: Sequence[int], outcome: Outcome) -> None:
        """Do it. What failed is in the outcome; the rest is done, on disk, and has its name."""
        durable = self._request.durable
        local = any(step.action in (plan.SYNC, plan.REPAIR) for step in steps)
        flush = durable and (self.unfinished or not self.pull_path.synced_by_daemon or local)
        roots = (self._content_root, snapshotter_root(self._ctr, self.pull_path.snapshotter)) if flush else ()
        if durable:
            self._remember(steps)
        with writing_back(roots):
            self._bring(steps, inherit, outcome)
        if flush:
            outcome.synced = sync_file_systems(self._containerd.runner, roots)
        self._name([step for step in steps if str(step.name) not in outcome.failures], outcome)
        if durable:
            write_pulls(self.root, [pull for pull in self._pulls if pull not in self._ours or pull in self._unmended])

    def _bring(self, steps: Sequence[Step], inherit: Sequence[int], outcome: Outcome) -> None:
        self.store.remove_blobs({digest for step in steps for digest in step.damaged})
        self._pull([step for step in steps if step.comes and step.position < 0], inherit, outcome)
        self._import([step for step in steps if step.comes and step.position >= 0], inherit, outcome)
        self._unpack([step for step in steps if step.action == plan.UNPACK], outcome)
        self._mend([step for step in steps if str(step.name) not in outcome.failures], outcome)

    def _mend(self, steps: Sequence[Step], outcome: Outcome) -> None:
        """Images that were pulled by somebody else, that have been found damaged, or that stand on layers that were here."""
        compared = self._request.integrity != plan.UNCOMPARED
        wrong = [step for step in steps if may_be_wrong(step, self._snapshots, compared=compared)]
        if wrong:
            mend(self._mender(), wrong, outcome, repair=self._request.repair)

    def _remember(self, steps: Sequence[Step]) -> None:
        # What may be unpacked or fetched again is as good as new, and so are the images that share it.
        again = {key for step in steps if step.action in (plan.SYNC, plan.REPAIR) for key in step.offer.chain or ()}
        names = {str(step.name) for step in steps if step.action != plan.NONE}
        if again:
            found = {one.name: self._understood(one).offer for one in self._references.values()}
            names.update(name for name, offer in found.items() if offer is not None and again.intersection(offer.chain or ()))
        blobs = self._blobs.difference(*(step.damaged for step in steps))
        there = (tuple(sorted(names)), tuple(sorted(self._snapshots.difference(again))), tuple(sorted(blobs)))
        pull = Pull(boot_id(), self._request.namespace, self.pull_path.snapshotter, *there)
        # What another namespace's part of the same run has cleared meanwhile is not brought back.
        self._pulls = (*read_pulls(self.root), pull)
        write_pulls(self.root, self._pulls)

    def _pull(self, steps: Sequence[Step], inherit: Sequence[int], outcome: Outcome) -> None:
        registry = self._registry()
        # Names of the same image are one pull.
        once = {step.staged: step for step in steps}

        def pull(step: Step) -> None:
            started = time.monotonic()
            options: dict[str, Any] = {"platform": self._request.platform, "inherit": inherit}
            try:
                if step.action == plan.REPAIR:
                    registry.fetch(step.name, step.staged, **options)
                else:
                    registry.pull(step.name, step.staged, snapshotter=self.pull_path.snapshotter, **options)
            except HostError as error:
                outcome.failures[str(step.name)] = str(error)
            outcome.seconds[str(step.name)] = time.monotonic() - started

        with ThreadPoolExecutor(self._request.parallel) as pool:
            list(pool.map(pull, once.values()))
        failed = [step for step in once.values() if str(step.name) in outcome.failures]
        if failed:
            self._give_back(failed)
        for step in steps:
            first = str(once[step.staged].name)
            if first in outcome.failures:
                outcome.failures[str(step.name)] = outcome.failures[first]

    def _import(self, steps: Sequence[Step], inherit: Sequence[int], outcome: Outcome) -> None:
        if not steps or self._archive is None:
            return
        archive, started = self._archive, time.monotonic()
        staged = {step.position: step.staged for step in steps}
        options = [
            "--platform",
            self._request.platform,
            "--snapshotter",
            self.pull_path.snapshotter,
            *["--local"] * bool(self.pull_path.local),
        ]
        command = self._ctr.command("--namespace", self._request.namespace, "images", "import", *options, "-")
        output = run_program(
            command,
            timeout=self._request.timeout * len(steps),
            feed=lambda stream: archive.write_staged(stream, staged),
            inherit=inherit,
            server=self._ctr.address,
        )
        for step in steps:
            outcome.seconds[str(step.name)] = time.monotonic() - started
            if output.code != 0:
                outcome.failures[str(step.name)] = f"{step.name}: cannot import {archive.path}: {explain(output.stderr)}"
        if output.code != 0:
            self._give_back(steps)

    def _give_back(self, steps: Sequence[Step]) -> None:
        """Blobs and layers of what failed, so that a full disk isn't left full."""
        with suppress(HostError):
            self.store.remove(*(step.staged for step in steps))
        # Also of what has not become an image.
        with suppress(HostError):
            self.store.collect_garbage()

    def _unpack(self, steps: Sequence[Step], outcome: Outcome) -> None:
        for step in steps:
            started = time.monotonic()
            try:
                self.store.unpack(self.pull_path.snapshotter, step.digest)
            except HostError as error:
                outcome.failures[str(step.name)] = f"{step.name}: {error}"
            outcome.seconds[str(step.name)] = time.monotonic() - started

    def _name(self, steps: Sequence[Step], outcome: Outcome) -> None:
        """Give the images their names, and take away the staged ones, whoever left them."""
        there = {one.name: one.digest for one in self._references.values() if is_staged(one.name)}
        there.update({step.staged: step.digest for step in steps if step.comes})
        if any(step.action == plan.IMPORT for step in steps):
            # An archive may not say what its images' digests are.
            there.update({one.name: one.digest for one in self.store.references() if is_staged(one.name)})
        with ThreadPoolExecutor(self._request.parallel) as pool:
            list(pool.map(lambda step: self._give_name(step, there, outcome), steps))
            marked = [step for step in steps if step.action != plan.NONE and str(step.name) not in outcome.failures]
            work = [pool.submit(self._mark, step, outcome) for step in marked if self._request.durable]
            work.append(pool.submit(self.store.remove, *there))
        for one in work:
            one.result()

    def _give_name(self, step: Step, there: Mapping[str, str], outcome: Outcome) -> None:
        name = str(step.name)
        outcome.digests[name] = step.digest
        if step.action in (plan.PULL, plan.IMPORT):
            outcome.digests[name] = there.get(step.staged, "")
            try:
                self.store.tag(step.staged, name)
            except HostError as error:
                outcome.failures[name] = f"{name}: it was removed while it was being pulled: run this again ({error})"

    def _mark(self, step: Step, outcome: Outcome) -> None:
        self.store.mark_synced(str(step.name), self.pull_path.snapshotter, outcome.digests[str(step.name)])
