# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.filter.finding_line import finding_line


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("none", "none"),
        ({"/box": "gone", "": "ctr doesn't answer"}, "/box: gone, ctr doesn't answer"),
        (["a", 1], "a, 1"),
        ([], "none"),
        (None, "None"),
    ],
)
def test_a_finding_is_one_line(found: Any, words: str) -> None:
    finding = {"id": "toolboxes", "status": "unknown", "found": found, "remedy": "look"}
    assert finding_line(finding) == f"UNKNOWN toolboxes: {words} -> look"
    assert finding_line({**finding, "remedy": ""}) == f"UNKNOWN toolboxes: {words}"


@pytest.mark.parametrize("wrong", [None, "text", {}, {"found": 1}])
def test_what_is_no_finding_is_refused(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="takes a finding"):
        finding_line(wrong)
