# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes for the tests: one for each suite, made once a session. KEEP_NODES=1 keeps them for the next.

Tests of one node follow each other in one worker; different nodes are tested at the same time
(pytest -n 2).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from nodes import daemon, registry
from nodes.node import INVENTORY, WORK, Node, ansible, nodes_of
from nodes.registry import Registry

SUITES = ("bookworm", "trixie", "sid")
SET = INVENTORY / "itest.yml"
# The session that made the nodes; its other workers find them there.
MADE_BY = WORK / "itest-session"
KEEP = os.environ.get("KEEP_NODES") == "1"


class BySuite(LoadScopeScheduling):
    """Gives all tests of a suite's node to the same worker, and else those of a file."""

    def _split_scope(self, nodeid: str) -> str:
        parameters = re.split(r"[][-]", nodeid)
        return next((suite for suite in SUITES if suite in parameters), nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySuite:
    return BySuite(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and MADE_BY.exists() and not KEEP:
        MADE_BY.unlink()
        ansible("ansible-playbook", "-i", str(SET), "tests/nodes/destroy.yml")


@pytest.fixture(scope="session")
def nodes() -> dict[str, Node]:
    """The nodes by suite: bookworm, trixie, sid."""
    this = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    with (WORK / "itest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = KEEP and all(node.answers() for node in nodes_of(SET))
        if not there and not (MADE_BY.exists() and MADE_BY.read_text() == this):
            ansible("ansible-playbook", "-i", str(SET), "tests/nodes/create.yml")
            MADE_BY.write_text(this)
    return {node.suite: node for node in nodes_of(SET)}


@pytest.fixture(params=SUITES)
def node(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """Each node in turn, as it is."""
    return nodes[request.param]


@pytest.fixture(params=["trixie", "sid"])
def modern(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """1.7.24 and 2.1.9 in turn, as packaged."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["bookworm"])
def bookworm(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """1.6.20 as packaged."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["trixie"])
def trixie(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """1.7.24 as packaged."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["sid"])
def sid(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """2.1.9 as packaged."""
    return packaged(nodes[request.param])


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that everybody may push to: each push has a tag of its own."""
    with registry.serve(tmp_path_factory.mktemp("registry")) as server:
        yield server


def packaged(node: Node) -> Node:
    daemon.install(node)
    daemon.reset(node)
    return node
