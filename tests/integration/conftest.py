# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes for the tests: one for each suite, made once a session. KEEP_NODES=1 keeps them for the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nodes.node import INVENTORY, Node, ansible, nodes_of


@pytest.fixture(scope="session")
def nodes() -> Iterator[dict[str, Node]]:
    """The nodes by suite: bookworm, trixie, sid."""
    keep = os.environ.get("KEEP_NODES") == "1"
    inventory = INVENTORY / "itest.yml"
    if not (keep and all(node.answers() for node in nodes_of(inventory))):
        ansible("ansible-playbook", "-i", str(inventory), "tests/nodes/create.yml")
    yield {node.suite: node for node in nodes_of(inventory)}
    if not keep:
        ansible("ansible-playbook", "-i", str(inventory), "tests/nodes/destroy.yml")


@pytest.fixture(params=["bookworm", "trixie", "sid"])
def node(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """Each node in turn."""
    return nodes[request.param]
