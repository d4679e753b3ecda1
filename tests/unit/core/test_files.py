# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.core.files import secret_values


def test_secrets_are_found_wherever_they_lie() -> None:
    tree = {
        "settings": {"extra_config": {"plugins": {"x": {"auth": {"username": "builder", "password": "one"}}}}},
        "lists": [{"identitytoken": "two"}, "three", None],
        "token": 4,
        "Password": "five",
        "auth": "",
    }
    assert secret_values(tree) == {"one", "two", "five"}
