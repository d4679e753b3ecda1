# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that boots in the middle of an upgrade. tests/crash cuts its power."""

from __future__ import annotations

from integration import test_upgrade
from integration.test_upgrade import MODULE, STATE, files, killed_after, staged, to, version

from nodes import daemon
from nodes.node import PODMAN, Node, run
from nodes.payload import run_module

old = test_upgrade.old
GENERATION = f"{STATE}/generations/1"
# In the middle of an upgrade, dpkg has removed the package with its unit.
WITHOUT_PACKAGE = f"""
mkdir {GENERATION}/packages && cd {GENERATION}/packages
apt-get -qq update && apt-get -qq download containerd
printf 'packages\\tpackages\\n' >>{GENERATION}/list
dpkg --force-depends --remove containerd
rm /etc/systemd/system/containerd.service; systemctl daemon-reload
"""


def test_a_node_boots_on_what_was_there_before_an_upgrade_that_was_cut_short(old: Node) -> None:
    path = staged(old, "2.3.7")
    before = files(old)
    killed_after(old, "started", to(path))
    old.ssh(f"set -e\n{WITHOUT_PACKAGE}")
    assert old.ssh("systemctl cat containerd", check=False).returncode != 0
    run([*PODMAN, "kill", old.container])
    old.reboot()
    assert version(old).startswith("1.7.24") and daemon.is_well(old)
    assert files(old) == before
    logged = old.ssh("journalctl --sync; journalctl --boot --unit slipway-restore.service --output cat").stdout
    assert "generation 1 is back" in logged
    found = run_module(old, MODULE, {"state": "recovered"})
    assert not found.get("failed") and found["recovered"]["version"] == "1.7.24", found
    assert old.ssh(f"ls {STATE}/upgrading", check=False).returncode != 0
    assert files(old) == before and version(old).startswith("1.7.24")
