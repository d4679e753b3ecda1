# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's UUID is damaged only where the daemon doesn't replace it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.uuid import recreate_uuid, uuid_problem
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

SOUND = "6d9de3d3-1f0f-4a1f-9f0e-2a3b4c5d6e7f"


@pytest.mark.parametrize(
    ("content", "version", "problem"),
    [
        (None, "1.6.20", ""),
        (SOUND, "1.6.20", ""),
        ("", "1.6.34", "is empty"),
        ("", "1.6.35", ""),
        ("", "1.7.20", "is empty"),
        ("", "1.7.24", ""),
        ("", "2.3.7", ""),
        ("", None, "is empty"),
        ("damaged", "2.3.7", "holds something else"),
        ("\0" * 36, "2.3.7", "holds something else"),
        (f"{SOUND}\n", "2.3.7", "holds something else"),
    ],
)
def test_a_uuid_is_damaged_if_the_daemon_does_not_replace_it(
    tmp_path: Path, content: str | None, version: str | None, problem: str
) -> None:
    file = tmp_path / "io.containerd.grpc.v1.introspection/uuid"
    file.parent.mkdir()
    if content is not None:
        file.write_text(content)
    found = uuid_problem(str(tmp_path), Version.parse(version) if version else None)
    assert problem in found and bool(found) is bool(problem)
    recreate_uuid(str(tmp_path))
    assert not file.exists()
