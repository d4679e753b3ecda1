# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host.sync import sync_file_systems, writing_back


def test_each_file_system_is_synced_once(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    found = sync_file_systems([str(tmp_path / "one"), str(tmp_path / "missing" / "two"), str(tmp_path)])
    assert [one.path for one in found] == [str(tmp_path / "one")]


def test_a_block_that_fails_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its own"), writing_back([str(tmp_path)]):
        raise ValueError("its own")
