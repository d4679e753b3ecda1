# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults of an expected toolbox: its protection, its mount as users see it, and its unit at the next boot."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.core.files import Source as UnitFile
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import Assignment, assignments
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as words
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source, option, unit_name, unit_path
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, PRESENT
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import CurrentToolbox
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, WritableSnapshot

# The keys of [Mount] without which a unit mounts something else.
_WHAT = ("What", "Type")
_RESTRICTIONS = ("ro", "noexec")
_REPAIR = "run the playbook slipway.node.repair on this node"
RELOAD = "run 'systemctl daemon-reload'"
# Among the remedies: what the module toolbox_snapshot does when the node is provisioned.
PROVISION = ""


@dataclass(frozen=True)
class Fault:
    """A problem of a toolbox, and the steps that repair it. PROVISION stands for the playbook."""

    problem: str
    remedies: tuple[str, ...] = (PROVISION,)


@dataclass(frozen=True)
class View:
    """A toolbox's mount as users see it.

    ``cover`` is another mount that hides it. ``missing`` are directories of its snapshot and layers that are gone. ``error``
    says why it can't be listed, and ``writable`` whether the kernel lets root write to it.
    """

    mount: Mount | None = None
    cover: Mount | None = None
    missing: tuple[str, ...] = ()
    error: str = ""
    writable: bool = True


@dataclass(frozen=True)
class BootUnit:
    """The drop-ins of a toolbox's unit, and what systemd says of its conditions and of its place in the boot."""

    drop_ins: tuple[UnitFile, ...] = ()
    complaints: tuple[str, ...] = ()


def faults_of(
    expected: ExpectedToolbox, held: WritableSnapshot | None, found: CurrentToolbox, view: View, boot: BootUnit, refusal: str = ""
) -> list[Fault]:
    """Return the faults of an expected toolbox. ``refusal`` is why provisioning would not change anything, or empty."""
    if expected.state == ABSENT:
        faults = [*([Fault("it is still there")] if held is not None else []), *_left(found, "its unit is still there")]
    elif held is None:
        faults = [Fault("there is no such snapshot")]
    else:
        faults = list(_unprotected(held))
        if expected.state == PRESENT:
            faults += _left(found, "a unit mounts it at boot")
        else:
            faults += [*_unusable(held, found, view), *_not_at_boot(expected.path, found, boot)]
    if refusal and not faults:
        return [Fault("provisioning refuses it", (refusal,))]
    return [
        replace(one, remedies=(refusal, *one.remedies)) if refusal and one.remedies[0] == PROVISION else one for one in faults
    ]


def _unprotected(held: WritableSnapshot) -> Iterator[Fault]:
    if not held.pinned:
        yield Fault("it isn't pinned, so garbage collection may delete it")
    if held.lease is not None and held.lease.expires:
        yield Fault(f"it has the lease {held.lease.id}, which ends at {held.lease.expires}")


def _left(found: CurrentToolbox, unit: str) -> Iterator[Fault]:
    if found.mount == words.OURS:
        yield Fault("it is mounted")
    if found.unit.text is not None:
        yield Fault(unit)


def _gone(held: WritableSnapshot, source: Source, missing: Sequence[str]) -> Fault:
    """Return the fault of a snapshot without some of its directories. Only the loss of its files has to be accepted."""
    files, work = source.upper or source.what, option(source.options, "workdir")
    layer = next((one for one in missing if one in source.layers), None)
    name = posixpath.basename(held.path)
    remove = f"remove it with the module slipway.node.toolbox_snapshot (name: {name}, path: {held.path}, state: absent)"
    if files in missing:
        return Fault(f"{files}, which has its files, is gone", (f"run 'mkdir {files}'", remove, PROVISION))
    if layer is not None:
        copy = f"copy the files that you need from {files}"
        return Fault(f"{layer}, a layer below it, is gone", (copy, remove, _REPAIR, PROVISION))
    if work in missing:
        return Fault(f"{work} is gone, without which it can't be mounted", (f"run 'mkdir {work}'", _again(held.path)))
    return Fault(f"{missing[0]} is gone, without which files of its layers can't be changed", (_again(held.path),))


def _again(path: str) -> str:
    return f"run 'systemctl restart {unit_name(path)}' when no process is in it"


def _unusable(held: WritableSnapshot, found: CurrentToolbox, view: View) -> Iterator[Fault]:
    path, again = held.path, _again(held.path)
    if view.missing and held.source is not None:
        yield _gone(held, held.source, view.missing)
    elif view.cover is not None:
        yield Fault(f"{view.cover} hides it", (f"run 'umount {view.cover.path}'",))
    elif found.mount == words.OTHER:
        yield Fault(f"{found.mounted_from} is mounted instead of it", (f"run 'umount {path}'", PROVISION))
    elif found.mount != words.OURS:
        yield Fault("it isn't mounted")
    elif view.mount is not None and "ro" in view.mount.options:
        yield Fault("it is mounted read-only", (again,))
    elif view.error:
        yield Fault(f"it is mounted, but {view.error}", (again,))
    elif not view.writable:
        yield Fault("it is mounted, but the file system of its snapshot is read-only", ("mount that file system writable",))
    if found.mount == words.OURS and view.mount is not None and "noexec" in view.mount.options:
        yield Fault("it is mounted noexec, so no program in it can be run", (again,))


def _not_at_boot(path: str, found: CurrentToolbox, boot: BootUnit) -> Iterator[Fault]:
    unit, file, wanted = found.unit, unit_path(path), found.unit_text
    if unit.link:
        yield Fault(f"its unit is masked: {file} is a link", (f"remove {file}", PROVISION))
    elif unit.text is None or not unit.enabled:
        yield Fault("no enabled unit mounts it at boot")
    elif wanted is not None and unit.text != wanted:
        yield Fault(f"{file} was changed: {_difference(unit.text, wanted)}")
    elif not unit.loaded:
        yield Fault("systemd has not read its unit, or not since a file of it was changed", (RELOAD,))
    if boot.drop_ins and (boot.complaints or overriding_lines(wanted or "", boot.drop_ins)):
        names = ", ".join(one.path for one in boot.drop_ins)
        said = "; ".join([*overriding_lines(wanted or "", boot.drop_ins), *boot.complaints])
        yield Fault(f"its unit doesn't mount it at boot: {said}", (f"remove {names}", RELOAD))


def _difference(found: str, wanted: str) -> str:
    """Return the first line that is missing, or the first that is added."""
    has, needs = found.splitlines(), wanted.splitlines()
    missing = next((line for line in needs if line not in has), None)
    if missing is not None:
        return f"it lacks {missing!r}"
    return f"it adds {next((line for line in has if line not in needs), 'lines twice')!r}"


def overriding_lines(own: str, drop_ins: Sequence[UnitFile]) -> list[str]:
    """Return the lines of drop-ins with which a unit mounts something else, or restricts it."""
    ours = {one.key: one.value for one in assignments(own) if one.section == "Mount"}
    lines = [(file.path, one) for file in drop_ins for one in assignments(file.text) if one.section == "Mount"]
    return [f"{one} in {path}" for path, one in lines if _overrides(ours, one)]


def _overrides(ours: Mapping[str, str], line: Assignment) -> bool:
    if line.key == "Options":
        options = set(line.value.split(","))
        return bool(options.intersection(_RESTRICTIONS)) or not options.issuperset(ours.get("Options", "").split(","))
    return line.key in _WHAT and line.value != ours.get(line.key)
