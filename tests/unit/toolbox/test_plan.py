# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as toolbox_plan
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import MARK
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, IMAGE_LABEL, PIN_LABEL, PRESENT
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import (
    CurrentSnapshot,
    CurrentToolbox,
    CurrentUnit,
    Plan,
    plan,
)
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec

PATH = "/var/lib/toolbox/core"
TEXT = f"{MARK}\nas it has to be\n"
OLD, NEW = "sha256:old", "sha256:new"
DEFAULTS: dict[str, Any] = {
    "name": "core",
    "image": "alpine",
    "path": None,
    "state": "mounted",
    "on_image_change": "keep",
    "labels": {},
    "platform": None,
    "namespace": "default",
}


def wanted(**params: Any) -> ToolboxSpec:
    return ToolboxSpec.from_params({**DEFAULTS, **params})


NAMED = {IMAGE_LABEL: "docker.io/library/alpine:latest"}


def snapshot(**changes: Any) -> CurrentSnapshot:
    return replace(CurrentSnapshot(PATH, "Active", OLD, {PIN_LABEL: "2026", **NAMED}), **changes)


UNIT = CurrentUnit(TEXT, loaded=True, enabled=True)
DONE = CurrentToolbox((snapshot(),), mount=toolbox_plan.OURS, point=toolbox_plan.EMPTY, unit=UNIT, unit_text=TEXT, chain=OLD)


def steps(found: CurrentToolbox, **params: Any) -> list[str]:
    return list(plan(found, wanted(**params)).steps)


def test_a_toolbox_is_made_from_nothing() -> None:
    made = plan(CurrentToolbox(chain=NEW, comes=True), wanted(labels={"team": "storage"}))
    assert list(made.steps) == ["pull", "prepare", "label", "directory", "unit", "enable", "mount"]
    assert made.result()["parent"] == NEW and made.result()["pinned"] and not made.adopted
    assert steps(CurrentToolbox(chain=NEW), state="present") == ["prepare", "label"]
    # What another platform's image would be compared with is the node's own.
    assert steps(CurrentToolbox(chain=NEW), state="present", platform="linux/arm64") == ["prepare"]
    assert steps(CurrentToolbox(), state="absent") == []


def test_a_toolbox_as_it_should_be_is_left_alone() -> None:
    assert steps(DONE) == []
    assert steps(replace(DONE, chain=None)) == []
    assert steps(replace(DONE, point=toolbox_plan.EMPTY, mount=toolbox_plan.NOTHING, unit=CurrentUnit()), state="present") == []
    # Labels of others stay.
    assert steps(replace(DONE, snapshots=(snapshot(labels={**snapshot().labels, "other": "1"}),))) == []


def test_a_leased_toolbox_is_pinned_before_it_loses_its_lease() -> None:
    leased = replace(
        DONE, snapshots=(snapshot(key=f"{PATH}/", labels={}),), leases=(f"{PATH}/",), unit=CurrentUnit(), users=("pid 3 (sh)",)
    )
    made = plan(leased, wanted())
    assert list(made.steps) == ["pin", "release", "label", "unit", "enable"]
    assert made.adopted and made.result()["key"] == f"{PATH}/"


def test_drift_is_reported_and_acted_on_only_if_asked() -> None:
    moved = replace(DONE, chain=NEW)
    kept = plan(moved, wanted())
    assert list(kept.steps) == [] and kept.result()["image_drift"] == {"from": OLD, "to": NEW}
    anew = plan(moved, wanted(on_image_change="recreate"))
    assert list(anew.steps) == ["unmount", "remove", "prepare", "label", "unit", "mount"]
    assert anew.result()["image_drift"] is None and anew.result()["parent"] == NEW
    # Nor is the image fetched, or the registry asked, for a toolbox that stays.
    needs = [
        toolbox_plan.needs_image(one, wanted(**options))
        for one in (DONE, moved, replace(DONE, chain=None), CurrentToolbox())
        for options in ({}, {"on_image_change": "recreate"}, {"state": "absent"})
    ]
    assert needs == [False, False, False, False, True, False, False, False, False, True, True, False]
    with pytest.raises(ValueError, match=r"in use and can't be recreated: end pid 7 \(bash\) first"):
        plan(replace(moved, users=("pid 7 (bash)",)), wanted(on_image_change="recreate"))


def test_everything_goes_when_it_is_absent() -> None:
    leased = replace(DONE, leases=(PATH,))
    assert steps(leased, state="absent") == [
        "unmount", "disable", "remove", "release", "collect", "remove_directory",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="can't be removed"):
        plan(replace(DONE, users=("pid 7 (bash)",)), wanted(state="absent"))
    assert steps(CurrentToolbox(point=toolbox_plan.FULL), state="absent") == []


def test_an_outdated_unit_is_renewed_without_a_mount() -> None:
    assert steps(replace(DONE, unit=replace(UNIT, text=f"{MARK}\nold\n"))) == ["unit"]
    assert steps(replace(DONE, unit=replace(UNIT, loaded=False))) == ["unit"]
    assert steps(replace(DONE, unit=replace(UNIT, enabled=False))) == ["enable"]
    assert steps(replace(DONE, mount=toolbox_plan.NOTHING)) == ["mount"]


# By what is found: what is asked, and words of the refusal.
REFUSALS: list[tuple[CurrentToolbox, dict[str, Any], str]] = [
    (replace(DONE, mount=toolbox_plan.OTHER, mounted_from="ext4 /dev/sdb"), {}, "is mounted from ext4 /dev/sdb"),
    (replace(DONE, mount=toolbox_plan.OTHER, mounted_from="ext4 /dev/sdb"), {"state": "absent"}, "is mounted from"),
    (CurrentToolbox(point=toolbox_plan.FULL, chain=NEW), {}, "has files in it"),
    (CurrentToolbox(point=toolbox_plan.NO_DIRECTORY, chain=NEW), {}, "is not a directory"),
    (replace(DONE, mount=toolbox_plan.STALE, users=("pid 1 (a)",)), {}, "pid 1"),
    (replace(DONE, unit=CurrentUnit("[Mount]\n")), {}, "was not created by slipway.node"),
    (replace(DONE, unit=CurrentUnit(link=True)), {}, "was not created by slipway.node"),
    (replace(DONE, snapshots=(snapshot(), snapshot(key=f"{PATH}/"))), {}, "several snapshots"),
    (replace(DONE, snapshots=(snapshot(kind="Committed"),)), {}, "is Committed, not writable"),
    (replace(DONE, elsewhere=("/mnt",)), {"state": "absent"}, "mounted on /mnt too"),
    (replace(DONE, mount=toolbox_plan.NOTHING, elsewhere=("/mnt",)), {}, "mounted on /mnt too"),
    (replace(DONE, inside=(f"{PATH}/proc",)), {"state": "absent"}, f"end the mount {PATH}/proc first"),
    (replace(DONE, users=tuple(f"pid {n} (x)" for n in range(8))), {"state": "present"}, "unmounted: .* and 3 more first"),
]


@pytest.mark.parametrize(("found", "params", "words"), REFUSALS)
def test_nothing_is_lost_or_hidden(found: CurrentToolbox, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(found, wanted(**params))


def everything() -> Iterator[tuple[CurrentToolbox, ToolboxSpec]]:
    """Every combination of what can be found, with everything that can be asked for."""
    snapshots: list[tuple[CurrentSnapshot, ...]] = [(), (snapshot(),), (snapshot(labels={}),)]
    units = [CurrentUnit(), UNIT, replace(UNIT, text=f"{MARK}\nold\n"), replace(UNIT, enabled=False)]
    mounts = [(toolbox_plan.NOTHING, toolbox_plan.MISSING), (toolbox_plan.NOTHING, toolbox_plan.EMPTY)]
    mounts += [(toolbox_plan.NOTHING, toolbox_plan.FOREIGN)]
    mounts += [(toolbox_plan.OURS, toolbox_plan.EMPTY), (toolbox_plan.STALE, toolbox_plan.EMPTY)]
    asked = [
        wanted(state=state, on_image_change=change, labels=labels)
        for state in ("present", "mounted", "absent")
        for change in ("keep", "recreate")
        for labels in ({}, {"a": "b"})
    ]
    for one, leases, (mount, point), unit, chain, goal in itertools.product(
        snapshots, [(), (PATH,)], mounts, units, [OLD, NEW], asked
    ):
        if mount == toolbox_plan.OURS and not one:
            continue
        text = TEXT if one else None
        yield CurrentToolbox(one, leases, mount=mount, point=point, unit=unit, unit_text=text, chain=chain, comes=not one), goal


def after(found: CurrentToolbox, step: str, made: Plan) -> CurrentToolbox:
    """What the node has when a step has been done."""
    if step in (toolbox_plan.PREPARE, toolbox_plan.PIN, toolbox_plan.LABEL, toolbox_plan.REMOVE):
        return replace(found, **snapshot_after(found, step, made))
    if step == toolbox_plan.UNIT:
        assert found.unit_text is not None
        return replace(found, unit=replace(found.unit, text=found.unit_text, loaded=True))
    if step == toolbox_plan.MOUNT:
        assert found.snapshot is not None and (found.mount, found.point) == (toolbox_plan.NOTHING, toolbox_plan.EMPTY)
        assert found.unit == CurrentUnit(found.unit_text, loaded=True, enabled=True)
    simple: dict[str, dict[str, Any]] = {
        toolbox_plan.PULL: {"comes": False},
        toolbox_plan.RELEASE: {"leases": ()},
        toolbox_plan.UNMOUNT: {"mount": toolbox_plan.NOTHING},
        toolbox_plan.MOUNT: {"mount": toolbox_plan.OURS},
        toolbox_plan.DIRECTORY: {"point": toolbox_plan.EMPTY},
        toolbox_plan.ENABLE: {"unit": replace(found.unit, enabled=True)},
        toolbox_plan.DISABLE: {"unit": CurrentUnit()},
        toolbox_plan.COLLECT: {},
        toolbox_plan.REMOVE_DIRECTORY: {"point": toolbox_plan.MISSING},
    }
    return replace(found, **simple[step])


def snapshot_after(found: CurrentToolbox, step: str, made: Plan) -> dict[str, Any]:
    one, chain = found.snapshot, made.found.chain
    if step == toolbox_plan.PREPARE:
        assert one is None and chain is not None
        fresh = CurrentSnapshot(PATH, "Active", chain, {PIN_LABEL: "now"})
        return {"snapshots": (fresh,), "unit_text": TEXT.replace("be", chain)}
    assert one is not None
    if step == toolbox_plan.REMOVE:
        assert found.mount != toolbox_plan.OURS
        return {"snapshots": (), "unit_text": None}
    labels = {PIN_LABEL: "now"} if step == toolbox_plan.PIN else made.wanted.labels
    return {"snapshots": (replace(one, labels={**one.labels, **labels}),)}


def reached(found: CurrentToolbox, goal: ToolboxSpec) -> bool:
    one = found.snapshot
    gone = found.mount == toolbox_plan.NOTHING and found.unit == CurrentUnit() and not found.leases
    if goal.state == ABSENT or one is None:
        return goal.state == ABSENT and one is None and gone
    labelled = all(one.labels.get(key) == value for key, value in goal.labels.items())
    made_of = not goal.recreate or one.parent == found.chain
    unit = CurrentUnit(found.unit_text, loaded=True, enabled=True)
    mounted = found.mount == toolbox_plan.OURS and found.unit == unit and not found.leases
    return one.pinned and labelled and made_of and (gone if goal.state == PRESENT else mounted)


def run(found: CurrentToolbox, goal: ToolboxSpec, limit: int = 99) -> CurrentToolbox:
    """Up to so many steps of a run; the snapshot is never unprotected, also if it goes at last."""
    made = plan(found, goal)
    for step in made.steps[:limit]:
        had = found.snapshot
        found = after(found, step, made)
        if had is not None and found.snapshot is not None:
            assert found.snapshot.pinned or found.leases or not (had.pinned or made.found.leases)
    return found


def test_every_run_reaches_its_goal_also_after_one_that_was_killed() -> None:
    count = 0
    for found, goal in everything():
        done = run(found, goal)
        assert reached(done, goal), (found, goal, plan(found, goal).steps)
        assert plan(done, goal).steps == ()
        for killed in range(1, len(plan(found, goal).steps)):
            finished = run(run(found, goal, killed), goal)
            assert reached(finished, goal), (found, goal, killed)
        count += 1
    assert count > 1000


def test_what_is_shown_of_a_change_is_what_changes() -> None:
    for found, goal in everything():
        made = plan(found, goal)
        diff = made.diff()
        described = {
            toolbox_plan.PULL,
            toolbox_plan.COLLECT,
            toolbox_plan.DIRECTORY,
            toolbox_plan.REMOVE_DIRECTORY,
            toolbox_plan.UNIT,
        }
        assert (diff["before"] != diff["after"]) or set(made.steps) <= described, (found, goal)
