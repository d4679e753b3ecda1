# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades over several versions, one after another, on a node in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.test_role import PROVISION, made
from upgrade.chain import CHAINS, Figures, InUse, refused, upgraded

from nodes.registry import Registry


@pytest.mark.parametrize(("suite", "versions"), CHAINS, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_a_node_in_use_is_upgraded(
    suite: str, versions: list[str], source: Registry, tmp_path: Path, figures: list[Figures]
) -> None:
    with made(suite) as node:
        used = InUse(node, source, tmp_path)
        used.prepare()
        if suite == "trixie":
            refused(used, versions[0])
        for version in versions:
            figures.append(upgraded(used, version))
            print(figures[-1])
            if version == "1.7.24":
                used.add_newer()
                used.play(PROVISION)
            # The next upgrade has to keep the containers of this version too.
            used.run_containers()
