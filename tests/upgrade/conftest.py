# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of the steps, written to docs/bench/upgrade.md once all tests have passed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from upgrade.chain import CHAINS, Figures, table

from nodes.node import CHECKOUT

RESULT = CHECKOUT / "docs/bench/upgrade.md"


@pytest.fixture(scope="session")
def figures() -> Iterator[list[Figures]]:
    """A list to which each step adds its figures."""
    found: list[Figures] = []
    yield found
    if len(found) == sum(len(versions) for _suite, versions in CHAINS):
        RESULT.write_text(table(found))
