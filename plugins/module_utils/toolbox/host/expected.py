# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read an expected toolbox as toolbox_snapshot reads it, and as its users see it. Nothing is changed."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source as UnitFile
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount, cover_of
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as steps
from ansible_collections.slipway.node.plugins.module_utils.toolbox.faults import BootUnit, View, faults_of
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host import mountpoint
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.shown import shows
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox import Toolbox
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source, option, unit_name
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import MOUNTED
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import CurrentSnapshot
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, ToolboxState, WritableSnapshot
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec


def read_expected(
    containerd: Containerd, expected: ExpectedToolbox, snapshotter: str, held: WritableSnapshot | None, table: Sequence[Mount]
) -> ToolboxState:
    """Return the state of an expected toolbox. ``held`` is its snapshot, ``table`` the mounts of the node."""
    try:
        return _judged(containerd, expected, snapshotter, held, table)
    except HostError as error:
        return ToolboxState(expected, trouble=str(error))


def _judged(
    containerd: Containerd, expected: ExpectedToolbox, snapshotter: str, held: WritableSnapshot | None, table: Sequence[Mount]
) -> ToolboxState:
    if held is not None and held.source is None:
        return ToolboxState(expected, trouble="whether it is mounted can't be determined")
    spec = ToolboxSpec(posixpath.basename(expected.path), expected.path, expected.state)
    box = Toolbox(containerd, spec, namespace=expected.namespace, snapshotter=snapshotter)
    snapshots = () if held is None else (CurrentSnapshot(held.key, steps.ACTIVE, held.parent, held.labels),)
    leases = () if held is None or held.lease is None else (held.lease.id,)
    source = held.source if held is not None else None
    try:
        found = box.state_of(snapshots, source, leases)
    except ValueError as error:
        return ToolboxState(expected, problem="provisioning refuses it", remedies=(str(error),))
    refusal = ""
    try:
        mountpoint.check_safe(expected.path)
        steps.plan(box.with_users(found) if steps.needs_process_scan(found, spec) else found, spec)
    except ValueError as error:
        refusal = str(error)
    view, boot = View(), BootUnit()
    if expected.state == MOUNTED and source is not None:
        view = read_view(expected.path, source, table)
        boot = _boot_unit(containerd.runner, expected.path, found.unit.drop_ins)
    faults = faults_of(expected, held, found, view, boot, refusal)
    problem = "; ".join(fault.problem for fault in faults)
    return ToolboxState(expected, problem, remedies=tuple(dict.fromkeys(one for fault in faults for one in fault.remedies)))


def read_view(path: str, source: Source, table: Sequence[Mount]) -> View:
    """Return how the users of a toolbox see its mount, if it is in the table of mounts."""
    mount = next((one for one in reversed(table) if one.path == path and shows(one, source)), None)
    needed = [*source.directories, *source.layers]
    work = option(source.options, "workdir")
    if mount is not None and work and "ro" not in mount.options:
        # The kernel makes it when it mounts an overlay, and needs it for every change to a file of a layer.
        needed.append(f"{work}/work")
    missing = tuple(one for one in needed if not os.path.isdir(one))
    cover = cover_of(mount, table) if mount is not None else None
    if mount is None or cover is not None:
        # What another tool mounted isn't touched: it may hang.
        return View(mount, cover, missing)
    try:
        os.listdir(path)
    except OSError as error:
        return View(mount, None, missing, f"can't be listed: {error.strerror}")
    return View(mount, None, missing, writable=os.access(path, os.W_OK))


def _boot_unit(runner: Runner, path: str, drop_ins: Sequence[str]) -> BootUnit:
    if not drop_ins:
        return BootUnit()
    texts = tuple(UnitFile(one, read_text(one) or "") for one in drop_ins)
    unit = Unit(runner, unit_name(path))
    return BootUnit(texts, unit.boot_complaints(unit.analysis(), conditional=True))
