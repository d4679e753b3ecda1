# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of systemd-analyze 257."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import boot_complaints, missing_requirements

UNIT = "var-lib-toolbox-debug.mount"
CYCLE = f"""multi-user.target: Found ordering cycle on systemd-user-sessions.service/start
multi-user.target: Found dependency on {UNIT}/start
multi-user.target: Found dependency on multi-user.target/start
multi-user.target: Job {UNIT}/start deleted to break ordering cycle starting with multi-user.target/start
"""
OTHER = """a.service: Found ordering cycle on b.service/start
a.service: Found dependency on a.service/start
a.service: Job b.service/start deleted to break ordering cycle starting with a.service/start
"""


def test_conditions_that_fail_are_named() -> None:
    conditions = f"{UNIT}: ConditionPathExists=/nowhere failed.\nConditions failed.\n"
    assert boot_complaints(UNIT, conditions, "") == ("ConditionPathExists=/nowhere failed",)
    triggered = f"{UNIT}: ConditionPathExists=|/nowhere failed.\nAsserts succeeded.\nConditions succeeded.\n"
    assert boot_complaints(UNIT, triggered, "") == ()


def test_an_ordering_cycle_is_named_with_its_units() -> None:
    cycle = "an ordering cycle with multi-user.target, systemd-user-sessions.service, which systemd breaks by leaving out a unit"
    assert boot_complaints(UNIT, "Conditions succeeded.\n", OTHER + CYCLE + OTHER) == (f"it is part of {cycle}",)
    assert boot_complaints(UNIT, "", OTHER + CYCLE.replace("debug", "debugger")) == ()


def test_a_cycle_in_one_line_is_read() -> None:
    said = f"Found ordering cycle: {UNIT}/start after a.service/start after {UNIT}/start\n"
    assert "cycle with a.service, which" in boot_complaints(UNIT, "", said)[0]


def test_units_that_are_needed_and_not_found_are_named() -> None:
    said = f"{UNIT}: Failed to create {UNIT}/start: Unit gone.service not found.\n"
    assert missing_requirements(UNIT, said) == ("gone.service",)
    assert missing_requirements("other.mount", said) == ()
