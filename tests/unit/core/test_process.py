# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that changed after the start of a process, also if the clock was set meanwhile."""

from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.process import Process, added_proxy, changed_since

HOUR = 3600.0
NOON = 1795953600.0
FILE = "/etc/containerd/config.toml"


@pytest.mark.parametrize(
    ("changed", "noted", "step", "newer", "undated"),
    [
        (-60, 0, 0, False, False),
        (60, 0, 0, True, False),
        # systemd notes the start in whole seconds.
        (-0.5, -0.9, 0, False, False),
        # The clock was an hour fast, and was set back after the start.
        (-60, 0, -HOUR, False, False),
        (60, 0, -HOUR, False, True),
        # It was an hour slow, and was set after the start.
        (-60, 0, HOUR, False, False),
        (60, 0, HOUR, True, False),
        # Set back before the start, and after the file's change.
        (HOUR, 0, 0, False, True),
        # Without systemd's time.
        (60, None, 0, True, False),
    ],
)
def test_changes_are_compared_by_the_clock_of_then(
    changed: float, noted: float | None, step: float, newer: bool, undated: bool
) -> None:
    """By the clock of then, the daemon was started at noon, and the file changed so many seconds later; it is five past noon."""
    process = Process(7, NOON + step, (), None)
    told = None if noted is None else NOON + noted
    found = changed_since({FILE: NOON + changed}, process.started_then(told), NOON + step + 300)
    assert found == ((FILE,) * newer, (FILE,) * undated)


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({"PATH": "/bin"}, {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "10.0.0.0/8"}),
        ({"https_proxy": "http://other.example:3128"}, {}),
        ({"NO_PROXY": "*"}, {}),
    ],
)
def test_the_proxy_of_a_task_has_priority_over_that_of_the_daemon(own: dict[str, str], added: dict[str, str]) -> None:
    daemon = {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "10.0.0.0/8", "HOME": "/root"}
    assert added_proxy(own, daemon) == added
