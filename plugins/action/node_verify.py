# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs slipway.node.node_verify with less time for its payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.slipway.node.plugins.plugin_utils.payload import without_garbage_collection


class ActionModule(NormalAction):
    """Does what Ansible does for a module without an action."""

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        with without_garbage_collection():
            result: dict[str, Any] = super().run(tmp, task_vars)
        return result
