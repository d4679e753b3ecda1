# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What diff mode shows of a node that goes back."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import record_path
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.previous import shown_files

ROOT = "/etc/containerd/config.toml"
RECORD = (
    """{"set": [{"path": ["auth", "password"], "value": "secret", "before": "hidden"}], "original": "password = \\"hidden\\""}"""
)


def test_the_record_is_not_shown() -> None:
    files = [
        FileChange(ROOT, 'password = "secret"\n', 'password = "hidden"\n'),
        FileChange(record_path(ROOT), None, RECORD),
        FileChange("/etc/systemd/system/containerd.service", "[Unit]\n", "[Unit]\n"),
    ]
    shown = list(shown_files(files))
    assert [one["before_header"] for one in shown] == [ROOT]
    assert "secret" not in str(shown) and "hidden" not in str(shown)
