# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.upgrade.deprecations import Deprecation, parse_deprecations

# As containerd 2.3.7 prints it.
PRINTED = """[
    {
        "id": "io.containerd.deprecation/cgroup-v1",
        "message": "The support for cgroup v1 is deprecated since containerd v2.2 and will be removed by no later than May 2029.",
        "lastOccurrence": "2026-11-29T15:09:07.771555827Z"
    }
]"""


def test_the_list_of_a_daemon() -> None:
    [one] = parse_deprecations(PRINTED)
    assert one.name == "cgroup-v1" and not one.is_gone_in(Version.parse("2.4.2"))
    assert parse_deprecations("") == parse_deprecations("null") == parse_deprecations("[]") == ()


@pytest.mark.parametrize("text", ["no JSON", '[{"id": 1}]', "[1]", "3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"deprecations|JSON|Expecting"):
        parse_deprecations(text)


@pytest.mark.parametrize(
    ("message", "version", "gone"),
    [
        ("is deprecated since containerd v1.7 and removed in containerd v2.0. Use", "1.7.24", False),
        ("is deprecated since containerd v1.7 and removed in containerd v2.0. Use", "2.0.0", True),
        ("will be deprecated in containerd v2.0 and removed in containerd v2.1.", "2.0.9", False),
        ("is deprecated since containerd v1.5 and will be removed in containerd v2.0. Use", "2.3.7", False),
    ],
)
def test_a_feature_is_gone_if_containerd_says_so_and_not_if_it_is_planned(message: str, version: str, gone: bool) -> None:
    assert Deprecation("x", message).is_gone_in(Version.parse(version)) is gone
