# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import product

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import LINES, Version
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import adopts, format_of, opens

LINE = [Version(*line.number, 3) for line in LINES]


@pytest.mark.parametrize(("reader", "writer"), list(product(LINE, LINE)), ids=str)
def test_every_known_line_opens_the_databases_of_every_other(reader: Version, writer: Version) -> None:
    assert opens(reader, writer)


def test_a_version_that_is_not_supported_opens_nothing() -> None:
    assert not opens(Version.parse("1.5.18"), Version.parse("2.3.7"))
    assert not opens(Version.parse("2.3.7"), Version.parse("1.5.18"))


def test_a_newer_line_is_taken_to_be_like_the_newest() -> None:
    assert opens(Version.parse("1.7.24"), Version.parse("2.9.0")) and opens(Version.parse("2.9.0"), Version.parse("2.4.2"))


@pytest.mark.parametrize("version", LINE, ids=str)
def test_the_schema_of_the_metadata(version: Version) -> None:
    assert format_of(version).metadata == (3 if version.major == 1 else 4)


@pytest.mark.parametrize("reader", LINE, ids=str)
def test_1_x_does_not_find_containers_that_2_x_started(reader: Version) -> None:
    started_by_1 = ["address", "config.json", "log", "rootfs", "work"]
    read_by_2_since = [*started_by_1, "bootstrap.json"]
    started_by_2 = ["bootstrap.json", "config.json", "log", "rootfs", "work"]
    assert adopts(reader, started_by_1) and adopts(reader, read_by_2_since)
    assert adopts(reader, started_by_2) is (reader.major == 2)
