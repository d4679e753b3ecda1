# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of containers and handlers after an upgrade."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.probe.plan import FAILED, NOT_TRIED, STARTED, Outcome, Report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.containers import (
    Fate,
    broken_handlers,
    fate,
    parse_tasks,
    unproven_handlers,
)

TASKS = """TASK        PID      STATUS
survivor    10441    RUNNING
paused      10442    PAUSED
over        10443    STOPPED
odd         0        UNKNOWN
"""


def test_tasks_that_run_have_a_process() -> None:
    assert parse_tasks(TASKS, "k8s.io") == {"k8s.io/survivor": 10441, "k8s.io/paused": 10442}


def test_no_tasks_are_none() -> None:
    assert parse_tasks("TASK    PID    STATUS\n", "default") == {}


def test_a_container_with_the_same_process_runs_on() -> None:
    assert fate({"a": 1}, {"a": 1, "new": 2}, {1}) == Fate(("a",), (), ())


def test_a_container_whose_process_runs_and_that_the_daemon_does_not_list_is_lost() -> None:
    assert fate({"a": 1, "b": 2}, {"b": 2}, {1, 2}) == Fate(("b",), (), ("a",))


def test_a_container_whose_process_ended_is_not_lost() -> None:
    assert fate({"job": 1}, {}, ()) == Fate((), ("job",), ())


def test_a_container_that_was_started_again_has_ended() -> None:
    assert fate({"a": 1}, {"a": 9}, {9}) == Fate((), ("a",), ())


def reports(*states: str) -> Report:
    outcomes = [Outcome(f"handler{number}", state, "" if state == STARTED else "why") for number, state in enumerate(states)]
    return Report(tuple(outcomes))


def test_a_handler_that_worked_and_fails_is_broken() -> None:
    assert broken_handlers(reports(STARTED, STARTED), reports(FAILED, STARTED)) == {"handler0": "why"}


def test_a_handler_that_failed_before_is_unproven() -> None:
    before, after = reports(FAILED), reports(FAILED)
    assert broken_handlers(before, after) == {}
    assert unproven_handlers(before, after) == {"handler0": "failed: why"}


def test_a_new_handler_has_to_work() -> None:
    assert broken_handlers(reports(STARTED), reports(STARTED, FAILED)) == {"handler1": "why"}


def test_a_handler_that_was_not_tried_is_unproven() -> None:
    assert unproven_handlers(reports(NOT_TRIED), reports(NOT_TRIED)) == {"handler0": "not tried: why"}
    assert unproven_handlers(reports(STARTED), reports(STARTED)) == {}
