# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.shutdown import classify

NOTHING: dict[str, Any] = {
    "born": 1000.0,
    "booted": 2000.0,
    "devices": ("vda1", "dm-0"),
    "kernel": "",
    "fsck": "",
    "before": None,
}
# As written by Linux 6.18 and systemd 252 to 257.
MOUNTED = "EXT4-fs (vda1): mounted filesystem 393cc2dd-c23c-425e-ab4a-ee37196efcbc r/w with ordered data mode. Quota mode: none."


@pytest.mark.parametrize(
    ("changes", "clean", "evidence"),
    [
        ({}, None, "no boot before this one"),
        ({"born": None}, None, "no boot before this one"),
        ({"born": 2000.5}, True, "created in this boot"),
        ({"kernel": MOUNTED}, None, "no boot before"),
        ({"kernel": f"EXT4-fs (vda1): recovery complete\n{MOUNTED}"}, False, "EXT4-fs (vda1): recovery complete"),
        ({"kernel": "EXT4-fs (vdb1): recovery complete"}, None, "no boot before"),
        ({"kernel": "EXT4-fs (vda11): recovery complete"}, None, "no boot before"),
        ({"kernel": "XFS (dm-0): Starting recovery (logdev: internal)"}, False, "XFS (dm-0): Starting recovery"),
        ({"kernel": "XFS (dm-0): Ending clean mount"}, None, "no boot before"),
        ({"kernel": "BTRFS info (device vda1): start tree-log replay"}, False, "start tree-log replay"),
        ({"kernel": "BTRFS info (device vda1 state E): start tree-log replay"}, False, "start tree-log replay"),
        ({"fsck": "/dev/vda1: recovering journal\n/dev/vda1: clean, 1/2 files"}, False, "recovering journal"),
        ({"fsck": "/dev/vda1: clean, 31044/655360 files, 402418/2620928 blocks"}, None, "no boot before"),
        ({"before": "Reached target shutdown.target - System Shutdown.\nJournal stopped"}, True, "System Shutdown."),
        ({"before": "Stopping ssh.service\nJournal stopped\n"}, True, "Journal stopped"),
        ({"before": "Started session-1.scope\nsomebody says: Journal stopped"}, False, "ends without a shutdown"),
        ({"before": "Journal stopped", "kernel": "EXT4-fs (dm-0): recovery complete"}, False, "recovery complete"),
    ],
)
def test_how_the_last_boot_ended(changes: dict[str, Any], clean: bool | None, evidence: str) -> None:
    found = classify(**{**NOTHING, **changes})
    assert found.clean is clean
    assert evidence in found.evidence
