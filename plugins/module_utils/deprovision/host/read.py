# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the objects of the collection on a node, by records and marks. No inventory is needed."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record, record_path
from ansible_collections.slipway.node.plugins.module_utils.config.plan import is_foreign
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import MANAGED, drop_in_path
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import mounted_on_demand
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import running_shims
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import JOURNAL, STATE_DIRECTORY, interrupted
from ansible_collections.slipway.node.plugins.module_utils.deprovision.places import NOTES, Places
from ansible_collections.slipway.node.plugins.module_utils.deprovision.traces import (
    ThinPool,
    ToolboxTrace,
    Traces,
    own_scratch_files,
    parse_pool_unit,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.host.files import read_found
from ansible_collections.slipway.node.plugins.module_utils.kata.plan import plan_absent as plan_kata
from ansible_collections.slipway.node.plugins.module_utils.node_spec.kata import INSTALL_ROOT
from ansible_collections.slipway.node.plugins.module_utils.node_spec.stages import (
    KATA_MODULES_FILE,
    KATA_PREFIX,
    TOOLBOX_COMMAND_FILE,
    TOOLBOX_DEFAULTS_FILE,
)
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.host.files import read_created, read_hosts
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import plan_absent as plan_registries
from ansible_collections.slipway.node.plugins.module_utils.release.host.install import read_state
from ansible_collections.slipway.node.plugins.module_utils.release.plan import plan_absent as plan_release
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.thin_pool import loop_device, read_ids, read_volume
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import mapper_name
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.toolbox import mount_unit
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.state import NodeMounts, WritableSnapshots
from ansible_collections.slipway.node.plugins.module_utils.upgrade.restore_script import UNIT_PATH

RELEASES = {"containerd": "/usr/local/bin", "runc": "/usr/local/bin", "kata": os.path.dirname(INSTALL_ROOT)}
POOL_UNIT = "/etc/systemd/system/slipway-devmapper.service"
_EROFS_MODULES_FILE = "/etc/modules-load.d/slipway-erofs.conf"
_T = TypeVar("_T")


class NodeTraces:
    """One node. ``known`` are places that the inventory names. ``unknown`` gets the reason for each part that can't be read."""

    def __init__(self, containerd: Containerd, drop_in_file: str, known: Places) -> None:
        self._containerd = containerd
        self._drop_in_file = drop_in_file
        self._known = known
        self.unknown: list[str] = []

    def read(self) -> Traces:
        """Read all traces. Raises HostError if a record of the collection can't be read."""
        notes = read_text(NOTES)
        try:
            noted = Places.from_text(notes)
        except ValueError as error:
            raise HostError(f"{NOTES} can't be read: {error}; remove it, and run the playbook again") from error
        releases = self._releases()
        toolboxes = self._asked(self._toolboxes) or ()
        settings = tuple(self._settings())
        places = noted.plus(self._known).plus(self._places(releases, toolboxes))
        shims = tuple(running_shims(self._containerd.address))
        return Traces(
            places=places,
            noted=os.path.isdir(STATE_DIRECTORY),
            settings=settings,
            registries=tuple(path for path in places.registries if _has_registries(path)),
            kata_handlers=tuple(path for path in places.kata if _has_handlers(path)),
            files=tuple(_role_files()),
            caches=tuple(path for path in places.caches if os.path.isdir(path)),
            restore=tuple(_restore_files()),
            upgrading=interrupted(read_text(JOURNAL)),
            installed=self._containerd.installed,
            package=self._package(),
            releases=releases,
            unit_file=self._unit_file(),
            images=self._asked(self._images) or {},
            toolboxes=toolboxes,
            containers=shims,
            kata_processes=tuple(_processes_below(f"{KATA_PREFIX}/kata/")),
            thin_pool=self._thin_pool(),
            scratch_files=own_scratch_files(filter(os.path.isfile, places.scratch_files), self._scratch_file(), settings),
            interrupted_pulls=next((path for path in map(_pulls_beside, places.caches) if os.path.exists(path)), ""),
            unknown=tuple(dict.fromkeys(self.unknown)),
        )

    def _asked(self, question: Callable[[], _T]) -> _T | None:
        """Return the answer to a question. Without an answer, return None, and add the reason to ``unknown``."""
        try:
            return question()
        except (HostError, ValueError) as error:
            self.unknown.append(str(error))
            return None

    @cached_property
    def _record(self) -> Record:
        return read_record(self._containerd.config_file)

    @cached_property
    def _config(self) -> EffectiveConfig | None:
        return self._asked(lambda: self._containerd.config) if self._containerd.installed else None

    def _settings(self) -> Iterable[str]:
        """Yield the files that containerd_config has to take back."""
        record = record_path(self._containerd.config_file)
        if os.path.lexists(record):
            yield record
        for path in (self._drop_in_file, drop_in_path(self._containerd.unit.name)):
            text = read_text(path)
            if text is not None and not is_foreign(text):
                yield path

    def _places(self, releases: Iterable[str], toolboxes: Iterable[ToolboxTrace]) -> Places:
        """Return the places that the records and the daemon's configuration name, with earlier values of the records."""
        config = self._config
        named = [
            str(one) for path, key in self._record.keys.items() if path[-1] == "config_path" for one in (key.value, *key.earlier)
        ]
        named += [config.registry_config_path or ""] if config is not None else []
        registries = tuple(path for one in named for path in one.split(":") if path.startswith("/"))
        created = [directory for path in (*registries, *self._known.registries) for directory in read_created(path)]
        created += self._record.directories
        created += [KATA_PREFIX] * bool(releases)
        created += {os.path.dirname(one.path) for one in toolboxes}
        if config is None:
            return Places(registries=registries, directories=tuple(created))
        handlers = [one.config_path for one in config.handlers.values() if one.config_path]
        scratch = self._scratch_file()
        return Places(
            registries=registries,
            kata=tuple(os.path.dirname(os.path.dirname(path)) for path in handlers),
            caches=(os.path.join(config.root or "/var/lib/containerd", "slipway-trees"),),
            scratch_files=(scratch,) if scratch else (),
            directories=tuple(created),
        )

    def _scratch_file(self) -> str:
        """Return the file that the daemon's configuration names, empty if there is none."""
        return str(self._config.snapshotter_table("blockfile").get("scratch_file") or "") if self._config is not None else ""

    def _releases(self) -> dict[str, str | None]:
        found = {}
        for name, links in RELEASES.items():
            home = f"{KATA_PREFIX}/{name}"
            state = read_state(home, links)
            if plan_release(state, home=home).changed:
                found[name] = state.version
        return found

    def _unit_file(self) -> str:
        name = self._containerd.unit.name
        path = f"/etc/systemd/system/{name}"
        return path if _is_managed(path) else ""

    def _package(self) -> str:
        """Return the package that contains containerd's program, empty if none does."""
        program, runner = self._containerd.program.path, self._containerd.runner
        if program is None or runner.find("dpkg-query") is None:
            return ""
        done = runner.try_run("dpkg-query", "--search", os.path.realpath(program))
        return done.stdout.partition(":")[0].strip() if done.code == 0 else ""

    def _images(self) -> dict[str, int]:
        if not self._containerd.installed:
            return {}
        counts = {
            namespace: len(NamespaceStore(self._containerd.ctr, namespace).images.references())
            for namespace in self._containerd.namespaces
        }
        return {namespace: count for namespace, count in counts.items() if count}

    def _toolboxes(self) -> tuple[ToolboxTrace, ...]:
        """Return the pinned snapshots that the collection created, or that one of its units mounts."""
        containerd = self._containerd
        if not containerd.installed:
            return ()
        snapshots = WritableSnapshots(containerd.ctr, NodeMounts(), mounted_on_demand(containerd.version))
        held = snapshots.all(containerd.loaded_snapshotters)
        ours = [one for one in held if one.pinned and (one.image or _has_unit(one.path))]
        sizes = [snapshots.size(one) for one in ours]
        self.unknown += snapshots.trouble
        return tuple(ToolboxTrace(one.path, one.namespace, one.snapshotter, size) for one, size in zip(ours, sizes))

    def _thin_pool(self) -> ThinPool | None:
        text = read_text(POOL_UNIT) if _is_managed(POOL_UNIT) else None
        named = parse_pool_unit(text) if text is not None else None
        if named is None:
            return None
        # A pool that can't be read isn't removed.
        return self._asked(lambda: self._pool(*named)) or ThinPool(*named, snapshots=None, present=True)

    def _pool(self, group: str, pool: str, loop_file: str) -> ThinPool:
        runner = self._containerd.runner
        present, volume = read_volume(runner, group, pool)
        attached = loop_device(runner, loop_file) if loop_file and os.path.exists(loop_file) else ""
        if not present:
            return ThinPool(group, pool, loop_file, attached)
        doing = f"ask LVM for the volume group {group}"
        rows = runner.run("lvs", "--noheadings", "--options", "lv_name,pool_lv", "--", group, doing=doing).splitlines()
        volumes = {name: pools for name, *pools in map(str.split, rows)}
        # LVM doesn't list the devices that containerd creates. If LVM has thin volumes in the pool, the pool is NAME-tpool.
        known = sum(pools == [pool] for pools in volumes.values())
        name = mapper_name(group, pool)
        name = f"{name}-tpool" if os.path.exists(f"/dev/mapper/{name}-tpool") else name
        devices = runner.run("vgs", "--noheadings", "--options", "pv_name", "--", group, doing=doing).split()
        readable = volume is not None and volume.active
        held = known or (len(read_ids(runner, name)) if readable else None)
        return ThinPool(
            group,
            pool,
            loop_file,
            attached,
            devices=tuple(devices),
            others=tuple(sorted(name for name in volumes if name != pool)),
            snapshots=0 if volume is None else held,
            present=volume is not None,
            group_present=True,
        )


def _has_registries(path: str) -> bool:
    return plan_registries(read_hosts(path), [], config_path=path, created=read_created(path)).changed


def _has_handlers(path: str) -> bool:
    return plan_kata(read_found(path), [], config_dir=path).changed


def _is_managed(path: str) -> bool:
    return MANAGED.partition(":")[0].encode() in (read_bytes(path) or b"")[:200]


def _role_files() -> Iterable[str]:
    """Yield the files that roles wrote: those with a mark, and the one for erofs by its name, because it has no mark."""
    for path in (KATA_MODULES_FILE, TOOLBOX_DEFAULTS_FILE, TOOLBOX_COMMAND_FILE):
        if _is_managed(path):
            yield path
    if os.path.isfile(_EROFS_MODULES_FILE):
        yield _EROFS_MODULES_FILE


def _restore_files() -> Iterable[str]:
    """Yield the files of upgrades: the unit, and the entries of the state directory except the notes of this run."""
    if os.path.lexists(UNIT_PATH):
        yield UNIT_PATH
    yield from (path for path in sorted(glob.glob(f"{STATE_DIRECTORY}/*")) if path != NOTES)


def _has_unit(path: str) -> bool:
    return (read_bytes(mount_unit.unit_path(path)) or b"").startswith(mount_unit.MARK.encode())


def _pulls_beside(cache: str) -> str:
    return os.path.join(os.path.dirname(cache), "slipway-pulls.json")


def _processes_below(directory: str) -> Iterable[int]:
    """Yield the processes whose program is in a directory."""
    for link in glob.glob("/proc/[0-9]*/exe"):
        try:
            if os.readlink(link).startswith(directory):
                yield int(link.split("/")[2])
        except OSError:
            continue
