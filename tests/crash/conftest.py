# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes; what else these tests share is in nodes/."""

from nodes.fixtures import (
    bookworm,
    modern,
    node,
    nodes,
    pytest_sessionfinish,
    pytest_xdist_make_scheduler,
    sid,
    source,
    trixie,
)

__all__ = [
    "bookworm",
    "modern",
    "node",
    "nodes",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
    "sid",
    "source",
    "trixie",
]
