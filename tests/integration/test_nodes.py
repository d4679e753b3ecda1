# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disposable nodes are isolated: a network for each checkout, an address for each node, and a complete removal."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version, line_of
from nodes import daemon
from nodes.fixtures import ON_SECOND_NODE, node_of
from nodes.node import CHECKOUT, PODMAN, Node, ansible, run

NETWORK = CHECKOUT / "tests/nodes/network"


@pytest.fixture
def claims(tmp_path: Path) -> dict[str, str]:
    return {"SLIPWAY_NODE_CLAIMS": str(tmp_path / "claims")}


def claim(checkout: Path, claims: dict[str, str], *flags: str) -> str:
    checkout.mkdir(parents=True, exist_ok=True)
    return run([str(NETWORK), str(checkout), *flags], env=claims).stdout.strip()


def test_checkouts_that_ask_at_the_same_time_get_different_networks(tmp_path: Path, claims: dict[str, str]) -> None:
    checkouts = [tmp_path / f"checkout{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        networks = list(pool.map(lambda checkout: claim(checkout, claims), checkouts))
    assert all(re.fullmatch(r"127\.0\.\d+\.0/24", network) for network in networks)
    assert len(set(networks)) == len(checkouts)
    assert [claim(checkout, claims) for checkout in checkouts] == networks


def test_a_network_is_taken_while_its_checkout_holds_it_and_free_afterwards(tmp_path: Path, claims: dict[str, str]) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    network = claim(ours, claims)
    record = other / ".work/network"
    record.parent.mkdir(parents=True)
    shutil.move(ours / ".work/network", record)
    link = Path(claims["SLIPWAY_NODE_CLAIMS"]) / network.removesuffix("/24")
    link.unlink()
    link.symlink_to(other)

    assert claim(ours, claims) != network
    claim(ours, claims, "--release")
    shutil.rmtree(other)
    assert claim(ours, claims) == network
    claim(ours, claims, "--release")
    assert [path.name for path in link.parent.iterdir()] == [".lock"]
    assert not (ours / ".work/network").exists()


def listeners() -> set[str]:
    """Local addresses of the machine's TCP listeners, as ``address:port``."""
    return {line.split()[3] for line in run(["ss", "-Hltn"]).stdout.splitlines()}


def test_a_node_listens_on_its_own_loopback_address_only(node: Node) -> None:
    assert node.address.startswith("127.0.")
    sockets = node.exec("sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o 'socket:.[0-9]*'").stdout
    inodes = set(re.findall(r"\d+", sockets))
    own = {
        line.split()[3]
        for line in run(["ss", "-Hltne"]).stdout.splitlines()
        if (match := re.search(r"\bino:(\d+)", line)) and match[1] in inodes
    }
    assert {address for address in own if address.endswith(":2222")} == {f"{node.address}:2222"}
    assert all(address.startswith("127.") for address in own), own


def test_a_node_is_a_whole_machine(node: Node) -> None:
    # Units of other tests may have failed.
    node.ssh("systemctl reset-failed")
    assert node.exec("systemctl", "is-system-running", check=False).stdout.strip() == "running"
    assert node.ssh("hostname").stdout.strip() == node.name
    assert os.readlink(f"/proc/{node.pid}/exe").endswith("/systemd")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """Another checkout, whose nodes and network are given back however the test ends."""
    shutil.copytree(CHECKOUT / "tests/nodes", tmp_path / "tests/nodes")
    yield tmp_path
    for container in run([*PODMAN, "ps", "--all", "--quiet", "--filter", f"label=slipway_checkout={tmp_path}"]).stdout.split():
        run([*PODMAN, "rm", "--force", "--volumes", container])
    claim(tmp_path, {}, "--release")


def test_destroyed_nodes_leave_nothing_behind(checkout: Path) -> None:
    inventory = str(checkout / "tests/nodes/inventory/demo.yml")

    def playbook(name: str) -> None:
        ansible("ansible-playbook", "-i", inventory, str(checkout / "tests/nodes" / name))

    playbook("create.yml")
    first = traces(checkout)
    assert len(first) == 4, first
    playbook("create.yml")
    second = traces(checkout)
    assert len(second) == 4, second
    assert exists(second) == second
    playbook("destroy.yml")
    # The kernel removes a control group once the last process in it is gone.
    deadline = time.monotonic() + 60
    while exists(first | second) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert exists(first | second) == set()


def traces(checkout: Path) -> set[str]:
    """What the only node of a checkout has on the machine: container, volume, control group, listener."""
    (node,) = run([*PODMAN, "ps", "--quiet", "--no-trunc", "--filter", f"label=slipway_checkout={checkout}"]).stdout.split()
    volumes = run([*PODMAN, "inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", node]).stdout.split()
    network = (checkout / ".work/network").read_text().removesuffix("0/24\n")
    groups = {f"libpod-{node}{suffix}" for suffix in ("", ".scope")}
    listener = {address for address in listeners() if address.startswith(network)}
    return {node, *volumes, *listener, *(name for name in control_groups() if name in groups)}


def exists(found: set[str]) -> set[str]:
    """Those of the traces that are on the machine now."""
    containers = run([*PODMAN, "ps", "--all", "--quiet", "--no-trunc"]).stdout.split()
    volumes = run([*PODMAN, "volume", "ls", "--quiet"]).stdout.split()
    return found & {*containers, *volumes, *listeners(), *control_groups()}


def control_groups() -> set[str]:
    """Names of podman's control groups, in every hierarchy."""
    return {name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith("libpod-")}


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/integration/test_role.py::test_a[trixie]", "trixie"),
        ("tests/integration/test_toolbox.py::test_a[trixie-overlayfs]", "trixie-2"),
        ("tests/integration/test_toolbox.py::TestA::test_b[sid]", "sid"),
        ("tests/integration/test_toolbox.py::test_a[2.3-overlayfs]", "2.3-2"),
        ("tests/integration/test_toolbox.py::test_a[2.4-overlayfs]", "2.4"),
        ("tests/integration/test_nodes.py::test_a[beside sid]", None),
    ],
    # Their own ids name no suite.
    ids=["first", "second", "class", "upstream", "single", "none"],
)
def test_a_tests_node_follows_from_its_parameters_and_its_file(nodeid: str, name: str | None) -> None:
    assert node_of(nodeid) == name


def test_the_files_of_the_second_node_exist() -> None:
    assert {path.name for path in Path(__file__).parent.iterdir()} >= ON_SECOND_NODE


def test_a_node_has_the_release_that_the_collection_says_it_is_tested_with(node: Node) -> None:
    daemon.install(node)
    version = Version.parse(node.exec("containerd", "--version").stdout)
    line = line_of(version)
    assert line is not None and (line.tested, line.number) == (str(version), node.line)
