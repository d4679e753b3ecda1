#!/usr/bin/env python3
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of tested faults in docs/verify.md, from tests/faults. Run it to bring the page up to date."""

from __future__ import annotations

from faults import ROUNDS, Fault
from kata_tables import ROOT, table, updated

SCRIPT = "fault_table"
PAGE = ROOT / "docs/verify.md"
HEALED_BY = {
    "provision": "`slipway.node.provision`",
    "repair": "`slipway.node.repair`",
    "command": "the command in the remedy",
    "steps": "the steps of the remedy",
    "hand": "hand, as the remedy says",
}


def faults() -> str:
    rows = [
        [one["name"], f"`{one['check']}`", _status(one["status"]), _proof(one), HEALED_BY[one.get("heal_by", "hand")]]
        for faults in ROUNDS
        for one in faults
    ]
    return table(["fault", "found by", "status", "proved by", "healed by"], sorted(rows, key=lambda row: row[1]))


def _status(status: str | dict[str, str]) -> str:
    return status if isinstance(status, str) else ", ".join(f"{value} on {line}" for line, value in status.items())


def _proof(fault: Fault) -> str:
    if "handler" in fault:
        return "a pod that does not start"
    if "proof" in fault:
        return "a command that fails"
    return f"not proved: {fault['reason']}" if "reason" in fault else ""


SECTIONS = {"faults": faults}


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(), SECTIONS, SCRIPT))
