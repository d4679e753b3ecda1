# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.files import Source as UnitFile
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.store.leases import Lease
from ansible_collections.slipway.node.plugins.module_utils.toolbox.faults import (
    PROVISION,
    BootUnit,
    Fault,
    View,
    faults_of,
    overriding_lines,
)
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import (
    NOTHING,
    OTHER,
    OURS,
    CurrentToolbox,
    CurrentUnit,
)
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, WritableSnapshot

PATH = "/var/lib/toolbox/debug"
UNIT = "var-lib-toolbox-debug.mount"
FILE = f"/etc/systemd/system/{UNIT}"
END = "2026-02-01T12:00:00Z"
HELD = WritableSnapshot("default", "overlayfs", PATH, mount_points=(PATH,))
PINNED = replace(HELD, labels={"containerd.io/gc.root": END})
TEXT = "# Made\n[Unit]\nBefore=umount.target\n[Mount]\nWhat=overlay\nType=overlay\nOptions=lowerdir=/l,upperdir=/u\n"
WELL = CurrentToolbox(mount=OURS, unit=CurrentUnit(TEXT, loaded=True, enabled=True), unit_text=TEXT)
MOUNT = Mount(9, PATH, "overlay", "overlay", ("rw", "relatime"))
TMPFS = Mount(10, "/var/lib/toolbox", "tmpfs", "tmpfs", ("rw",))
VIEW = View(MOUNT)
BOX = ExpectedToolbox(PATH)
PRESENT = ExpectedToolbox(PATH, state="present")
GONE = ExpectedToolbox(PATH, state="absent")
AGAIN = (f"run 'systemctl restart {UNIT}' when no process is in it",)
RELOAD = "run 'systemctl daemon-reload'"
CONDITION = UnitFile(f"{FILE}.d/a.conf", "[Unit]\nConditionPathExists=/nowhere\n")


def unit(**changes: Any) -> CurrentToolbox:
    return replace(WELL, unit=replace(WELL.unit, **changes))


def options(*names: str) -> View:
    return View(replace(MOUNT, options=names))


# The expected toolbox, its snapshot, its state, its mount and its unit; then the problem and its remedies.
Case = tuple[ExpectedToolbox, "WritableSnapshot | None", CurrentToolbox, View, BootUnit, str, tuple[str, ...]]
EMPTY, NO_BOOT = CurrentToolbox(), BootUnit()
CASES: list[Case] = [
    (BOX, None, EMPTY, View(), NO_BOOT, "there is no such snapshot", (PROVISION,)),
    (BOX, HELD, WELL, VIEW, NO_BOOT, "it isn't pinned, so garbage collection may delete it", (PROVISION,)),
    (
        BOX,
        replace(PINNED, lease=Lease(PATH, END)),
        WELL,
        VIEW,
        NO_BOOT,
        f"it has the lease {PATH}, which ends at {END}",
        (PROVISION,),
    ),
    (BOX, PINNED, replace(WELL, mount=NOTHING), View(), NO_BOOT, "it isn't mounted", (PROVISION,)),
    (
        BOX,
        PINNED,
        replace(WELL, mount=OTHER, mounted_from="tmpfs tmpfs"),
        View(),
        NO_BOOT,
        "tmpfs tmpfs is mounted instead of it",
        (f"run 'umount {PATH}'", PROVISION),
    ),
    (BOX, PINNED, WELL, View(MOUNT, TMPFS), NO_BOOT, "tmpfs at /var/lib/toolbox hides it", ("run 'umount /var/lib/toolbox'",)),
    (BOX, PINNED, WELL, options("ro", "rw", "relatime"), NO_BOOT, "it is mounted read-only", AGAIN),
    (BOX, PINNED, WELL, options("rw", "noexec"), NO_BOOT, "it is mounted noexec, so no program in it can be run", AGAIN),
    (
        BOX,
        PINNED,
        WELL,
        View(MOUNT, error="can't be listed: Input/output error"),
        NO_BOOT,
        "it is mounted, but can't be listed: Input/output error",
        AGAIN,
    ),
    (
        BOX,
        PINNED,
        WELL,
        View(MOUNT, writable=False),
        NO_BOOT,
        "it is mounted, but the file system of its snapshot is read-only",
        ("mount that file system writable",),
    ),
    (BOX, PINNED, unit(text=None, enabled=False), VIEW, NO_BOOT, "no enabled unit mounts it at boot", (PROVISION,)),
    (BOX, PINNED, unit(enabled=False), VIEW, NO_BOOT, "no enabled unit mounts it at boot", (PROVISION,)),
    (BOX, PINNED, unit(loaded=False), VIEW, NO_BOOT, "systemd has not read its unit", (RELOAD,)),
    (BOX, PINNED, unit(link=True), VIEW, NO_BOOT, f"its unit is masked: {FILE} is a link", (f"remove {FILE}", PROVISION)),
    (
        BOX,
        PINNED,
        unit(text=TEXT.replace("Before=umount.target\n", "")),
        VIEW,
        NO_BOOT,
        f"{FILE} was changed: it lacks 'Before=umount.target'",
        (PROVISION,),
    ),
    (BOX, PINNED, unit(text=f"{TEXT}a=b\n"), VIEW, NO_BOOT, f"{FILE} was changed: it adds 'a=b'", (PROVISION,)),
    (
        BOX,
        PINNED,
        WELL,
        VIEW,
        BootUnit((CONDITION,), ("ConditionPathExists=/nowhere failed",)),
        "its unit doesn't mount it at boot: ConditionPathExists=/nowhere failed",
        (f"remove {CONDITION.path}", RELOAD),
    ),
    (PRESENT, HELD, EMPTY, View(), NO_BOOT, "it isn't pinned, so garbage collection may delete it", (PROVISION,)),
    (PRESENT, PINNED, replace(WELL, unit=CurrentUnit()), View(), NO_BOOT, "it is mounted", (PROVISION,)),
    (PRESENT, PINNED, replace(WELL, mount=NOTHING), View(), NO_BOOT, "a unit mounts it at boot", (PROVISION,)),
    (GONE, PINNED, EMPTY, View(), NO_BOOT, "it is still there", (PROVISION,)),
    (GONE, None, replace(WELL, mount=NOTHING), View(), NO_BOOT, "its unit is still there", (PROVISION,)),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case[5]}" for number, case in enumerate(CASES)])
def test_each_fault_is_named_with_its_remedy(case: Case) -> None:
    expected, held, found, view, boot, problem, remedies = case
    (fault,) = faults_of(expected, held, found, view, boot)
    assert fault.problem.startswith(problem)
    assert fault.remedies == remedies


@pytest.mark.parametrize(
    ("expected", "held", "found"),
    [(BOX, PINNED, WELL), (BOX, replace(PINNED, lease=Lease(PATH)), WELL), (PRESENT, PINNED, EMPTY), (GONE, None, EMPTY)],
)
def test_a_toolbox_as_expected_has_no_fault(
    expected: ExpectedToolbox, held: WritableSnapshot | None, found: CurrentToolbox
) -> None:
    harmless = BootUnit((UnitFile("/a.conf", "[Unit]\nAfter=zfs.target\n"),))
    assert faults_of(expected, held, found, VIEW, harmless) == []


SOURCE = Source("overlay", "overlay", ("index=off", "workdir=/s/w", "upperdir=/s/u", "lowerdir=/l/2:/l/1"))
REMOVE = f"remove it with the module slipway.node.toolbox_snapshot (name: {PATH.rpartition('/')[2]}, path: {PATH}, state: absent)"
REPAIR = "run the playbook slipway.node.repair on this node"


@pytest.mark.parametrize(
    ("missing", "problem", "remedies"),
    [
        (("/s/u", "/s/w"), "/s/u, which has its files, is gone", ("run 'mkdir /s/u'", REMOVE, PROVISION)),
        (
            ("/l/1", "/s/w/work"),
            "/l/1, a layer below it, is gone",
            ("copy the files that you need from /s/u", REMOVE, REPAIR, PROVISION),
        ),
        (("/s/w", "/s/w/work"), "/s/w is gone, without which it can't be mounted", ("run 'mkdir /s/w'", *AGAIN)),
        (("/s/w/work",), "/s/w/work is gone, without which files of its layers can't be changed", AGAIN),
    ],
)
def test_lost_directories_are_named_before_all_that_follows_from_them(
    missing: tuple[str, ...], problem: str, remedies: tuple[str, ...]
) -> None:
    held = replace(PINNED, source=SOURCE)
    assert faults_of(BOX, held, replace(WELL, mount=NOTHING), View(missing=missing), NO_BOOT) == [Fault(problem, remedies)]


def test_what_provisioning_refuses_is_resolved_first() -> None:
    refusal = f"{PATH} has files in it: move them away"
    (fault,) = faults_of(BOX, PINNED, replace(WELL, mount=NOTHING), View(), NO_BOOT, refusal)
    assert fault.remedies == (refusal, PROVISION)
    (fault,) = faults_of(BOX, PINNED, WELL, View(MOUNT, TMPFS), NO_BOOT, refusal)
    assert fault.remedies == ("run 'umount /var/lib/toolbox'",)
    (fault,) = faults_of(BOX, PINNED, WELL, VIEW, NO_BOOT, refusal)
    assert fault.remedies == (refusal,)


@pytest.mark.parametrize(
    ("line", "overrides"),
    [
        ("Options=lowerdir=/l,upperdir=/u,noatime", False),
        ("Options=lowerdir=/l,upperdir=/u,ro", True),
        ("Options=lowerdir=/l", True),
        ("Type=overlay", False),
        ("Type=tmpfs", True),
        ("What=other", True),
        ("TimeoutSec=5", False),
    ],
)
def test_a_drop_in_that_mounts_something_else_is_seen(line: str, overrides: bool) -> None:
    found = overriding_lines(TEXT, [UnitFile("/a.conf", f"[Unit]\nOptions=x\n[Mount]\n{line}\n")])
    assert found == ([f"{line} in /a.conf"] if overrides else [])
