# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.slipway.node.plugins.filter.fleet import fleet


def test_a_node_that_could_not_be_read_says_why() -> None:
    summary = {"fail": 0, "unknown": 0, "warn": 0, "ok": 1, "worst": "ok"}
    variables: dict[str, Any] = {
        "well": {"verify_node": {"summary": summary, "checks": [{"id": "cri_plugin", "status": "ok"}], "version": "1.7.24"}},
        "odd": {"verify_node": {"failed": True, "msg": "only names no check 'nosuch'"}},
        "gone": {"verify_node": {"unreachable": True, "msg": "Failed to connect to the host via ssh"}},
        "new": {},
    }
    found = fleet(variables, list(variables))
    assert [(node["name"], node["worst"], node["reason"]) for node in found["nodes"]] == [
        ("gone", "unreachable", ""),
        ("new", "unreachable", ""),
        ("odd", "unreachable", "only names no check 'nosuch'"),
        ("well", "ok", ""),
    ]
    assert (found["checks"], found["summary"]) == (["cri_plugin"], {"unreachable": 3, "ok": 1})
