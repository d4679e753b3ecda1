# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from fault_table import HEALED_BY, PAGE, SCRIPT, SECTIONS
from faults import ROUNDS
from kata_tables import updated

from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS, STATUSES

FAULTS = [fault for faults in ROUNDS for fault in faults]


def test_the_page_lists_the_faults_that_are_tested() -> None:
    page = PAGE.read_text()
    assert updated(page, SECTIONS, SCRIPT) == page, f"run .venv/bin/python tests/{SCRIPT}.py"


def test_each_fault_names_a_check_and_its_finding() -> None:
    for fault in FAULTS:
        status = fault["status"]
        assert fault["check"] in CHECKS, fault
        assert ({status} if isinstance(status, str) else set(status.values())) <= set(STATUSES), fault
        assert fault["found"] and {"inject", "config", "top", "proof"} & set(fault), fault


def test_each_fault_of_a_handler_is_seen_by_a_probe_or_has_the_reason() -> None:
    for fault in FAULTS:
        seen = {"container", "pod"} - set(fault.get("unprobed", {}))
        assert "handler" not in fault or not seen or fault["says"], fault


def test_faults_that_a_remedy_repairs_are_of_a_known_kind() -> None:
    assert {fault["heal_by"] for fault in FAULTS if "heal_by" in fault} == set(HEALED_BY) - {"hand"}


def test_no_fault_is_listed_twice() -> None:
    names = [fault["name"] for fault in FAULTS]
    assert len(names) == len(set(names)) > 60


def test_each_fault_is_proved_or_says_why_it_can_not_be() -> None:
    assert [one["name"] for one in FAULTS if not {"handler", "proof", "reason"}.intersection(one)] == []
