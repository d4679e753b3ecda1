# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that are unpacked for one snapshotter, for another; and what the one that isn't used any more holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import read_pulls
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.provision import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan, Outcome
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RegistryAuth, Request
from ansible_collections.slipway.node.plugins.module_utils.integrity import levels
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import migration
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import free_bytes
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import Candidate, Left
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import containerd_root, snapshotter_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.image_names import canonical_names
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import Snapshot
from ansible_collections.slipway.node.plugins.module_utils.store.usage import parse_usage


@dataclass(frozen=True)
class Task:
    """What has to be unpacked in one namespace. ``plan`` None: the daemon has yet to load the snapshotter."""

    namespace: str
    images: tuple[Candidate, ...]
    plan: ImagePlan | None = None


@dataclass
class Plan:
    """``needed`` bytes, None if that can't be told; ``skipped`` says by image why it can't be unpacked here."""

    tasks: list[Task] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    needed: int = 0
    free: int = 0


class Switch:
    """``names``: from the first to the second.

    Of one that isn't loaded it is known which images were unpacked for it. The second is going to be there then.

    Raises HostError, and ValueError for what can't be had.
    """

    def __init__(self, containerd: Containerd, *, names: tuple[str, str], timeout: float) -> None:
        self._containerd = containerd
        self._ctr = ctr = containerd.ctr
        self._source, self._target = names
        self._machine = containerd.platform
        self._timeout = timeout
        self._loaded = names[1] in containerd.loaded_snapshotters
        self._source_loaded = names[0] in containerd.loaded_snapshotters
        self._pulls = read_pulls(containerd_root(ctr))

    def plan(self, namespaces: Sequence[str], *, watch: bool, copied: int) -> Plan:
        """``watch``: leave nothing on the node. ``copied``: bytes of blockfile's scratch file."""
        plan = Plan()
        directory = snapshotter_root(self._ctr, self._target)
        rooms: list[int | None] = []
        for namespace in namespaces:
            task, room = self._task(namespace, plan, watch=watch, copied=copied)
            rooms.append(room)
            if task is not None:
                plan.tasks.append(task)
        plan.free = free_bytes(directory)
        plan.needed = sum(room for room in rooms if room is not None)
        migration.require_room(plan.needed, plan.free, self._target, directory)
        return plan

    def _task(self, namespace: str, plan: Plan, *, watch: bool, copied: int) -> tuple[Task | None, int | None]:
        store = NamespaceStore(self._containerd.ctr, namespace)
        source = self.held(namespace)
        target = store.snapshots(self._target).layers() if self._loaded else frozenset()
        references = {one.name: one for one in store.images.references()}
        candidates = self._candidates(store, references) if source.difference(target) else []
        plan.skipped.update({f"{one.name} in {namespace}": one.trouble for one in candidates if one.trouble})
        images = migration.needed(candidates, source, target)
        cut_short = any(pull.is_for(namespace, self._target) for pull in self._pulls)
        if not images and not cut_short:
            return None, 0
        migration.require_whole(images, namespace, self._target)
        usage = self._usage(namespace, self._source) if self._source_loaded else {}
        room = migration.room_needed(images, target, self._target, self._source, usage, copied)
        if not self._loaded:
            return Task(namespace, images), room
        planner = ImagePlanner(ImageTarget(self._containerd, self._request(namespace, images)), watch=watch)
        return Task(namespace, images, planner.plan()), room

    def held(self, namespace: str) -> frozenset[str]:
        """The chain IDs of the layers that the source has; if it isn't loaded, those of images' topmost ones."""
        store = NamespaceStore(self._containerd.ctr, namespace)
        return store.snapshots(self._source).layers() if self._source_loaded else store.content.unpacked_for(self._source)

    def _candidates(self, store: NamespaceStore, references: Mapping[str, Reference]) -> list[Candidate]:
        """One for each image, whatever names it has."""
        blobs = store.content.digests()
        found = []
        for name in canonical_names({name: one.digest for name, one in references.items()}):
            try:
                content = store.images.read(references[str(name)], self._machine, blobs)
            except (ValueError, HostError) as error:
                found.append(Candidate(str(name), trouble=str(error)))
                continue
            layers = content.manifest.layers
            whole = all(one.digest in blobs for one in layers)
            found.append(Candidate(str(name), content.config.chain_ids, tuple(one.size for one in layers), whole))
        return found

    def _request(self, namespace: str, images: Sequence[Candidate]) -> Request:
        return Request(
            names=canonical_names({one.name: one.name for one in images}),
            every=False,
            present=True,
            always=False,
            archive=None,
            platform=self._machine,
            snapshotter=self._target,
            namespace=namespace,
            auth=RegistryAuth(),
            parallel=1,
            durable=True,
            integrity=levels.INTEGRITY_NONE,
            repair=False,
            timeout=self._timeout,
        )

    def apply(self, task: Task, lock: int) -> tuple[Outcome, float]:
        """Unpack, bring to disk, and note that it is there; returns what came of it, and how many seconds it took."""
        started = time.monotonic()
        if task.plan is None:
            return Outcome(), 0.0
        target = task.plan.current.target
        outcome = ImageProvisioner(target, lock).bring(task.plan)
        self._mark_names(target.store, outcome)
        return outcome, time.monotonic() - started

    def _mark_names(self, store: NamespaceStore, outcome: Outcome) -> None:
        """The images' other names as well: what is on disk under one is on disk under all."""
        done = {digest for name, digest in outcome.digests.items() if name not in outcome.failures}
        for one in store.images.references():
            if one.digest in done and self._target not in one.synced:
                store.images.mark_synced(one.name, self._target, one.digest)

    def left(self, namespaces: Sequence[str], snapshotters: Sequence[str], used: Sequence[str], plan: Plan) -> list[Left]:
        """What ``snapshotters`` hold, where these are ``used`` instead and the plan was, or will be, carried out."""
        found = [self._left(namespace, snapshotter, used, plan) for snapshotter in snapshotters for namespace in namespaces]
        return [one for one in found if one is not None]

    def _left(self, namespace: str, snapshotter: str, used: Sequence[str], plan: Plan) -> Left | None:
        store = NamespaceStore(self._containerd.ctr, namespace)
        snapshots: dict[str, Snapshot] = store.snapshots(snapshotter).all()
        if not snapshots:
            return None
        planned = (image.chain for task in plan.tasks if task.namespace == namespace for image in task.images)
        elsewhere = frozenset().union(*planned, *(store.snapshots(name).layers() for name in used))
        return migration.left_behind(snapshotter, namespace, snapshots, self._usage(namespace, snapshotter), elsewhere)

    def users(self, left: Left) -> list[str]:
        """For people: whose the snapshots are that keep others."""
        store = NamespaceStore(self._containerd.ctr, left.namespace)
        return [
            f"the layers up to {key}, which no snapshotter in use has"
            if key.startswith("sha256:")
            else store.containers.describe(key)
            for key in left.users
        ]

    def remove(self, left: Left) -> None:
        """What nobody uses. Raises HostError if something has come to be in use meanwhile."""
        store = NamespaceStore(self._containerd.ctr, left.namespace)
        blobs, going = store.content.digests(), frozenset(left.keys)
        for one in store.images.references():
            # Whoever unpacks it for this snapshotter again may not bring it to disk.
            if left.snapshotter in one.synced and not self._stays(store, one, blobs, going):
                store.images.unmark_synced(one.name, left.snapshotter)
        store.snapshots(left.snapshotter).remove_all(left.keys)

    def _stays(self, store: NamespaceStore, reference: Reference, blobs: frozenset[str], going: frozenset[str]) -> bool:
        try:
            return going.isdisjoint(store.images.read(reference, self._machine, blobs).config.chain_ids)
        except (ValueError, HostError):
            return False

    def _usage(self, namespace: str, snapshotter: str) -> dict[str, int]:
        arguments: tuple[Any, ...] = ("snapshots", "--snapshotter", snapshotter, "usage", "-b")
        doing = f"ask how large the snapshots of {snapshotter} are"
        return parse_usage(self._ctr.in_namespace(namespace, *arguments, doing=doing))
