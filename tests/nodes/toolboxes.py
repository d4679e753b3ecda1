# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Toolboxes on a node, as ctr, systemd and the kernel see them; nothing here uses the collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nodes.images import Layer, busybox
from nodes.node import Node

PREFIX = "/var/lib/toolbox"


def enterable() -> list[Layer]:
    """Layers of an image that systemd-nspawn and Flatcar's command take for a system, with a shell."""
    program = busybox()["bin/busybox"]
    return [{"bin/sh": program, "bin/cat": program, "bin/sleep": program}, {"etc/os-release": b"ID=boxed\n", "usr/lib/none": b""}]


def keys(node: Node) -> set[str]:
    """The names of writable snapshots in the namespace ``default``."""
    rows = [line.rstrip() for line in node.exec("ctr", "snapshots", "ls").stdout.splitlines()[1:]]
    return {row.removesuffix("Active").rsplit("sha256:", 1)[0].rstrip() for row in rows if row.endswith("Active")}


def mounted(node: Node, path: str) -> bool:
    return node.exec("mountpoint", "-q", path, check=False).returncode == 0


@contextmanager
def process_in(node: Node, path: str) -> Iterator[int]:
    """A process whose working directory is there; its id."""
    start = f"cd {path} && {{ sleep 100000 >/dev/null 2>&1 & }}; echo $!"
    # Until then it is the shell.
    pid = int(node.ssh(f"{start}; until grep -qx sleep /proc/$!/comm; do sleep 0.05; done").stdout)
    try:
        yield pid
    finally:
        node.ssh(f"kill -9 {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.05; done", check=False)


REMOVE = f"""
for unit in $(ls /etc/systemd/system | grep '[.]mount$'); do
  systemctl disable --now $unit; rm -f /etc/systemd/system/$unit
done
systemctl daemon-reload
awk '$5 ~ "^{PREFIX}/|^/mnt/" {{ print $5 }}' /proc/self/mountinfo | tac |
  while read -r path; do umount -l "$(printf "$path")"; done
ctr leases ls -q | while read -r lease; do ctr leases rm "$lease"; done
ctr snapshots ls | awk '/ Active *$/ {{ sub(/ +(sha256:[0-9a-f]+)? +Active *$/, ""); print }}' |
  while read -r key; do ctr snapshots rm "$key"; done
ctr images ls -q | xargs -r ctr images rm --sync
rm -rf {PREFIX} /etc/default/toolbox /usr/local/bin/toolbox /mnt/*
"""


def removed(node: Node) -> None:
    """No toolbox, unit, lease or writable snapshot is left, whatever state they are in."""
    node.ssh(REMOVE, check=False)
