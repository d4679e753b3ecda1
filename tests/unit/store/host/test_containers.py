# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from unit.store.host.noting_ctr import calls, store


def test_the_user_of_a_snapshot_is_described(tmp_path: Path) -> None:
    containers = store(tmp_path).containers
    assert [containers.describe(key) for key in ("pod", "box", "other")] == [
        "container pod of the pod web/front",
        "container box",
        "the snapshot other",
    ]
    assert calls(tmp_path).count("containers ls") == 1
