# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive


def test_runs_wait_for_each_other(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with exclusive(1, lock), pytest.raises(HostError, match="another run"), exclusive(0.3, lock):
        pass
    with exclusive(1, lock):
        pass
