# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the writable snapshots of a node without a container: toolboxes, and those made by hand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import mounted_on_demand
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_table
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.store import usage
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.leases import Lease, lease_of, parse_leases
from ansible_collections.slipway.node.plugins.module_utils.store.snapshot_mounts import parse_ctr_mounts
from ansible_collections.slipway.node.plugins.module_utils.store.snapshots import is_unpacking
from ansible_collections.slipway.node.plugins.module_utils.toolbox import state as model
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.expected import read_expected
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.shown import shows
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source, option, unit_name
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import (
    ExpectedToolbox,
    Toolboxes,
    ToolboxState,
    WritableSnapshot,
)

_ACTIVE = "Active"
_NOT_FOUND = "not found"
# containerd is asked about so many snapshots at a time: each question is a program of its own, which mostly waits.
_AT_ONCE = 8
# The directory that takes what is written to a snapshot: plugins/snapshots/overlay/overlay.go, upperPath.
_UPPER = re.compile(r"^/.*/snapshots/\d+/fs\Z")
# The same of what is bound and gone, in the kernel's words; native has no fs, and gives what it removes another name first.
_DELETED = re.compile(r"/snapshots/(?:rm-)?\d+(?:/fs)?//deleted\Z")
# And of a file that a loop device stands for, as blockfile has it: plugins/snapshots/blockfile/blockfile.go, getBlockFile.
_DELETED_FILE = re.compile(r"/snapshots/(?:rm-)?\d+ \(deleted\)\n?\Z")
_BACKING_FILE = "/sys/dev/block/{}/loop/backing_file"


class NodeMounts:
    """The mounts of the node, read once. Raises HostError."""

    def __init__(self) -> None:
        # Of several mounts on one path, the last one is seen.
        self.table = read_table()
        self._seen = {mount.path: mount for mount in self.table}

    def of(self, source: Source) -> tuple[str, ...]:
        """Return where a snapshot is mounted."""
        return tuple(path for path, mount in self._seen.items() if path != source.what and shows(mount, source))

    def lost(self) -> tuple[str, ...]:
        """Return the mount points that show a snapshot whose own directory is gone. Raises HostError."""
        suspects = [path for path, mount in self._seen.items() if _is_lost(mount)]
        if not suspects:
            return ()
        # Of a container that has ended since, the mount went first and then the directory.
        still = {mount.path: mount for mount in read_table()}
        return tuple(path for path in suspects if path in still and _is_lost(still[path]))


def _source_in(shown: str) -> Source | None:
    """Return what a snapshot is mounted from, by its mounts as ``ctr`` prints them for ``/``; None if that is unknown."""
    try:
        asked = parse_ctr_mounts(shown, "/")
    except HostError:
        return None
    return Source(asked[0].kind, asked[0].source, asked[0].options) if len(asked) == 1 else None


def _is_lost(mount: Mount) -> bool:
    if mount.type != "overlay":
        return bool(_DELETED.search(mount.root) or _DELETED_FILE.search(_backing_file(mount)))
    upper = option(mount.options, "upperdir")
    return bool(_UPPER.search(upper)) and not os.path.lexists(upper)


def _backing_file(mount: Mount) -> str:
    """Return the file that a mounted loop device stands for; empty for anything else."""
    try:
        with open(_BACKING_FILE.format(mount.device), encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


class WritableSnapshots:
    """The writable snapshots of a daemon without a container. ``trouble`` has the reasons for parts that can't be read."""

    def __init__(self, ctr: Ctr, mounts: NodeMounts, on_demand: Collection[str] = ()) -> None:
        """Don't ask snapshotters in ``on_demand`` for mounts, because this would mount their layers."""
        self._ctr = ctr
        self._on_demand = on_demand
        self._mounts = mounts
        self.trouble: list[str] = []

    def all(self, snapshotters: Sequence[str]) -> tuple[WritableSnapshot, ...]:
        """Return the writable snapshots of all namespaces."""
        return tuple(held for namespace in self._ctr.namespaces() for held in self.of(namespace, snapshotters))

    def of(self, namespace: str, snapshotters: Sequence[str]) -> tuple[WritableSnapshot, ...]:
        """Return the writable snapshots of one namespace."""
        try:
            listed = [(name, key) for name in snapshotters for key in self._active(namespace, name)]
            if not listed:
                return ()
            containers = self._containers(namespace)
            listed = [(name, key) for name, key in listed if not is_unpacking(key)]
            unexplained = containers.difference(key for _name, key in listed)
            listed = [(name, key) for name, key in listed if key not in containers]
            leases = self._leases(namespace) if listed else ()
        except HostError as error:
            self.trouble.append(str(error))
            return ()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = pool.map(lambda one: self._try_held(namespace, one[0], one[1], leases), listed)
        found = [held for held in answers if held is not None]
        theirs = self._snapshots_of(namespace, unexplained) if found else frozenset()
        return tuple(held for held in found if held.key not in theirs)

    def sizes(self, several: Sequence[WritableSnapshot]) -> dict[str, int | None]:
        """Return the bytes that were written to each, by what it is."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(map(_described, several), pool.map(self.size, several)))

    def size(self, held: WritableSnapshot) -> int | None:
        """Return the bytes that were written to it; None if the snapshotter doesn't say."""
        try:
            stdout = self._snapshots(held.namespace, held.snapshotter, "usage", "-b", "--", held.key, doing="ask for a size")
        except HostError as error:
            self.trouble.append(str(error))
            return None
        return usage.parse_usage(stdout).get(held.key)

    def _active(self, namespace: str, snapshotter: str) -> list[str]:
        try:
            snapshots = NamespaceStore(self._ctr, namespace).snapshots(snapshotter).all()
        except HostError as error:
            self.trouble.append(str(error))
            return []
        return [key for key, snapshot in snapshots.items() if snapshot.kind == _ACTIVE]

    def _containers(self, namespace: str) -> frozenset[str]:
        return frozenset(self._ask(namespace, "containers", "ls", "-q", doing="ask containerd for its containers").split())

    def _leases(self, namespace: str) -> tuple[Lease, ...]:
        doing = "ask containerd for its leases"
        try:
            return parse_leases(self._ask(namespace, "leases", "ls", doing=doing))
        except ValueError as error:
            raise HostError(f"cannot {doing}: {error}") from error

    def _try_held(self, namespace: str, snapshotter: str, key: str, leases: Sequence[Lease]) -> WritableSnapshot | None:
        """Return a snapshot; None if it is gone, or can't be read."""
        try:
            return self._held(namespace, snapshotter, key, leases)
        except (HostError, ValueError) as error:
            if _NOT_FOUND not in str(error):
                self.trouble.append(str(error))
            return None

    def _held(self, namespace: str, snapshotter: str, key: str, leases: Sequence[Lease]) -> WritableSnapshot:
        doing = f"inspect the snapshot {key}"
        held = model.parse_writable_snapshot(
            namespace, snapshotter, self._snapshots(namespace, snapshotter, "info", "--", key, doing=doing)
        )
        source = None
        if snapshotter not in self._on_demand:
            doing = f"ask for the mounts of the snapshot {key}"
            source = _source_in(self._snapshots(namespace, snapshotter, "mounts", "/", key, doing=doing))
        return replace(
            held,
            lease=lease_of(snapshotter, key, leases),
            others=tuple(lease.id for lease in leases if not lease.names(snapshotter, key)),
            mount_points=self._mounts.of(source) if source is not None else None,
            source=source,
        )

    def _snapshots_of(self, namespace: str, containers: Iterable[str]) -> frozenset[str]:
        """Return the keys of containers' snapshots; most have the name of their container."""
        found = set()
        for container in containers:
            try:
                text = self._ask(namespace, "containers", "info", container, doing=f"inspect the container {container}")
                found.add(str(json.loads(text).get("SnapshotKey") or ""))
            except (HostError, ValueError) as error:
                if _NOT_FOUND not in str(error):
                    self.trouble.append(str(error))
        return frozenset(found)

    def _snapshots(self, namespace: str, snapshotter: str, *arguments: str, doing: str) -> str:
        return self._ask(namespace, "snapshots", "--snapshotter", snapshotter, *arguments, doing=doing)

    def _ask(self, namespace: str, *arguments: str, doing: str) -> str:
        return self._ctr.in_namespace(namespace, *arguments, doing=doing)


def loaded_snapshotters(plugins: Iterable[Plugin]) -> list[str]:
    """Return the names of those that the daemon can use now."""
    return [plugin.id for plugin in plugins if plugin.is_snapshotter and plugin.status == "ok"]


def enabled_units(runner: Runner, paths: Iterable[str]) -> dict[str, bool]:
    """Return by path whether the unit that mounts a toolbox is started at boot. Raises HostError without systemd."""
    names = {}
    for path in paths:
        try:
            names[path] = unit_name(path)
        except ValueError:
            continue  # none can be made for it
    if not names:
        return {}
    arguments = ("--property=Id,UnitFileState", "--", *names.values())
    stdout = runner.run("systemctl", "show", *arguments, doing="ask systemd about the units of toolboxes")
    states = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in stdout.split("\n\n")]
    enabled = {state.get("Id") for state in states if state.get("UnitFileState") == "enabled"}
    return {path: name in enabled for path, name in names.items()}


def read_toolboxes(
    containerd: Containerd, snapshotters: Sequence[str], default: str, expected: Sequence[ExpectedToolbox] | None
) -> Toolboxes:
    """Read a node's writable snapshots. ``expected`` None: nothing is expected, and no pin is unlisted.

    Raises HostError if nothing can be said of them.
    """
    mounts = NodeMounts()
    snapshots = WritableSnapshots(containerd.ctr, mounts, mounted_on_demand(containerd.version))
    held = snapshots.all(snapshotters)
    wanted = {_place(one, default): one for one in expected or ()}
    found = {(one.namespace, one.snapshotter, one.path): one for one in held}
    unlisted = [one for one in held if one.pinned and (one.namespace, one.snapshotter, one.path) not in wanted]
    judged = [
        read_expected(containerd, one, place[1], found.get(place), mounts.table)
        if place[1] in snapshotters
        else ToolboxState(one, trouble=f"the snapshotter {place[1]} isn't loaded")
        for place, one in wanted.items()
    ]
    return Toolboxes(
        expected=tuple(judged),
        unlisted=snapshots.sizes(unlisted) if expected is not None else {},
        at_risk=tuple(risk for risk in map(model.risk_of, held) if risk is not None),
        lost=mounts.lost(),
        trouble="; ".join(dict.fromkeys(snapshots.trouble)),
        pinned=sum(one.pinned for one in held),
    )


def _place(expected: ExpectedToolbox, default: str) -> tuple[str, str, str]:
    return expected.namespace, expected.snapshotter or default, expected.path


def _described(held: WritableSnapshot) -> str:
    return f"{held.key} in {held.namespace} ({held.snapshotter})"
