# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module toolbox_snapshot on a node, and read the state of the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nodes.fixtures import packaged
from nodes.node import Node
from nodes.payload import run_module

PATH = "/var/lib/toolbox/box"
UNIT = "var-lib-toolbox-box.mount"
UNITS = "/etc/systemd/system"
FRESH = ["pull", "prepare", "label", "directory", "unit", "enable", "mount"]
COLLECT = "ctr leases create --id probe >/dev/null && ctr leases rm --sync probe >/dev/null"
# Shown of a toolbox: what a run may change.
SHOW = f"""
    export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1
    ctr snapshots info {PATH} 2>&1 | grep -v Updated; ctr snapshots --snapshotter native ls
    ctr leases ls -q; ctr images ls -q | sort
    ls -lA /var/lib/toolbox; cat {UNITS}/*.mount; ls {UNITS}/multi-user.target.wants; findmnt {PATH}
"""


@pytest.fixture
def empty_node(node: Node) -> Iterator[Node]:
    """A node as packaged, without toolboxes and images."""
    with without_toolboxes(node):
        yield node


@contextmanager
def without_toolboxes(node: Node) -> Iterator[None]:
    """Restore the packaged configuration; remove all toolboxes and images, before and after."""
    packaged(node)
    emptied(node)
    yield
    emptied(node)


def emptied(node: Node) -> None:
    node.ssh(
        f"""
        systemctl stop held
        chattr -i /var/lib/toolbox
        for path in $(findmnt --raw --noheadings --output TARGET | grep '^/var/lib/toolbox/\\|^/run/held\\|^/srv/'); do
          umount -l $path
        done
        rm -rf --one-file-system /var/lib/toolbox /run/held /run/killing /srv/* /run/killed
        for unit in $(grep -l slipway {UNITS}/*.mount); do rm -f $unit; done
        find {UNITS}/multi-user.target.wants -xtype l -delete; systemctl daemon-reload
        for snapshotter in overlayfs native; do
          for key in $(ctr snapshots --snapshotter $snapshotter ls | awk '$NF == "Active" {{print $1}}'); do
            ctr snapshots --snapshotter $snapshotter rm $key
          done
        done
        ctr images rm $(ctr images ls -q)
        for lease in $(ctr leases ls -q); do ctr leases rm $lease; done
        {COLLECT}
        """,
        check=False,
    )


def box(node: Node, image: str | None = None, *, check: bool = False, name: str = "box", **options: Any) -> dict[str, Any]:
    given = {"image": image} if image is not None else {}
    return run_module(node, "toolbox_snapshot", {"name": name, "plain_http": True, **given, **options}, check=check)


def steps_of(result: dict[str, Any]) -> list[str]:
    assert not result.get("failed"), result["msg"]
    steps: list[str] = result["steps"]
    assert result["changed"] == bool(steps)
    return steps


def refused(result: dict[str, Any]) -> str:
    assert result.get("failed"), result
    message: str = result["msg"]
    assert "\n" not in message and "Traceback" not in message
    return message


def shown(node: Node) -> str:
    return node.ssh(SHOW, check=False).stdout


def info(node: Node, key: str = PATH) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.exec("ctr", "snapshots", "info", key).stdout)
    return found


def is_mounted(node: Node, path: str = PATH) -> bool:
    return node.exec("mountpoint", "-q", path, check=False).returncode == 0


@contextmanager
def process_inside(node: Node, path: str = PATH) -> Iterator[int]:
    """A process inside the toolbox, as systemd-nspawn has it: root and mount namespace of its own."""
    inside = f"unshare --mount --propagation private chroot {path} /bin/busybox sleep 1000"
    node.ssh(
        f"systemd-run --quiet --unit held {inside} && until pgrep -f '^/bin/busybox sleep 1000$' >/dev/null; do sleep 0.05; done"
    )
    pid = int(node.ssh("pgrep -f '^/bin/busybox sleep 1000$'").stdout)
    try:
        yield pid
    finally:
        node.ssh("systemctl stop held", check=False)
