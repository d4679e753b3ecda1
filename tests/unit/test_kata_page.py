# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from kata_tables import PAGE, updated


def test_the_page_says_what_the_code_does() -> None:
    page = PAGE.read_text()
    assert updated(page) == page, "run .venv/bin/python tests/kata_tables.py"


def test_a_stale_table_is_seen() -> None:
    page = PAGE.read_text()
    stale = page.replace("block-hotplug", "virtio-fs", 1)
    assert page == updated(stale) != stale
    with pytest.raises(ValueError, match="has no markers for transports"):
        updated(page.replace("begin transports", "begin nothing"))
