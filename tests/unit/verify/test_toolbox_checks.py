# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.toolbox.faults import PROVISION
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox, Toolboxes, ToolboxState
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import CONFIGURE, Expectation, Finding, NodeState

BOXES = [ExpectedToolbox(f"/var/lib/toolbox/{name}") for name in "abc"]


def toolboxes(*states: ToolboxState) -> Finding:
    state = NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, toolboxes=Toolboxes(states))
    (found,) = run_checks(state, Expectation(toolboxes=tuple(one.expected for one in states)), only=["toolboxes"])
    return found


def test_the_steps_of_all_toolboxes_are_named_once_with_the_playbook_last() -> None:
    found = toolboxes(
        ToolboxState(BOXES[0], "masked", remedies=("remove it", PROVISION)),
        ToolboxState(BOXES[1], "covered", remedies=("umount it",)),
        ToolboxState(BOXES[2], "masked too", remedies=("remove it", PROVISION)),
    )
    assert (found.status, found.remedy) == ("fail", f"remove it, then umount it, then {CONFIGURE}")


def test_a_playbook_that_is_not_needed_is_not_named() -> None:
    restart, reload = "run 'systemctl restart a.mount' when no process is in it", "run 'systemctl daemon-reload'"
    several = toolboxes(
        ToolboxState(BOXES[0], "read-only", remedies=(restart, "remove /a", reload)),
        ToolboxState(BOXES[1], "masked", remedies=("remove /b", reload, "")),
    )
    assert several.remedy == f"remove /a, then remove /b, then {reload}, then {restart}, then {CONFIGURE}"
    assert toolboxes(ToolboxState(BOXES[0], "covered", remedies=("umount it",)), ToolboxState(BOXES[1])).remedy == "umount it"
