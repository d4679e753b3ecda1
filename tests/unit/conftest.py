# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run, and no limit for the time that one takes: a busy machine fails no test.
settings.load_profile("ci")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str, str], str]:
    """What the real programs of one containerd version printed, by version and file name."""
    directory = Path(__file__).parent / "recorded"

    def read(version: str, name: str) -> str:
        return (directory / version / name).read_text()

    return read
