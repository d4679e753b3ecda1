# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of the collection on a node: those that a run takes back, those that stay, and the reasons to refuse the run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.sizes import shown
from ansible_collections.slipway.node.plugins.module_utils.deprovision.places import Places
from ansible_collections.slipway.node.plugins.module_utils.node_spec.kata import INSTALL_ROOT
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import mapper_name

# Objects that a run removes only if they are named.
IMAGES, TOOLBOXES, KATA, THIN_POOL, SCRATCH_FILES, CONTAINERD = REMOVABLE = (
    "images",
    "toolboxes",
    "kata",
    "thin_pool",
    "scratch_files",
    "containerd",
)
# Objects that a run removes even if containers run, if deprovision_force names them.
FORCIBLE = (CONTAINERD,)
_SHOWN = 3
_POOL = re.compile(r"lvchange --activate y ([A-Za-z0-9+_.-]+)/([A-Za-z0-9+_.-]+);")
_LOOP_FILE = re.compile(r"^ExecStart=losetup --find --nooverlap (/.*)$", re.MULTILINE)


@dataclass(frozen=True)
class ThinPool:
    """A pool of LVM that the unit of the role devmapper names. ``devices`` are those of its volume group.

    ``others`` are the other volumes of the group. ``snapshots`` is the number of containerd's devices in the pool, None if
    unknown.
    """

    volume_group: str
    name: str
    loop_file: str = ""
    loop_device: str = ""
    devices: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    snapshots: int | None = 0
    present: bool = False
    group_present: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the pool as the module returns it."""
        return {
            "volume_group": self.volume_group,
            "pool": self.name,
            "mapper_name": mapper_name(self.volume_group, self.name),
            "present": self.present,
            "group_present": self.group_present,
            "devices": list(self.devices),
            "others": list(self.others),
            "loop_file": self.loop_file or None,
            "loop_device": self.loop_device or None,
        }


@dataclass(frozen=True)
class ToolboxTrace:
    """A toolbox with its containerd namespace and snapshotter. ``size`` in bytes, None if unknown."""

    path: str
    namespace: str
    snapshotter: str
    size: int | None

    def __str__(self) -> str:
        size = "an unknown number of bytes" if self.size is None else shown(self.size)
        return f"the toolbox {self.path} with {size}"

    def to_dict(self) -> dict[str, Any]:
        """Return the toolbox as the module returns it."""
        return {"path": self.path, "namespace": self.namespace, "snapshotter": self.snapshotter, "size_bytes": self.size}


@dataclass(frozen=True)
class Traces:
    """The objects of the collection on a node.

    ``settings`` are the files that containerd_config wrote, and its record. ``registries`` and ``kata_handlers`` are directories
    with files of the collection, ``files`` are those of the roles, ``caches`` are directories. ``restore`` are the files of
    upgrades: the unit and the entries of the state directory. ``upgrading`` is the reason to refuse a run if an upgrade was
    interrupted. ``releases`` are versions by name. ``unknown`` are the reasons for which parts couldn't be read.
    """

    places: Places = field(default_factory=Places)
    noted: bool = False
    settings: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    kata_handlers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    upgrading: str = ""
    installed: bool = True
    package: str = ""
    releases: Mapping[str, str | None] = field(default_factory=dict)
    unit_file: str = ""
    images: Mapping[str, int] = field(default_factory=dict)
    toolboxes: tuple[ToolboxTrace, ...] = ()
    containers: tuple[str, ...] = ()
    kata_processes: tuple[int, ...] = ()
    thin_pool: ThinPool | None = None
    scratch_files: tuple[str, ...] = ()
    interrupted_pulls: str = ""
    unknown: tuple[str, ...] = ()

    def taken_back(self, remove: Collection[str]) -> bool:
        """Return whether a run with these names would change the node."""
        named = {
            TOOLBOXES: self.toolboxes,
            KATA: "kata" in self.releases,
            THIN_POOL: self.thin_pool,
            SCRATCH_FILES: self.scratch_files,
            CONTAINERD: self.unit_file or self.package or {"containerd", "runc"} & set(self.releases),
        }
        always = (self.noted, self.settings, self.registries, self.kata_handlers, self.files, self.caches, self.restore)
        return any(map(bool, always)) or any(bool(found) for name, found in named.items() if name in remove)

    def to_dict(self, remove: Sequence[str], force: Sequence[str]) -> dict[str, Any]:
        """Return the traces as the module returns them."""
        return {
            "found": self.taken_back(remove),
            "problems": list(problems(self, remove, force)),
            "left": list(left(self, remove)),
            "unknown": list(self.unknown),
            "places": self.places.to_dict(),
            "settings": list(self.settings),
            "registries": list(self.registries),
            "kata_handlers": list(self.kata_handlers),
            "files": list(self.files),
            "caches": list(self.caches),
            "restore": list(self.restore),
            "releases": dict(self.releases),
            "unit_file": self.unit_file or None,
            "package": self.package or None,
            "toolboxes": [one.to_dict() for one in self.toolboxes],
            "thin_pool": self.thin_pool.to_dict() if self.thin_pool is not None else None,
            "scratch_files": list(self.scratch_files),
        }


def parse_pool_unit(text: str) -> tuple[str, str, str] | None:
    """Return volume group, pool and loop file (empty: none) from the unit of the role devmapper; None if it names no pool."""
    pool, file = _POOL.search(text), _LOOP_FILE.search(text)
    return (pool[1], pool[2], file[1] if file else "") if pool else None


def own_scratch_files(files: Iterable[str], configured: str, settings: Collection[str]) -> tuple[str, ...]:
    """Return the files without the configured one, if the collection's settings are taken back: it is then that of others."""
    return tuple(path for path in files if settings or path != configured)


def problems(traces: Traces, remove: Collection[str], force: Collection[str]) -> Iterator[str]:
    """Yield the reasons to refuse the run, one sentence each."""
    if traces.upgrading:
        yield traces.upgrading
    if traces.settings and not traces.installed:
        yield (
            f"containerd isn't installed, so its earlier configuration can't be checked ({', '.join(traces.settings)} are left): "
            "install containerd again, or remove these files by hand"
        )
    if CONTAINERD in remove and traces.containers and CONTAINERD not in force:
        yield (
            f"containers run, {_some(traces.containers)}, so containerd isn't removed: drain the node, or list containerd in "
            "deprovision_force too"
        )
    if KATA in remove and traces.kata_processes:
        yield f"Kata runs (processes {_some(list(map(str, traces.kata_processes)))}), so it isn't removed: drain the node first"
    pool = traces.thin_pool
    # The run removes images first, and the snapshots in the pool may be theirs. The role reads the pool again after that.
    if THIN_POOL in remove and pool is not None and not (pool.snapshots and IMAGES in remove):
        yield from _pool_problems(pool)
    if traces.unknown and {TOOLBOXES, CONTAINERD}.intersection(remove):
        yield f"the objects to remove can't be read: {'; '.join(traces.unknown)}"


def _pool_problems(pool: ThinPool) -> Iterator[str]:
    name = f"{pool.volume_group}/{pool.name}"
    if pool.snapshots is None:
        yield f"whether the thin pool {name} holds snapshots can't be determined, so it isn't removed: see lvs and dmsetup status"
    elif pool.snapshots:
        yield (
            f"the thin pool {name} holds snapshots ({pool.snapshots}), so it isn't removed: remove the images and containers of "
            "the snapshotter devmapper first"
        )


def left(traces: Traces, remove: Collection[str]) -> Iterator[str]:
    """Yield the objects that stay on the node, each with the name that removes it in brackets."""
    if traces.images and IMAGES not in remove:
        where = ", ".join(f"{count} in {namespace}" for namespace, count in sorted(traces.images.items()))
        yield f"images: {where} [images]"
    if TOOLBOXES not in remove:
        yield from (f"{toolbox} [toolboxes]" for toolbox in traces.toolboxes)
    if "kata" in traces.releases and KATA not in remove:
        yield f"{INSTALL_ROOT} with Kata {traces.releases['kata'] or ''} [kata]".replace("  ", " ")
    if traces.thin_pool is not None and THIN_POOL not in remove:
        yield f"the thin pool {traces.thin_pool.volume_group}/{traces.thin_pool.name}, its unit and its profile [thin_pool]"
    if SCRATCH_FILES not in remove:
        yield from (f"the scratch file {path} [scratch_files]" for path in traces.scratch_files)
    if CONTAINERD not in remove:
        yield from (
            f"{name} {version or ''} from a release [containerd]".replace("  ", " ")
            for name, version in sorted(traces.releases.items())
            if name != "kata"
        )
        if traces.package:
            yield f"the package {traces.package} [containerd]"
    if traces.interrupted_pulls:
        yield f"{traces.interrupted_pulls}: a pull was interrupted, and images may be damaged; slipway.node.repair checks them"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' and others' if len(names) > _SHOWN else ''}"
