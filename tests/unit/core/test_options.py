# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_paths, at_least, duration


@pytest.mark.parametrize("text", ["5m", "5m0s", "0s", "1h30m", "1.5s", "250ms", "10us", "10µs", "3ns"])
def test_a_duration_is_taken_as_it_is(text: str) -> None:
    assert duration("wait", text) == text


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "5min", "-5m", "5m\n", "1d", "soon", "٣s"])
def test_what_go_reads_as_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wait has to be a duration with units, such as 90s, 5m or 1h30m, not "):
        duration("wait", text)


def test_each_path_of_a_list_is_checked() -> None:
    assert absolute_paths("dirs", "/etc/a:/etc/b") == "/etc/a:/etc/b"
    with pytest.raises(ValueError, match="dirs has to be an absolute path"):
        absolute_paths("dirs", "/etc/a:")


def test_the_least_number_is_taken() -> None:
    assert at_least(1)("count", 1) == 1
    with pytest.raises(ValueError, match="count has to be 1 or more"):
        at_least(1)("count", 0)
