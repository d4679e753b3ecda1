# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs slipway.node.release_install, which gets its archive from the controller unless remote_src is true."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.plugin_utils.controller_file import ControllerFileAction


class ActionModule(ControllerFileAction):
    """Sends O(src)."""

    option = "src"

    def is_file(self, given: str) -> bool:
        """Return False for a URL: the node downloads it."""
        return "://" not in given
