# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from unit.databases import PAGE, branch, database, recorded_database

from ansible_collections.slipway.node.plugins.module_utils.containerd.bolt import Database


def test_reads_what_containerd_wrote() -> None:
    found = Database(recorded_database())
    assert list(found.bucket("devices")) == [f"containerd-pool-snap-{number}".encode() for number in (1, 2, 3)]
    assert found.bucket("device_ids") == {b"1": b"\1", b"2": b"\1", b"3": b"\1"}
    assert found.bucket("none") == {}
    assert found.transaction == 35


def test_reads_a_bucket_of_several_pages() -> None:
    assert Database(database()).bucket("devices") == {b"a": b"1", b"b": b"", b"c": b"3"}


def test_takes_the_newest_state_that_is_whole() -> None:
    assert Database(database(transactions=(8, 7))).bucket("devices") == {}
    torn = bytearray(database(transactions=(8, 7)))
    torn[16 + 48] ^= 1
    assert Database(bytes(torn)).bucket("devices") == {b"a": b"1", b"b": b"", b"c": b"3"}


@pytest.mark.parametrize("content", [b"", b"nonsense" * 2000, recorded_database()[:40], bytes(3 * PAGE)])
def test_what_is_no_database_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="no bbolt database"):
        Database(content)


@pytest.mark.parametrize("pages", range(2, 7))
def test_a_database_that_is_cut_short_is_damaged(pages: int) -> None:
    cut = Database(database()[: pages * PAGE])
    with pytest.raises(ValueError, match=r"damaged|cut short"):
        cut.bucket("devices")


def test_a_tree_in_circles_is_damaged() -> None:
    content = database()
    circle = content[: 4 * PAGE] + branch(4, [(b"a", 4)]) + content[5 * PAGE :]
    with pytest.raises(ValueError, match="page 4 of the database is damaged"):
        Database(circle).bucket("devices")
