# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin: real nodes for the tests, created once a session. KEEP_NODES=1 keeps them for the next.

The tests of a node run one after another in one worker. Different nodes are tested at the same time (pytest -n 2).
Only the nodes that the selected tests need are created.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from nodes import daemon, registry
from nodes.node import CHECKOUT, INVENTORY, LINES, WORK, Node, ansible, nodes_of
from nodes.registry import Registry

SUITES = tuple(LINES)
SET = INVENTORY / "itest.yml"
# These lines get every test: Debian 13's and the newest with long-term support. The others get what depends on the version.
EVERY_TEST = ("trixie", "2.3")
# The tests on those take longer than on the others. These files use a second node.
ON_SECOND_NODE = frozenset(
    {
        "test_integrity.py",
        "test_lazy_layers.py",
        "test_registry.py",
        "test_toolbox.py",
        "test_toolbox_info.py",
        "test_toolbox_mounts.py",
        "test_verify_images.py",
    }
)
# Identifies the session that created the nodes; its other workers find them there.
CREATED_BY = WORK / "itest-session"
KEEP = os.environ.get("KEEP_NODES") == "1"
UNIT_TESTS = CHECKOUT / "tests/unit"


def suite_of(nodeid: str) -> str | None:
    """The suite among the parameters in pytest's id of a test; None for a test that uses no node."""
    parameters = re.split(r"[][-]", nodeid.partition("[")[2])
    return next((suite for suite in SUITES if suite in parameters), None)


def node_of(nodeid: str) -> str | None:
    """The node that a test uses, such as ``trixie-2``; None for a test without one."""
    suite = suite_of(nodeid)
    return suite and node_for(suite, nodeid.partition("::")[0])


def node_for(suite: str, file: str) -> str:
    """The suite's node that the tests of a file use."""
    return f"{suite}-2" if suite in EVERY_TEST and Path(file).name in ON_SECOND_NODE else suite


class ByNode(LoadScopeScheduling):
    """Gives all tests of a node to the same worker, and also all tests of a file that use no node."""

    def _split_scope(self, nodeid: str) -> str:
        return node_of(nodeid) or nodeid.partition("::")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=SUITES, help="only the tests on this suite's nodes, and those that use no node")


def is_wanted(item: pytest.Item, only: str | None) -> bool:
    """Whether a test runs, by its suite, the one of the command line, and its marker two_versions."""
    suite = suite_of(item.nodeid)
    if suite is None:
        return True
    return (not only or suite == only) and (suite in EVERY_TEST or item.get_closest_marker("two_versions") is None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = config.getoption("suite")
    others = [item for item in items if not is_wanted(item, only)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByNode | None:
    """None, which means the default, if only unit tests run."""
    files = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if all(file.is_relative_to(UNIT_TESTS) for file in files) else ByNode(config, log)


def session_id() -> str:
    """The same in all workers of a session: the process id of the main one."""
    return str(os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid())


def pytest_sessionfinish() -> None:
    if not KEEP and CREATED_BY.exists() and CREATED_BY.read_text() == str(os.getpid()):
        CREATED_BY.unlink()
        ansible("ansible-playbook", "-i", str(SET), "tests/nodes/destroy.yml")


@pytest.fixture(scope="session")
def all_nodes(request: pytest.FixtureRequest) -> dict[str, Node]:
    """The nodes that the selected tests need, by name in the inventory without the set's."""
    needed = {name for item in request.session.items if (name := node_of(item.nodeid))}
    wanted = {name: node for name, node in named().items() if name in needed}
    with (WORK / "itest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = KEEP and all(node.answers() for node in wanted.values())
        if not there and not (CREATED_BY.exists() and CREATED_BY.read_text() == session_id()):
            limit = ",".join([*(node.name for node in wanted.values()), "localhost"])
            ansible("ansible-playbook", "-i", str(SET), "--limit", limit, "tests/nodes/create.yml")
            CREATED_BY.write_text(session_id())
    # Their addresses are those of the network that the checkout has claimed by now.
    return {name: node for name, node in named().items() if name in needed}


def named() -> dict[str, Node]:
    return {node.name.removeprefix("itest-"): node for node in nodes_of(SET)}


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest, all_nodes: dict[str, Node]) -> dict[str, Node]:
    """The module's nodes by suite."""
    own = {suite: node_for(suite, str(request.path)) for suite in SUITES}
    return {suite: all_nodes[name] for suite, name in own.items() if name in all_nodes}


@pytest.fixture(params=SUITES)
def node(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """Each node in turn, as it is."""
    return nodes[request.param]


@pytest.fixture(params=SUITES)
def installed(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """Each version in turn, as installed."""
    return packaged(nodes[request.param])


@pytest.fixture(params=EVERY_TEST)
def modern(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """1.7.24 and 2.3.7 in turn, as installed."""
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
    """2.1.9 as packaged, on the only node whose systemd runs on cgroup v2, as nspawn needs it."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["2.3"])
def lts(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """2.3.7 as installed."""
    return packaged(nodes[request.param])


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without a password. Each push gets a tag of its own."""
    with registry.serve(tmp_path_factory.mktemp("registry")) as server:
        yield server


def packaged(node: Node) -> Node:
    daemon.install(node)
    daemon.reset(node)
    return node
