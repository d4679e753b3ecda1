# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a node and the roles agree: all roles are run in check mode, regardless of the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from integration.test_role import PROVISION, changed, listed, made, succeeded

from nodes import daemon, kata
from nodes.images import random_layers
from nodes.node import Node, ansible_json
from nodes.registry import Registry
from nodes.toolboxes import enterable, mounted

PARTS = ["containerd", "images", "toolboxes"]
# Overrides the plan, so that all roles are entered.
EVERYTHING = {"__provision_plan": {"parts": PARTS}}
PASSWORD = "correct horse battery"
TOOLBOX = "/var/lib/toolbox/debug"
BRING = "Pull or import the images, or remove them"
CHANGE = "Change the toolboxes"


@dataclass(frozen=True)
class Fleet:
    """A node that was provisioned with these variables."""

    node: Node
    variables: dict[str, Any]

    def plan(self, *, check: bool = False) -> dict[str, Any]:
        """What the module says."""
        argv = ["ansible", self.node.name, "-i", str(self.node.inventory), "-m", "slipway.node.node_plan"]
        result = ansible_json(*argv, "--extra-vars", json.dumps(self.variables), *(["--check"] if check else []))
        found: dict[str, Any] = result["plays"][0]["tasks"][0]["hosts"][self.node.name]
        assert not found.get("failed") and not found["changed"], found
        assert PASSWORD not in json.dumps(result)
        return {key: found[key] for key in ("parts", "stage", "reason")}

    def provision(self, *, everything: bool = False, check: bool = False) -> set[str]:
        """The tasks that changed something."""
        played = self.node.play(PROVISION, {**self.variables, **(EVERYTHING if everything else {})}, check=check)
        succeeded(played, self.node)
        return set(changed(played, self.node))


@pytest.fixture(scope="module", params=["trixie", "2.3"])
def fleet(request: pytest.FixtureRequest, source: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("kata")
    handler = {"runtime": "go", "hypervisor": "qemu", "disable_block_device_use": True}
    variables = {
        "containerd_registries": [
            source.entry,
            {"name": "docker.io", "mirrors": [{"url": f"http://{source.name}", "username": "node", "password": PASSWORD}]},
        ],
        "containerd_images": [{"name": source.push(random_layers(2)), "plain_http": True} for _ in range(2)],
        "containerd_http_proxy": {"https": "http://proxy.example:3128", "no_proxy": ["localhost", "127.0.0.0/8"]},
        "containerd_max_concurrent_downloads": 4,
        "toolbox_snapshots": [{"name": "debug", "image": source.push(enterable()), "plain_http": True}],
        "kata_handlers": [{"name": "kata-qemu", **handler}, {"name": "kata-two", **handler}],
        "kata_check_hardware": False,
        **kata.archive(directory / "kata-static-3.27.0.tar.xz", "3.27.0"),
    }
    with made(request.param) as node:
        here = Fleet(node, variables)
        assert here.plan()["parts"] == PARTS
        assert here.provision()
        assert here.plan() == here.plan(check=True) == {"parts": [], "stage": None, "reason": ""}
        yield here


# Of the stages that the plan names, the tasks of the roles that do their work.
TASKS = {
    "Kata handlers": "Write the handlers' files",
    "kernel modules of Kata": "Load the kernel modules at boot",
    "packages": "Install containerd",
    "containerd's release": "Install the release",
    "unit": "Install the unit",
    "registries": "Configure registry hosts",
    "settings": "Apply the settings",
    "images": BRING,
    "toolboxes": CHANGE,
}
# In check mode, a daemon that would change before is not asked.
SAME_TASK = {"Predict the changes of the images": BRING, "Predict the changes of the toolboxes": CHANGE}
# Each round lets the node drift from the last stage to the first: the plan names the first, which is the newest.
ROUNDS = {
    "images and toolboxes": {
        "toolboxes": "rm /etc/systemd/system/var-lib-toolbox-debug.mount && systemctl daemon-reload",
        "images": "ctr -n k8s.io images label {image} slipway.node/synced.overlayfs=",
    },
    "every stage": {
        "toolboxes": f"umount {TOOLBOX}",
        "images": "ctr -n k8s.io images rm --sync {image}",
        "settings": "sed -i 's/max_concurrent_downloads = 4/max_concurrent_downloads = 5/' {settings}",
        "registries": "sed -i s,http://,https://, /etc/containerd/certs.d/docker.io/hosts.toml",
        "unit": "echo '# edited' >> /etc/systemd/system/containerd.service",
        "containerd's release": "rm /usr/local/bin/containerd-shim-runc-v2",
        "packages": "dpkg --force-depends --remove runc",
        "kernel modules of Kata": "chmod 600 /etc/modules-load.d/slipway-kata.conf",
        "Kata handlers": "echo '# edited' >> /etc/kata-containers/kata-two/configuration.toml",
    },
    "what is removed": {
        "settings": "sed -i s/3128/3129/ /etc/systemd/system/containerd.service.d/*slipway*",
        "registries": "rm -r /etc/containerd/certs.d/docker.io",
        "kernel modules of Kata": "rm /etc/modules-load.d/slipway-kata.conf",
    },
}
# Of the installation from packages, and of the one from archives.
PACKAGED, ARCHIVED = {"packages"}, {"containerd's release", "unit"}


@pytest.mark.parametrize("number", ROUNDS)
def test_the_plan_names_work_if_and_only_if_the_roles_change_something(fleet: Fleet, number: str) -> None:
    node, drifted = fleet.node, set()
    settings = "/etc/containerd/conf.d/60-slipway.toml" if node.line >= (2,) else "/etc/containerd/config.toml"
    image = fleet.variables["containerd_images"][0]["name"]
    for stage, command in ROUNDS[number].items():
        if stage in (PACKAGED if node.upstream else ARCHIVED):
            continue
        node.ssh(command.format(image=image, settings=settings))
        planned = fleet.plan()
        assert planned["stage"] == stage, planned
        first = stage if stage in PARTS else PARTS[0]
        assert planned["parts"] == PARTS[PARTS.index(first) :], planned
        drifted.add(TASKS[stage])
    assert fleet.plan(check=True) == planned
    predicted = {SAME_TASK.get(task, task) for task in fleet.provision(everything=True, check=True)}
    assert predicted >= drifted
    assert fleet.provision() == predicted

    assert fleet.plan() == {"parts": [], "stage": None, "reason": ""}
    assert daemon.is_well(node) and mounted(node, TOOLBOX)


@pytest.mark.parametrize(("drift", "back"), [("stop", "start"), ("disable", "enable")])
def test_a_daemon_that_is_not_started_is_work(fleet: Fleet, drift: str, back: str) -> None:
    fleet.node.exec("systemctl", drift, "containerd")
    planned = fleet.plan()
    assert planned["stage"] == "settings" and planned["parts"] == PARTS, planned
    assert fleet.plan(check=True) == planned
    fleet.node.exec("systemctl", back, "containerd")
    assert fleet.plan()["parts"] == []


def test_the_roles_change_nothing_on_a_node_without_work(fleet: Fleet) -> None:
    before = listed(fleet.node)
    assert fleet.plan()["parts"] == []
    for check in (True, False):
        assert fleet.provision(everything=True, check=check) == set()
    assert fleet.provision() == set()
    assert listed(fleet.node) == before


def test_an_unlisted_setting_is_work_until_it_is_taken_back(fleet: Fleet) -> None:
    """Work that comes from the inventory, not from the node."""
    other = Fleet(fleet.node, {**fleet.variables, "containerd_max_concurrent_downloads": 5})
    assert other.plan()["stage"] == "settings"
    assert fleet.plan()["parts"] == []
    gone = Fleet(fleet.node, {**fleet.variables, "kata_handlers": fleet.variables["kata_handlers"][:1]})
    assert gone.plan()["stage"] == "Kata handlers"
    refused = Fleet(fleet.node, {**fleet.variables, "containerd_images": [{"name": "a b"}]})
    assert (refused.plan()["stage"], refused.plan()["parts"]) == ("inventory", PARTS)


def test_no_password_keeps_roles_out_or_reaches_the_log(fleet: Fleet) -> None:
    """Ansible masks each text that contains the password, such as the part images."""
    odd = 'i\\t\'s "hidden"'
    hosts = fleet.variables["containerd_registries"]
    for password in ("a", odd):
        mirror = {"url": "http://mirror.example", "username": "node", "password": password}
        other = Fleet(
            fleet.node, {**fleet.variables, "containerd_registries": [*hosts, {"name": "b.example", "mirrors": [mirror]}]}
        )
        assert other.plan()["parts"] == PARTS
    logged = fleet.node.ssh("journalctl --no-pager").stdout
    assert "node_plan" in logged and PASSWORD not in logged and "hidden" not in logged
