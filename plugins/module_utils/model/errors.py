# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors that end a module and that no option can be blamed for."""

from __future__ import annotations


class MissingLibrary(RuntimeError):
    """The node lacks a Python library; the text is its name."""
