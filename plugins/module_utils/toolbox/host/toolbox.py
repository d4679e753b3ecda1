# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A toolbox on the node: read and change its snapshot, lease, mount and unit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import EROFS
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS, mounted_on_demand
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    make_directories,
    naming,
    read_bytes,
    remove_empty_dir,
    remove_file,
    sync_directory,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_table
from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import sync_file_systems
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.store import usage
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import containerd_root, snapshotter_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.snapshot_mounts import parse_ctr_mounts
from ansible_collections.slipway.node.plugins.module_utils.toolbox import mount_unit, toolbox
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as steps
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host import mountpoint
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import MOUNTED, PIN_LABEL
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import CurrentSnapshot, CurrentToolbox, CurrentUnit, Plan
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec

_ATTEMPTS = 10
_POLL_SECONDS = 0.3


class Toolbox:
    """One toolbox of a namespace and snapshotter. Raises HostError where containerd, systemd or the node refuses."""

    def __init__(self, containerd: Containerd, wanted: ToolboxSpec, *, namespace: str, snapshotter: str) -> None:
        self._runner = runner = containerd.runner
        self._ctr = ctr = containerd.ctr
        self._wanted = wanted
        self._namespace = namespace
        self._snapshotter = snapshotter
        self._service = containerd.unit.name
        self._on_demand = snapshotter in mounted_on_demand(containerd.version)
        self._store = NamespaceStore(containerd.ctr, namespace)
        self._root = snapshotter_root(ctr, snapshotter)
        self._unit = Unit(runner, wanted.unit)
        self.source: Source | None = None
        self._top: Mount | None = None

    def read_state(self) -> CurrentToolbox:
        """Read the toolbox without its users and its image. Raises ValueError if the path is not safe."""
        path = self._wanted.path
        root = containerd_root(self._ctr)
        if f"{path}/".startswith(f"{root}/") or f"{root}/".startswith(f"{path}/"):
            raise ValueError(f"path can't be {path}: containerd keeps its own in {root}")
        self._check_unmounted()
        snapshots = self._snapshots()
        only = snapshots[0] if len(snapshots) == 1 and snapshots[0].kind == steps.ACTIVE else None
        found = self.state_of(snapshots, self._ask_source(only.key) if only is not None else None, self._leases())
        mountpoint.check_safe(path)
        return found

    def state_of(self, snapshots: tuple[CurrentSnapshot, ...], source: Source | None, leases: tuple[str, ...]) -> CurrentToolbox:
        """Return the state of a toolbox whose snapshots, source and leases are known. Raises ValueError for a foreign unit."""
        self.source = source
        point = mountpoint.read_mountpoint(self._wanted.path, source, self._root)
        self._top = point.top
        mounted = point.mount != steps.NOTHING
        return CurrentToolbox(
            snapshots=snapshots,
            leases=leases,
            mount=point.mount,
            mounted_from=point.described,
            elsewhere=point.elsewhere,
            inside=point.inside,
            point=steps.EMPTY if mounted else _kind_of(self._wanted.path),
            unit=self._look_at_unit(),
            unit_text=self._unit_text(snapshots[0].key) if source is not None else None,
        )

    def with_users(self, found: CurrentToolbox) -> CurrentToolbox:
        """Return the toolbox with the processes in it."""
        return replace(found, users=mountpoint.ProcessFinder(self._wanted.path, self.source, self._top).find())

    def _snapshots(self) -> tuple[CurrentSnapshot, ...]:
        keys = [key for key in self._store.snapshots(self._snapshotter).all() if toolbox.is_for(key, self._wanted.path)]
        return tuple(self._snapshot(key) for key in sorted(keys))

    def _snapshot(self, key: str) -> CurrentSnapshot:
        info = json.loads(self._ask("info", key, doing=f"inspect the snapshot {key}"))
        return CurrentSnapshot(key, str(info["Kind"]), str(info.get("Parent") or ""), dict(info.get("Labels") or {}))

    def _leases(self) -> tuple[str, ...]:
        listed = self._ctr.in_namespace(self._namespace, "leases", "ls", "-q", doing="ask containerd for its leases")
        return tuple(one for one in listed.splitlines() if toolbox.is_for(one, self._wanted.path))

    def _ask_source(self, key: str) -> Source | None:
        """Return the mount of a snapshot; None if no mount unit can mount it and it won't be mounted."""
        if self._on_demand:
            return None
        shown = self._ask("mounts", "/", key, doing=f"ask how the snapshot {key} is mounted")
        if len(shown.splitlines()) == 1:
            (mount,) = parse_ctr_mounts(shown, "/")
            return Source(mount.kind, mount.source, mount.options)
        if self._wanted.state != MOUNTED:
            return None
        raise ValueError(
            f"the snapshotter {self._snapshotter} needs several mounts for one snapshot, which a mount unit can't do: set "
            "state to present, or use another snapshotter"
        )

    def _check_unmounted(self) -> None:
        if self._on_demand and self._wanted.state == MOUNTED:
            raise ValueError(
                f"state mounted isn't possible on {self._snapshotter} from containerd 2.2 on: the daemon mounts its layers only "
                "for containers, and at other places each time. Set state to present, or use another snapshotter"
            )

    def _look_at_unit(self) -> CurrentUnit:
        path = self._wanted.path
        file = mount_unit.unit_path(path)
        if len(self._wanted.unit) > mount_unit.LONGEST_NAME:
            return CurrentUnit()
        if os.path.islink(file):
            return CurrentUnit(link=True)
        layers = self._layers_unit() or ""
        content = read_bytes(file)
        if content is None:
            return CurrentUnit()
        status = self._unit.status()
        loaded = status.loaded and file in status.files and not status.needs_reload
        enabled = os.path.realpath(mount_unit.enabling_link(path)) == file
        drop_ins = tuple(one for one in status.files if one != file)
        return CurrentUnit(content.decode(errors="replace") + layers, loaded=loaded, enabled=enabled, drop_ins=drop_ins)

    def _layers_unit(self) -> str | None:
        """Return the text of the path's other unit, if it was made here. Raises ValueError if another has its place."""
        path = self._wanted.path
        if len(mount_unit.layers_unit_name(path)) > mount_unit.LONGEST_NAME:
            return None
        file = mount_unit.layers_unit_path(path)
        content = read_bytes(file)
        if content is not None and content.startswith(mount_unit.MARK.encode()):
            return content.decode(errors="replace")
        if content is not None and self.source is not None and self._mounted_layers(self.source):
            raise ValueError(f"{file} was not created by slipway.node: remove it, or use another path")
        return None

    def _unit_texts(self, key: str) -> dict[str, str]:
        """Return, by file, the mount unit and the service that must run before it, if there is one."""
        path, service = self._wanted.path, self._service
        if self.source is None:
            return {}
        mounts = self._mounted_layers(self.source)
        # containerd doesn't know where a proxy keeps what it has.
        own = self.source.directories if self._snapshotter not in BUILTIN_SNAPSHOTTERS else ()
        root = os.path.dirname(own[0]) if own else self._root
        text = mount_unit.unit_text(path, self.source, key=key, root=root, service=service, mounts=mounts)
        texts = {mount_unit.unit_path(path): text}
        if mounts:
            group = ("snapshots", "--snapshotter", self._snapshotter)
            ask = self._ctr.command("--namespace", self._namespace, *group, "mounts", path, key)
            texts[mount_unit.layers_unit_path(path)] = mount_unit.layers_unit_text(path, ask, key=key, service=service)
        return texts

    def _mounted_layers(self, source: Source) -> tuple[str, ...]:
        """Return the layers that are mounts of their own: all on erofs, and those of a proxy that loads files lazily."""
        table = {one.path for one in read_table()}
        return source.layers if self._snapshotter == EROFS else tuple(one for one in source.layers if one in table)

    def _unit_text(self, key: str) -> str | None:
        return "".join(self._unit_texts(key).values()) or None

    def apply(self, plan: Plan, bring_image: Callable[[], None] | None) -> None:
        """Run the steps of the plan, one after the other."""
        work: dict[str, Callable[[], None]] = {
            steps.PULL: bring_image or _nothing,
            steps.PIN: lambda: self._label(plan, {PIN_LABEL: _now()}),
            steps.LABEL: lambda: self._label(plan, self._wanted.labels),
            steps.RELEASE: lambda: self._release(plan.found.leases),
            steps.UNMOUNT: self._unmount,
            steps.REMOVE: lambda: self._store.snapshots(self._snapshotter).remove(_old_key(plan)),
            steps.PREPARE: lambda: self._prepare(plan.found.chain or ""),
            steps.DIRECTORY: lambda: _make(self._wanted.path),
            steps.UNIT: lambda: self._write_unit(plan.key),
            steps.ENABLE: self._enable,
            steps.MOUNT: lambda: self._mount(fresh=plan.found.unit.text is None),
            steps.DISABLE: self._disable,
            steps.COLLECT: self._store.leases.collect_garbage,
            steps.REMOVE_DIRECTORY: lambda: _unmake(self._wanted.path),
        }
        for step in plan.steps:
            work[step]()

    def _label(self, plan: Plan, labels: Mapping[str, str]) -> None:
        key = plan.key
        pairs = [f"{name}={value}" for name, value in sorted(labels.items())]
        self._ask("label", key, *pairs, doing=f"label the snapshot {key}")

    def _release(self, leases: tuple[str, ...]) -> None:
        for lease in leases:
            # Without --sync: nothing has to be collected for it.
            self._ctr.in_namespace(self._namespace, "leases", "rm", lease, doing=f"remove the lease {lease}")

    def _prepare(self, chain: str) -> None:
        path = self._wanted.path
        # containerd's client pins it in the same step (cmd/ctr/commands/snapshots, prepareCommand).
        self._ask("prepare", path, *[chain] * bool(chain), doing=f"create the snapshot {path}")
        sync_file_systems([self._root])
        try:
            self.source = self._ask_source(path)
        except ValueError:
            self._store.snapshots(self._snapshotter).remove(path)
            raise

    def size(self, key: str) -> int:
        """Return the snapshot's own bytes."""
        shown = self._ask("usage", "-b", key, doing=f"ask how large the snapshot {key} is")
        try:
            return usage.parse_single_usage(shown)
        except ValueError as error:
            raise HostError(f"cannot read the size of the snapshot {key}: {error}") from error

    def _write_unit(self, key: str) -> None:
        texts = self._unit_texts(key)
        for path, text in reversed(texts.items()):
            write_file(path, text.encode(), 0o644)
        if mount_unit.layers_unit_path(self._wanted.path) not in texts:
            self._remove_layers_unit()
        self._unit.reload_manager()

    def _enable(self) -> None:
        self._unit.enable()
        link = mount_unit.enabling_link(self._wanted.path)
        with naming("enable", self._unit.name):
            sync_directory(os.path.dirname(link))
            sync_directory(os.path.dirname(os.path.dirname(link)))

    def _disable(self) -> None:
        self._unit.disable()
        # Last what it is known by, so that a run that is killed here is finished by the next.
        self._remove_layers_unit()
        remove_file(mount_unit.unit_path(self._wanted.path))
        self._unit.reload_manager()

    def _remove_layers_unit(self) -> None:
        if self._layers_unit() is not None:
            remove_file(mount_unit.layers_unit_path(self._wanted.path))

    def _mounted(self) -> bool:
        return any(one.path == self._wanted.path for one in read_table())

    def _mount(self, *, fresh: bool) -> None:
        try:
            self._start()
        except HostError:
            if fresh:
                self._disable()
            raise

    def _start(self) -> None:
        started = time.time()
        mountpoint.chown_root(self._wanted.path)
        if mountpoint.kind_of(self._wanted.path) == steps.FULL:
            # So it was below the mount that was there until now.
            raise HostError(f"{self._wanted.path} has files in it, which a mount would hide: move them away, or use another path")
        for directory in self.source.directories if self.source is not None else ():
            if not os.path.isdir(directory):
                raise HostError(f"cannot mount {self._wanted.path}: {directory}, a part of its snapshot, is gone")
        for _attempt in range(_ATTEMPTS):
            if not self._unit.start():
                raise HostError(f"cannot mount {self._wanted.path}: {self._complaint(started)}; its snapshot is unchanged")
            if self._mounted():
                return
            # systemd hasn't noticed yet that something was unmounted.
            time.sleep(_POLL_SECONDS)
        raise HostError(f"cannot mount {self._wanted.path}: {self._unit.name} is active, but nothing is mounted")

    def _complaint(self, since: float) -> str:
        """Return the error of mount(8), or of systemd."""
        lines = [line.strip() for line in self._unit.journal(since) if line.strip()]
        said = [line for line in lines if line.startswith("mount:")]
        return (said or lines or ["see the journal"])[-1]

    def _unmount(self) -> None:
        path = self._wanted.path
        self._unit.stop()
        if self._mounted():
            # systemd doesn't say why it couldn't.
            self._runner.run("umount", "--", path, doing=f"unmount {path}")
        if self._mounted():
            raise HostError(f"cannot unmount {path}: something else is mounted there too")

    def _ask(self, *arguments: str, doing: str) -> str:
        group = ("snapshots", "--snapshotter", self._snapshotter)
        return self._ctr.in_namespace(self._namespace, *group, *arguments, doing=doing)


def _old_key(plan: Plan) -> str:
    return plan.found.snapshot.key if plan.found.snapshot is not None else ""


def _nothing() -> None:
    pass


def _kind_of(path: str) -> str:
    found = mountpoint.kind_of(path)
    return steps.FOREIGN if found == steps.EMPTY and not mountpoint.only_root_can_write(path) else found


def _make(path: str) -> None:
    make_directories(path)
    mountpoint.chown_root(path)


def _unmake(path: str) -> None:
    remove_empty_dir(path)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
