# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpack the images of one snapshotter for another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import Synced
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import read_pulls
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.provision import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan, Outcome
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RegistryAuth, Request
from ansible_collections.slipway.node.plugins.module_utils.integrity import levels
from ansible_collections.slipway.node.plugins.module_utils.snapshotters import migration
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.requirements import blockfile_copy
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.scratch import free_bytes, read_scratch
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import Candidate
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import containerd_root, snapshotter_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.image_names import canonical_names
from ansible_collections.slipway.node.plugins.module_utils.store.usage import parse_usage

# For each image, of what would be fetched; unpacking itself has no limit.
_UNPACK_SECONDS = 3600.0


@dataclass(frozen=True)
class Task:
    """The images to unpack in one namespace. ``plan`` None: the daemon has yet to load the snapshotter."""

    namespace: str
    images: tuple[Candidate, ...]
    plan: ImagePlan | None = None


@dataclass(frozen=True)
class MigrationPlan:
    """The images to unpack. ``needed`` and ``free`` in bytes; ``skipped``, by image, why it can't be unpacked here."""

    tasks: tuple[Task, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    needed: int = 0
    free: int = 0

    def images(self) -> list[dict[str, Any]]:
        """Return the images with their namespaces and numbers of layers."""
        return [
            {"name": one.name, "namespace": task.namespace, "layers": len(one.chain)}
            for task in self.tasks
            for one in task.images
        ]


@dataclass(frozen=True)
class _Namespace:
    """One namespace's part of a plan; ``room`` in bytes, None if unknown."""

    task: Task | None
    room: int | None = 0
    skipped: Mapping[str, str] = field(default_factory=dict)


class Migration:
    """The migration from the snapshotter ``old`` to ``new``. The daemon need not have loaded either.

    ``config`` is the configuration that the daemon has, or will have, when images are unpacked. Raises HostError, and
    ValueError for images that can't be unpacked, and for too little room.
    """

    def __init__(self, containerd: Containerd, old: str, new: str, config: EffectiveConfig) -> None:
        self._containerd = containerd
        self._ctr = containerd.ctr
        self._source, self._target = old, new
        self._config = config
        self._machine = containerd.platform
        self._loaded = new in containerd.loaded_snapshotters
        self._source_loaded = old in containerd.loaded_snapshotters
        self._pulls = read_pulls(containerd_root(containerd.ctr))

    def plan(self, *, watch: bool) -> MigrationPlan:
        """Read what is there. ``watch``: leave nothing on the node, not even for a moment."""
        directory = snapshotter_root(self._ctr, self._target) if self._loaded else self._config.snapshotter_root(self._target)
        parts = [self._namespace(namespace, watch=watch) for namespace in self._containerd.namespaces]
        needed, free = sum(part.room or 0 for part in parts), free_bytes(directory)
        migration.require_room(needed, free, self._target, directory)
        skipped = {name: reason for part in parts for name, reason in part.skipped.items()}
        return MigrationPlan(tuple(part.task for part in parts if part.task is not None), skipped, needed, free)

    def _namespace(self, namespace: str, *, watch: bool) -> _Namespace:
        store = NamespaceStore(self._containerd.ctr, namespace)
        source = self._held(store)
        target = store.snapshots(self._target).layers() if self._loaded else frozenset()
        references = {one.name: one for one in store.images.references()}
        candidates = self._candidates(store, references) if source.difference(target) else []
        skipped = {f"{one.name} in {namespace}": one.trouble for one in candidates if one.trouble}
        images = migration.needed(candidates, source, target)
        cut_short = any(pull.is_for(namespace, self._target) for pull in self._pulls)
        if not images and not cut_short:
            return _Namespace(None, skipped=skipped)
        migration.require_whole(images, namespace, self._target)
        usage = snapshot_usage(self._ctr, namespace, self._source) if self._source_loaded else {}
        room = migration.room_needed(images, target, self._target, self._source, usage, self._scratch_bytes())
        if not self._loaded:
            return _Namespace(Task(namespace, images), room, skipped)
        planner = ImagePlanner(ImageTarget(self._containerd, self._request(namespace, images)), watch=watch)
        return _Namespace(Task(namespace, images, planner.plan()), room, skipped)

    def _scratch_bytes(self) -> int:
        """Return the bytes of what the snapshotter blockfile starts a layer as a copy of; 0 for all other snapshotters."""
        if self._target != migration.BLOCKFILE:
            return 0
        file = self._config.snapshotter_table(self._target).get("scratch_file")
        found = read_scratch(blockfile_copy(self._config)) or (read_scratch(str(file)) if file else None)
        return found.size if found else 0

    def _held(self, store: NamespaceStore) -> frozenset[str]:
        """Return the chain IDs of the layers that the source has; if it isn't loaded, those of images' topmost ones."""
        return store.snapshots(self._source).layers() if self._source_loaded else store.content.unpacked_for(self._source)

    def _candidates(self, store: NamespaceStore, references: Mapping[str, Reference]) -> list[Candidate]:
        """Return one name for each image."""
        blobs = store.content.digests()
        found = []
        for name in canonical_names({name: one.digest for name, one in references.items()}):
            try:
                content = store.images.read(references[str(name)], self._machine, blobs)
            except (ValueError, HostError) as error:
                found.append(Candidate(str(name), trouble=str(error)))
                continue
            found.append(migration.candidate(str(name), content.manifest, content.config, blobs, self._machine))
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
            timeout=_UNPACK_SECONDS,
        )

    def apply(self, plan: MigrationPlan, lock: int) -> tuple[Synced, ...]:
        """Unpack, bring to disk, and note that it is there; returns which file systems were synced.

        ``lock`` is the descriptor that keeps other runs away. Raises HostError that names the images that failed.
        """
        outcomes = [self._apply(task.plan, lock) for task in plan.tasks if task.plan is not None]
        failures = [failure for outcome in outcomes for failure in outcome.failures.values()]
        if failures:
            raise HostError("; ".join(failures))
        return tuple(one for outcome in outcomes for one in outcome.synced)

    def _apply(self, plan: ImagePlan, lock: int) -> Outcome:
        target = plan.current.target
        outcome = ImageProvisioner(target, lock).bring(plan)
        self._mark_names(target.store, outcome)
        return outcome

    def _mark_names(self, store: NamespaceStore, outcome: Outcome) -> None:
        """Add the images' other names: an image that is on disk under one name is on disk under all."""
        done = {digest for name, digest in outcome.digests.items() if name not in outcome.failures}
        for one in store.images.references():
            if one.digest in done and self._target not in one.synced:
                store.images.mark_synced(one.name, self._target, one.digest)


def snapshot_usage(ctr: Ctr, namespace: str, snapshotter: str) -> dict[str, int]:
    """Return the bytes that a snapshotter's snapshots take, by key. Raises HostError."""
    arguments = ("snapshots", "--snapshotter", snapshotter, "usage", "-b")
    doing = f"ask how large the snapshots of {snapshotter} are"
    return parse_usage(ctr.in_namespace(namespace, *arguments, doing=doing))
