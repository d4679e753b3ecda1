# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook upgrade on five nodes: a prediction, a run that the second node stops, its continuation, an idle run."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nodes import daemon
from nodes.node import CHECKOUT, INVENTORY, PODMAN, Node, ansible, ansible_json, nodes_of, run
from nodes.upstream import unpacked

UPGRADE = "slipway.node.upgrade"
PROVISION = "slipway.node.provision"
FLEET = INVENTORY / "fleet.yml"
# The second node gets a release whose shim starts no container.
BAD_NODE = "fleet-2"
BROKEN_SHIM = "#!/bin/sh\necho 'the shim is broken' >&2\nexit 1\n"
# An administrator's key in the root file of the third node. 2.4 has no such key.
FOREIGN_NODE = "fleet-3"
FOREIGN = f'[plugins."{daemon.RUNTIME}"]\nenable_cdi = false\n'
NAMES = [f"fleet-{number}" for number in range(1, 6)]


@pytest.fixture
def fleet(lts: Node) -> Iterator[dict[str, Node]]:
    """Five copies of a node with a running containerd 2.3.7 that the collection has provisioned."""
    played = lts.play(PROVISION)
    assert played["stats"][lts.name]["failures"] == 0, played
    image = f"localhost/slipway-{lts.container}:fleet"
    playbook = ["ansible-playbook", "-i", str(FLEET)]
    try:
        run([*PODMAN, "commit", "--quiet", "--pause=false", lts.container, image])
        ansible(*playbook, "tests/nodes/create.yml", env={"SLIPWAY_NODE_IMAGE": image})
        yield {node.name: node for node in nodes_of(FLEET)}
    finally:
        ansible(*playbook, "tests/nodes/destroy.yml")
        run([*PODMAN, "rmi", "--force", image], check=False)


def release(version: str) -> dict[str, Any]:
    printed = run([str(CHECKOUT / "tests/upstream"), "--releases", "containerd", version]).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def broken_release(version: str, path: Path) -> dict[str, str]:
    """The release with a shim that starts no container."""
    (path.parent / "shim").write_text(BROKEN_SHIM)
    (path.parent / "shim").chmod(0o755)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for program in ("containerd", "ctr"):
            archive.add(unpacked("containerd", version) / "bin" / program, f"bin/{program}")
        archive.add(path.parent / "shim", "bin/containerd-shim-runc-v2")
    return {"src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def play(directory: Path, variables: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run the playbook on the fleet."""
    extra = {"upgrade_soak": 1, "upgrade_report_dir": str(directory), **variables}
    flags = ["--check", "--diff"] * check
    return ansible_json("ansible-playbook", "-i", str(FLEET), UPGRADE, *flags, "--extra-vars", json.dumps(extra))


def last_lines(played: dict[str, Any]) -> list[str]:
    [task] = [task for task in played["plays"][-1]["tasks"] if task["task"]["name"] == "Report on the nodes"]
    [result] = task["hosts"].values()
    lines: list[str] = result["msg"]
    return lines


def wave_lines(played: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the waves, with the node's name."""
    results = [item for one in played["plays"] for task in one["tasks"] for item in task["hosts"].items()]
    return [(name, str(result["msg"])) for name, result in results if str(result.get("msg")).startswith("wave ")]


def report(directory: Path) -> dict[str, dict[str, Any]]:
    """The nodes of the report by name."""
    return {node["name"]: node for node in json.loads((directory / "fleet.json").read_text())["nodes"]}


def listed(node: Node) -> str:
    """The files that the collection could change on the node. Times are left out, because programs are unpacked and removed."""
    places = "/etc /usr/local /var/lib/slipway-node"
    return node.ssh(
        f"find {places} -xdev -printf '%p %y %m %l\\n' 2>/dev/null | sort; "
        f"find {places} -xdev -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum; readlink /proc/$(pidof containerd)/exe"
    ).stdout


def versions(fleet: dict[str, Node]) -> list[str]:
    """The versions of the running daemons, in the order of the nodes."""

    def version(name: str) -> str:
        return fleet[name].ssh("ctr version | awk '/Version/ {print $2}' | tail -n 1").stdout.strip().removeprefix("v")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(version, NAMES))


def test_a_fleet_stops_at_a_node_that_went_back_and_goes_on_once_it_is_repaired(fleet: dict[str, Node], tmp_path: Path) -> None:
    good, bad = release("2.4.2"), broken_release("2.4.2", tmp_path / "bad.tar.gz")
    [machine] = good
    new = {"containerd_install_method": "archive", "containerd_version": "2.4.2", "containerd_releases": good}
    chosen = f"{{{{ {json.dumps({machine: bad})} if inventory_hostname == '{BAD_NODE}' else {json.dumps(good)} }}}}"
    daemon.write(fleet[FOREIGN_NODE], daemon.ROOT, f"{daemon.read(fleet[FOREIGN_NODE], daemon.ROOT)}{FOREIGN}")
    daemon.restart(fleet[FOREIGN_NODE])
    assert versions(fleet) == ["2.3.7"] * 5

    # The report changes nothing, and names the key of the administrator.
    before = {name: listed(fleet[name]) for name in ("fleet-1", FOREIGN_NODE)}
    checked = play(tmp_path, {**new, "containerd_releases": chosen}, check=True)
    assert last_lines(checked)[:2] == ["1 refused, and left unchanged: fleet-3", "4 would be upgraded: fleet-[1-2,4-5]"]
    assert not wave_lines(checked)
    found = report(tmp_path)
    assert {name: node["worst"] for name, node in found.items()} == {
        name: "fail" if name == FOREIGN_NODE else found[name]["worst"] for name in NAMES
    }
    assert f"enable_cdi: now no, then nothing ({daemon.ROOT})" in found[FOREIGN_NODE]["findings"]["lost_key"]["found"]
    assert {name: listed(fleet[name]) for name in before} == before

    accepted = {**new, "upgrade_accept": ["lost_key"]}
    # The second node goes back, and no further wave starts.
    stopped = play(tmp_path, {**accepted, "containerd_releases": chosen})
    assert [(name, line[:7]) for name, line in wave_lines(stopped)] == [("fleet-1", "wave 1:"), (BAD_NODE, "wave 2:")]
    assert last_lines(stopped)[:3] == ["1 upgraded: fleet-1", "1 went back: fleet-2", "3 left unchanged: fleet-[3-5]"]
    assert "shim is broken" in last_lines(stopped)[3]
    assert [stopped["stats"][name]["failures"] for name in NAMES] == [0, 1, 0, 0, 0]
    assert versions(fleet) == ["2.4.2", *["2.3.7"] * 4]
    assert daemon.is_well(fleet[BAD_NODE])
    assert {name: node["worst"] for name, node in report(tmp_path).items() if name != "fleet-1"} == {
        BAD_NODE: "fail",
        **dict.fromkeys(NAMES[2:], "warn"),
    }

    # The next run upgrades the nodes that are left.
    resumed = play(tmp_path, {**accepted, "upgrade_serial": "100%"})
    assert last_lines(resumed) == ["4 upgraded: fleet-[2-5]", "1 nothing to do: fleet-1"]
    assert {(name, line[:7]) for name, line in wave_lines(resumed)} == {(name, "wave 1:") for name in NAMES[1:]}
    assert versions(fleet) == ["2.4.2"] * 5

    again = play(tmp_path, accepted)
    assert last_lines(again) == ["5 nothing to do: fleet-[1-5]"] and not wave_lines(again)
    assert [(again["stats"][name]["changed"], again["stats"][name]["failures"]) for name in NAMES] == [(0, 0)] * 5
