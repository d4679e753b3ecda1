# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.store.usage import parse_single_usage


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9"])
def test_reads_how_large_a_snapshot_is(recorded: Callable[[str, str], str], version: str) -> None:
    assert parse_single_usage(recorded(version, "snapshots-usage.txt")) == 4096


@pytest.mark.parametrize("stdout", ["", "KEY SIZE INODES\n", "KEY SIZE INODES\na 1.5 KiB\n", "KEY SIZE INODES\na 1 2\nb 1 2\n"])
def test_refuses_what_is_no_usage(stdout: str) -> None:
    with pytest.raises(ValueError, match="no snapshot's usage"):
        parse_single_usage(stdout)
