# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a long task. tests/integration/test_controller_file.py shows them in Ansible's own output."""

from __future__ import annotations

import re
import threading

import pytest

from ansible_collections.slipway.node.plugins.plugin_utils.still_running import still_running


class Screen:
    """Collects what is displayed."""

    def __init__(self, expected: int) -> None:
        self.lines: list[str] = []
        self.full = threading.Event()
        self._expected = expected

    def display(self, msg: str, *, stderr: bool) -> None:
        assert stderr
        self.lines.append(msg)
        if len(self.lines) >= self._expected:
            self.full.set()


def test_a_long_run_is_displayed_again_and_again() -> None:
    screen = Screen(3)
    with still_running(screen.display, "node1: pull", 0.01):
        assert screen.full.wait(10)
    assert all(re.fullmatch(r"node1: pull is still running after \d+ seconds", line) for line in screen.lines)


def failing(screen: Screen) -> None:
    with still_running(screen.display, "", 0.01):
        assert screen.full.wait(10)
        raise ValueError("pull")


def test_nothing_is_displayed_after_the_end_of_a_run_that_fails() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="pull"):
        failing(Screen(1))
    assert threading.active_count() == before


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_short_run_displays_nothing(seconds: float) -> None:
    screen = Screen(1)
    with still_running(screen.display, "", seconds):
        pass
    assert not screen.lines
