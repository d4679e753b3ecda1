# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version, schema_support


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9"])
def test_finds_the_version_in_what_containerd_prints(recorded: Callable[[str, str], str], version: str) -> None:
    assert str(Version.parse(recorded(version, "version.txt"))) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", "1.7.27"),
        ("containerd github.com/containerd/containerd/v2 v2.0.0-rc.3 8c42a2c", "2.0.0-rc.3"),
        ("v2.4.0-beta.0", "2.4.0-beta.0"),
        ("1.7.24~ds1-6+deb13u1", "1.7.24"),
        ("2.1.0~rc.1+ds1-1", "2.1.0-rc.1"),
        ("1.7.12-0ubuntu4.2", "1.7.12"),
    ],
)
def test_finds_the_version_elsewhere(text: str, version: str) -> None:
    assert str(Version.parse(text)) == version


@pytest.mark.parametrize("text", ["", "containerd", "containerd/v2", "1.7"])
def test_refuses_text_without_a_version(text: str) -> None:
    with pytest.raises(ValueError, match="no containerd version in"):
        Version.parse(text)


def test_releases_are_ordered() -> None:
    order = ["1.6.20", "1.7.9", "1.7.24", "2.0.0-beta.1", "2.0.0-rc.1", "2.0.0", "2.0.10", "2.1.0", "10.0.0"]
    versions = [Version.parse(text) for text in order]
    assert sorted(versions, key=str) != versions
    assert sorted(versions) == versions
    assert all(one >= Version.parse(str(one)) for one in versions)
    assert not any(one < Version.parse(str(one)) for one in versions)


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("1.6.38", False),
        ("1.7.13", False),
        ("1.7.14", True),
        ("1.7.24", True),
        ("1.8.0", True),
        ("2.0.0-rc.1", False),
        ("2.0.0", True),
        ("2.1.0-rc.1", True),
        ("2.3.4", True),
    ],
)
def test_a_backported_change_is_in_the_lines_that_have_it(version: str, has: bool) -> None:
    assert Version.parse(version).at_least("1.7.14", "2.0.0") is has


@pytest.mark.parametrize(
    ("version", "newest", "merges"),
    [
        ("1.6.20", 2, False),
        ("1.7.24", 2, False),
        ("2.0.0", 3, True),
        ("2.1.9", 3, True),
        ("2.2.3", 3, True),
        ("2.3.0", 4, True),
        ("2.3.4", 4, True),
    ],
)
def test_schemas_that_a_daemon_reads(version: str, newest: int, merges: bool) -> None:
    support = schema_support(Version.parse(version))
    assert (support.newest, support.merges_plugin_tables) == (newest, merges)


def test_refuses_a_daemon_that_is_too_old() -> None:
    with pytest.raises(ValueError, match=r"containerd 1\.5\.13 is not supported: upgrade to 1\.6\.0"):
        schema_support(Version.parse("1.5.13"))
