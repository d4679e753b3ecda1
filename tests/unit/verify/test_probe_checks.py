# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The finding of the probe, and the Kata handlers that it doesn't start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import FILE, MODE, DirectoryEntry
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DeclaredHandler, KataState
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import FAILED, NOT_TRIED, STARTED, Outcome, Report
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    DAEMON_UNREACHABLE,
    Expectation,
    Finding,
    NodeState,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.probe_checks import handler_starts, unsafe_handlers
from nodes.kata import vendor_file

STATE = NodeState("/etc/containerd/config.toml", "containerd.service", 0.0)
GOOD, BAD, OPEN = Outcome("runc", STARTED), Outcome("bad", FAILED, "no runc"), Outcome("kata", NOT_TRIED, "unsafe")


def finding(report: Report | None, probe: str = "container", **trouble: str) -> Finding | None:
    return handler_starts.run(replace(STATE, probe=report, trouble=trouble), Expectation(probe=probe))


def test_without_a_probe_there_is_no_finding() -> None:
    assert finding(None, "none") is None


@pytest.mark.parametrize(
    ("outcomes", "left", "status"),
    [
        ((GOOD,), "", "ok"),
        ((GOOD, OPEN), "", "unknown"),
        ((), "", "unknown"),
        ((GOOD,), "the namespace", "warn"),
        ((GOOD, OPEN, BAD), "", "fail"),
        ((BAD,), "the namespace", "fail"),
    ],
)
def test_the_worst_outcome_decides(outcomes: tuple[Outcome, ...], left: str, status: str) -> None:
    found = finding(Report(outcomes, left))
    assert found is not None
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")


def test_the_runtimes_words_and_rests_are_shown() -> None:
    found = finding(Report((GOOD, BAD), "the namespace"))
    assert found is not None
    assert found.found == {"runc": "started", "bad": "failed: no runc", "left behind": "the namespace"}


def test_a_probe_that_could_not_run_is_unknown() -> None:
    found = finding(None, config="broken")
    assert found is not None
    assert (found.status, found.found) == ("unknown", "broken")
    stopped = handler_starts.run(replace(STATE, trouble={"probe": DAEMON_UNREACHABLE}), Expectation(probe="pod"))
    assert stopped is not None
    assert (stopped.status, stopped.found, stopped.remedy) == ("unknown", DAEMON_UNREACHABLE, "start the daemon")


def unsafe(snapshotter: str, *, disabled: bool, main: str | None = None) -> Mapping[str, str]:
    drop_in = DirectoryEntry(FILE, f"[hypervisor.qemu]\ndisable_block_device_use = {str(disabled).lower()}\n".encode(), MODE)
    handler = DeclaredHandler(
        name="kata",
        shim_name="containerd-shim-kata-v2",
        shim=None,
        config_path="/etc/kata/configuration.toml",
        snapshotters={"runtimes": snapshotter},
        main=(vendor_file("go", "qemu") if main is None else main).encode(),
        drop_ins={"/etc/kata/config.d/60.toml": drop_in},
        version=Version(3, 26, 0),
    )
    return unsafe_handlers(KataState((handler,)), STATE.config)


@pytest.mark.parametrize(("snapshotter", "disabled"), [("overlayfs", True), ("native", True), ("blockfile", False)])
def test_a_safe_kata_handler_is_started(snapshotter: str, disabled: bool) -> None:
    assert unsafe(snapshotter, disabled=disabled) == {}


@pytest.mark.parametrize("snapshotter", ["native", "overlayfs", "nydus"])
def test_a_guest_is_not_given_the_hosts_disk(snapshotter: str) -> None:
    assert "host's own disk" in unsafe(snapshotter, disabled=False)["kata"]


def test_a_kata_handler_whose_files_can_not_be_read_is_not_started() -> None:
    assert "kata" in unsafe("overlayfs", disabled=True, main="not TOML")
