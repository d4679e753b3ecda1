# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import (
    BELONGS,
    FOREIGN,
    LEFTOVERS,
    UNKNOWN,
    DatabaseMatch,
    PoolState,
    Volume,
    parse_status,
)
from ansible_collections.slipway.node.plugins.module_utils.verify import thin_pool_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import checks_in, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation, Finding, NodeState

CHECKS = checks_in(thin_pool_checks)
LINE = "0 614400 thin-pool 0 213/2048 {used}/2400 - {mode} discard_passdown queue_if_no_space {check} 512"
VOLUME = Volume("UvD0xs-k3qQ-OKgz-dqF1-yeh4-ywht-d0NjeR", 314572800, True, "slipway", True)
WELL = PoolState(
    "containerd-pool",
    parse_status(LINE.format(used=42, mode="rw", check="-")),
    DatabaseMatch(BELONGS),
    VOLUME,
    loaded=12.5,
    started=20.25,
)


def findings(pool: PoolState | None, expectation: Expectation | None = None, **changes: Any) -> dict[str, Finding]:
    state = NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, thin_pool=pool, **changes)
    return {one.id: one for one in run_checks(state, expectation or Expectation(), only=list(CHECKS))}


def used(blocks: int, mode: str = "rw", check: str = "-") -> PoolState:
    return replace(WELL, status=parse_status(LINE.format(used=blocks, mode=mode, check=check)))


def test_all_is_well() -> None:
    assert {one.id: one.status for one in findings(WELL).values()} == dict.fromkeys(CHECKS, "ok")


def test_a_node_without_a_pool_has_no_findings() -> None:
    assert findings(None) == {}


def test_a_pool_that_could_not_be_read_is_unknown() -> None:
    found = findings(None, trouble={"thin_pool": "cannot run dmsetup: No such file or directory"})
    assert {one.id: one.status for one in found.values()} == dict.fromkeys(CHECKS, "unknown")


@pytest.mark.parametrize(
    ("pool", "name", "status", "words"),
    [
        (replace(WELL, status=None), "thin_pool", "fail", "containerd-pool isn't loaded"),
        (replace(WELL, status=parse_status("0 614400 thin-pool Fail")), "thin_pool", "fail", "failed, usage unknown"),
        (used(42, "ro", "needs_check"), "thin_pool", "fail", "needs a check, data 1.8 %"),
        (used(42, "ro"), "thin_pool", "fail", "read-only"),
        (used(2400, "out_of_data_space"), "thin_pool", "fail", "no data space left, data 100.0 % (300 of 300 MiB)"),
        (used(2400, "out_of_data_space"), "thin_pool_space", "fail", "data 100.0 % (300 of 300 MiB)"),
        (used(1917), "thin_pool_space", "ok", "data 79.9 %"),
        (used(1920), "thin_pool_space", "warn", "data 80.0 % (240 of 300 MiB), metadata 10.4 %"),
        (used(2280), "thin_pool_space", "fail", "data 95.0 % (285 of 300 MiB)"),
        (replace(WELL, volume=replace(VOLUME, monitored=False)), "thin_pool_monitored", "warn", "containerd-pool isn't"),
        (replace(WELL, volume=None), "thin_pool_monitored", "unknown", "containerd-pool isn't an LVM volume"),
        (replace(WELL, loaded=21.0), "thin_pool_boot_order", "fail", "21.0 s after boot, containerd at 20.2 s"),
        (replace(WELL, loaded=None), "thin_pool_boot_order", "unknown", "start times are unknown"),
        (replace(WELL, started=None), "thin_pool_boot_order", "unknown", "start times are unknown"),
        (replace(WELL, belonging=DatabaseMatch(FOREIGN, "recreated", "restore it")), "thin_pool_devices", "fail", "recreated"),
        (replace(WELL, belonging=DatabaseMatch(LEFTOVERS, "2 more")), "thin_pool_devices", "warn", "2 more"),
        (replace(WELL, belonging=DatabaseMatch(UNKNOWN, "no thin_ls")), "thin_pool_devices", "unknown", "no thin_ls"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(pool: PoolState, name: str, status: str, words: str) -> None:
    finding = findings(pool)[name]
    assert (finding.status, words in str(finding.found)) == (status, True), finding
    assert bool(finding.remedy) == (status != "ok")


def test_the_unit_of_a_pool_that_was_deactivated_has_to_be_started_again() -> None:
    # It stays active after its commands have ended, so that starting it does nothing.
    assert "systemctl restart slipway-devmapper" in findings(replace(WELL, status=None))["thin_pool"].remedy


def test_a_failed_pool_is_one_finding_only() -> None:
    found = findings(replace(WELL, status=None, belonging=DatabaseMatch(BELONGS)))
    assert {name for name, one in found.items() if one.status != "ok"} == {"thin_pool"}


def test_the_thresholds_are_the_users() -> None:
    strict = Expectation(thin_pool_warn_percent=1, thin_pool_fail_percent=10)
    assert findings(WELL, strict)["thin_pool_space"].status == "fail"
    with pytest.raises(ValueError, match="thin_pool_warn_percent and thin_pool_fail_percent"):
        Expectation(thin_pool_warn_percent=90, thin_pool_fail_percent=80)


def test_a_pool_that_went_away_is_loaded_by_a_unit_that_was_active_already() -> None:
    assert "systemctl restart slipway-devmapper" in findings(replace(WELL, status=None))["thin_pool"].remedy
