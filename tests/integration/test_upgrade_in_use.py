# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook upgrade from 1.7.24 to 2.3.7 on a node in use, as predicted and without a loss.

tests/upgrade has the other versions, also with Kata, blockfile, and files for which the upgrade is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.test_upgrade import cleaned
from integration.toolbox_module import emptied
from upgrade.chain import InUse, upgraded

from nodes import cri, daemon
from nodes.node import Node
from nodes.registry import Registry

EMPTIED = """
for name in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks rm --force $name; done
ctr -n k8s.io containers rm $(ctr -n k8s.io containers ls -q)
ctr -n k8s.io images rm --sync $(ctr -n k8s.io images ls -q)
"""


@pytest.fixture
def used(trixie: Node, source: Registry, tmp_path: Path) -> Iterator[InUse]:
    cleaned(trixie)
    used = InUse(trixie, source, tmp_path, whole=False)
    used.prepare()
    yield used
    cri.crictl(trixie, "rmp", "--force", "--all", check=False)
    trixie.ssh(EMPTIED, check=False)
    cleaned(trixie)
    daemon.reset(trixie)
    emptied(trixie)


def test_a_node_in_use_is_upgraded_as_predicted(used: InUse) -> None:
    upgraded(used, "2.3.7")
