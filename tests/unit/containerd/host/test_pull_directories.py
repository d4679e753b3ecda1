# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import (
    hosts_dir,
    image_verifiers,
    unread_hosts_dirs,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError

IMAGES, VERIFIER = "io.containerd.cri.v1.images", "io.containerd.image-verifier.v1.bindir"


def config(plugin: str, **table: Any) -> EffectiveConfig:
    return EffectiveConfig({"version": 3, "plugins": {plugin: table}})


@pytest.mark.parametrize(
    ("made", "host", "expected"),
    [
        ([], "a.example", None),
        (["1/a.example", "2/a.example"], "a.example", "1"),
        (["1/b.example", "2/a.example"], "a.example", "2"),
        (["1/_default", "2/a.example"], "a.example", "1"),
        (["2/a.example_5000_"], "a.example:5000", "2"),
        (["2/a.example:5000"], "a.example:5000", "2"),
        (["2/a.example"], "a.example:5000", None),
    ],
)
def test_a_registry_is_found_in_the_first_directory_that_has_it(
    tmp_path: Path, made: list[str], host: str, expected: str | None
) -> None:
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    found = hosts_dir([str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "gone")], host)
    assert found == (expected and str(tmp_path / expected))


def test_directories_that_were_named_are_unread_whether_or_not_they_have_files(tmp_path: Path) -> None:
    named = config(IMAGES, registry={"config_path": f"{tmp_path}:/gone"})
    assert unread_hosts_dirs(named, Version.parse("2.3.7")) == (str(tmp_path), "/gone")
    assert unread_hosts_dirs(named, Version.parse("1.7.24")) == ()


def test_every_entry_of_their_directory_is_an_image_verifier(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert image_verifiers(config(VERIFIER, bin_dir=str(tmp_path))) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert image_verifiers(config(VERIFIER, bin_dir=str(tmp_path / "gone"))) == ()
    assert image_verifiers(EffectiveConfig({})) == ()
    with pytest.raises(HostError, match="can't be listed"):
        image_verifiers(config(VERIFIER, bin_dir=str(tmp_path / "a")))
