# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host import lock as locks
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import COMMITTED, KEPT, RESTORED, Journal


def test_runs_wait_for_each_other(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with exclusive(1, lock), pytest.raises(HostError, match="another run"), exclusive(0.3, lock):
        pass
    with exclusive(1, lock):
        pass


@pytest.mark.parametrize(("step", "refused"), [(KEPT, True), (RESTORED, False), (COMMITTED, False)])
def test_in_the_middle_of_an_upgrade_only_its_own_runs_change_containerd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, refused: bool
) -> None:
    journal, lock = tmp_path / "upgrading", str(tmp_path / "lock")
    journal.write_text(Journal(1, step).to_text())
    monkeypatch.setattr(locks, "JOURNAL", str(journal))
    monkeypatch.setattr(locks, "LOCK", lock)
    with exclusive(1, lock, upgrades=True):
        pass
    with exclusive(1, str(tmp_path / "another")):
        pass
    if refused:
        with pytest.raises(HostError, match=r"run slipway\.node\.upgrade first"), exclusive(1, lock):
            pass
        return
    with exclusive(1, lock):
        pass
