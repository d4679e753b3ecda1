# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of tests/integration and tests/crash. Unit tests neither create one nor change their order."""

pytest_plugins = ["nodes.fixtures"]
