# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_upgrade: the node has the other version, proven, or it is as it was. Containers run on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nodes import daemon
from nodes.images import busybox
from nodes.node import CHECKOUT, Node, run
from nodes.payload import run_module
from nodes.registry import Registry

MODULE = "containerd_upgrade"
HOME = "/usr/local/lib/slipway/containerd"
STATE = "/var/lib/slipway-node"
UNIT = "/etc/systemd/system/containerd.service"
NAME = "survivor"
UNIT_CONTENT = """# Managed by slipway.node: changes made here are lost.
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
# A key of an administrator, and settings of the collection that are in other places of other schemas.
THEIRS = f"""version = 2
[grpc]
  max_recv_message_size = 33554432
[plugins."{daemon.CRI}".cni]
  bin_dir = "/usr/lib/cni"
"""
FOREIGN_UNIT = "/etc/systemd/system/containerd.service.d/10-theirs.conf"
SETTINGS = {"settings": {"max_concurrent_downloads": 6, "snapshotter": "overlayfs", "runtimes": []}}


def staged(node: Node, version: str) -> str:
    """Bring a release to the node without using it; the path of its version directory."""
    [release] = json.loads(run([str(CHECKOUT / "tests/upstream"), "--releases", "containerd", version]).stdout).values()
    done = node.module("release_install", {"name": "containerd", "version": version, "state": "staged", **release})
    assert not done.get("failed"), done
    path: str = done["path"]
    return path


def to(path: str, **options: Any) -> dict[str, Any]:
    """Options for an upgrade to a staged release."""
    return {
        "to_binary": f"{path}/bin/containerd",
        "releases": [{"name": "containerd", "path": path}],
        "unit_content": UNIT_CONTENT,
        **SETTINGS,
        **options,
    }


def cleaned(node: Node) -> None:
    node.ssh(
        f"systemctl disable slipway-restore.service; rm -rf {STATE} /usr/local/lib/slipway /run/slipway-upgrading "
        f"/etc/systemd/system/slipway-restore.service {UNIT} /usr/local/sbin/systemctl; "
        "find /usr/local/bin -lname '*slipway*' -delete; "
        f"ctr tasks kill --signal SIGKILL {NAME}; ctr tasks rm --force {NAME}; ctr containers rm {NAME}; pkill -KILL -x busybox; "
        "systemctl daemon-reload",
        check=False,
    )


@pytest.fixture
def old(trixie: Node, source: Registry) -> Iterator[Node]:
    """1.7.24 as packaged, with settings of the collection, files of others, and a container that runs."""
    cleaned(trixie)
    daemon.reset(trixie, THEIRS)
    daemon.write(trixie, FOREIGN_UNIT, "[Service]\nLimitNOFILE=54321")
    done = run_module(trixie, "containerd_config", SETTINGS)
    assert not done.get("failed"), done
    image = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    trixie.ssh(f"ctr images pull --plain-http {image} && ctr run --detach --cpu-shares 0 {image} {NAME}")
    yield trixie
    cleaned(trixie)
    daemon.reset(trixie)


def container(node: Node) -> list[str]:
    """The container with its process, by the daemon."""
    return [" ".join(row.split()) for row in node.exec("ctr", "tasks", "ls").stdout.splitlines() if row.startswith(NAME)]


def version(node: Node) -> str:
    """The version of the daemon that runs."""
    return node.ssh(f"/proc/{daemon.main_pid(node)}/exe --version").stdout.split()[2].lstrip("v")


def files(node: Node) -> set[str]:
    """Every file of /etc and the programs, without the times at which they were written."""
    lines = node.ssh(
        "find /etc/containerd /etc/systemd /usr/local/bin /usr/local/lib/slipway -xdev ! -type d -printf '%p %y %m %U %G %l\\n'; "
        "find /etc/containerd /etc/systemd /usr/local/lib/slipway -xdev -type f -print0 | xargs -0 sha256sum"
    ).stdout.splitlines()
    return {line for line in lines if "slipway-restore" not in line}


def test_a_container_runs_through_an_upgrade_that_was_predicted(old: Node) -> None:
    path = staged(old, "2.3.7")
    before, running = files(old), container(old)
    assert running and "RUNNING" in running[0]
    predicted = run_module(old, MODULE, to(path), check=True)
    assert not predicted.get("failed"), predicted
    assert files(old) == before and version(old).startswith("1.7.24")
    assert (predicted["changed"], predicted["version"], predicted["to_version"]) == (True, "1.7.24", "2.3.7")

    done = run_module(old, MODULE, to(path))
    assert not done.get("failed"), done
    assert version(old) == "2.3.7" and daemon.is_well(old)
    assert container(old) == running
    assert (done["generation"], done["containers"], done["rolled_back"]) == (1, 1, False)
    assert {key: value for key, value in done.items() if key not in ("generation", "invocation")} == {
        key: value for key, value in predicted.items() if key not in ("generation", "invocation")
    }
    dump = old.exec("containerd", "config", "dump").stdout
    assert "max_concurrent_downloads = 6" in dump and "33554432" in dump
    again = run_module(old, MODULE, to(path))
    assert (again.get("failed", False), again["changed"]) == (False, False), again
    assert old.ssh(f"ls {STATE}/upgrading /run/slipway-upgrading", check=False).returncode != 0
