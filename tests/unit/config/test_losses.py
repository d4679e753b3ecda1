# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config import losses
from ansible_collections.slipway.node.plugins.module_utils.config.record import OwnedKey, Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import merge, nest

Recorded = Callable[[str, str], str]
V2, IMAGES = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"
MOVED = ("2.3.7", "2.4.2")
SANDBOX = ("plugins", IMAGES, "pinned_images", "sandbox")
GRPC, TTRPC = ("plugins", "io.containerd.server.v1.grpc"), ("plugins", "io.containerd.server.v1.ttrpc")


def config(recorded: Recorded, version: str, name: str) -> EffectiveConfig:
    return EffectiveConfig(tomllib.loads(recorded(version, name)))


def lost_by_change(
    recorded: Recorded, version: str, after: EffectiveConfig, wanted: dict[Any, Any] | None = None, record: Record | None = None
) -> list[str]:
    root = Source("/etc/c.toml", recorded(version, "versionless.toml"))
    before = config(recorded, version, "versionless.dump.toml")
    return [str(key) for key in losses.lost_by_change([root], before, after, wanted or {}, record or Record())]


@pytest.mark.parametrize("version", MOVED)
def test_a_wrong_version_in_a_file_without_one_loses_everything(recorded: Recorded, version: str) -> None:
    stamped = config(recorded, version, "versionless-as-4.dump.toml")
    assert lost_by_change(recorded, version, stamped) == [
        f"/etc/c.toml: {key}"
        for key in (
            "grpc.address",
            "metrics.address",
            f'plugins."{V2}".sandbox_image',
            f'plugins."{V2}".containerd.snapshotter',
            f'plugins."{V2}".containerd.runtimes.runc.options.SystemdCgroup',
        )
    ]
    assert lost_by_change(recorded, version, config(recorded, version, "versionless.dump.toml")) == []


@pytest.mark.parametrize("version", MOVED)
def test_what_a_run_sets_itself_is_not_lost(recorded: Recorded, version: str) -> None:
    before = config(recorded, version, "versionless.dump.toml")
    # The second address follows the first one, and no file sets it.
    changed = {SANDBOX: "other", (*GRPC, "address"): "/a", (*TTRPC, "address"): "/a.ttrpc"}
    after = EffectiveConfig(merge(before.dump, nest(changed)))
    assert lost_by_change(recorded, version, after, {SANDBOX: "other", (*GRPC, "address"): "/a"}) == []
    assert lost_by_change(recorded, version, after, {SANDBOX: "other", GRPC: {}}) == ["/etc/c.toml: grpc.address"]


@pytest.mark.parametrize("version", MOVED)
def test_what_an_earlier_run_set_in_the_file_is_not_lost(recorded: Recorded, version: str) -> None:
    before = config(recorded, version, "versionless.dump.toml")
    after = EffectiveConfig(merge(before.dump, nest({SANDBOX: "default"})))
    record = Record(keys={("plugins", V2, "sandbox_image"): OwnedKey("registry.example/pause:3.10")})
    assert lost_by_change(recorded, version, after, record=record) == []
    # A table that is empty is none of anybody's settings.
    empty = Record(keys={("plugins", V2): OwnedKey({})})
    assert lost_by_change(recorded, version, after, record=empty) == [f'/etc/c.toml: plugins."{V2}".sandbox_image']


def lost(recorded: Recorded, version: str, *sources: Source, dump: str = "schema2.dump.toml") -> list[str]:
    keys = losses.lost_keys(sources, config(recorded, version, dump), config(recorded, version, "default.toml"))
    return [str(key) for key in keys]


@pytest.mark.parametrize("version", ["2.1.9", "2.2.9", "2.3.7", "2.4.2"])
def test_the_snapshotter_of_a_file_without_handlers_is_lost(recorded: Recorded, version: str) -> None:
    root = Source("/etc/c.toml", recorded(version, "schema2.toml"))
    assert lost(recorded, version, root) == [f'/etc/c.toml: plugins."{V2}".containerd.snapshotter']
    # Another file sets it, so the first one's doesn't count.
    later = Source("/etc/d.toml", f'version = 3\n[plugins."{IMAGES}"]\nsnapshotter = "overlayfs"\n')
    assert lost(recorded, version, root, later) == []


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2"])
def test_nothing_is_lost_of_a_files_own_schema(recorded: Recorded, version: str) -> None:
    for name in ("node", "default"):
        dump = "node.dump.toml" if name == "node" else "default.toml"
        assert lost(recorded, version, Source("/etc/c.toml", recorded(version, f"{name}.toml")), dump=dump) == []


@pytest.mark.parametrize("version", ["2.1.9", "2.2.9", *MOVED])
def test_keys_are_compared_between_versions_in_the_place_of_each(recorded: Recorded, version: str) -> None:
    text = f'''version = 2
[plugins."{V2}"]
max_concurrent_downloads = 9
[plugins."{V2}".containerd]
snapshotter = "native"
'''
    own = {
        ("plugins", V2, "max_concurrent_downloads"): 9,
        ("plugins", V2, "containerd", "snapshotter"): "native",
    }
    before = EffectiveConfig(merge(config(recorded, "1.7.24", "default.toml").dump, nest(own)))
    default = config(recorded, version, "default.toml")
    after = EffectiveConfig(merge(default.dump, nest({("plugins", IMAGES, "max_concurrent_downloads"): 9})))
    lost = losses.lost_by_change([Source("/etc/c.toml", text)], before, after, {}, Record())
    assert [str(key) for key in lost] == [f'/etc/c.toml: plugins."{V2}".containerd.snapshotter']
    wanted: dict[Any, Any] = {("plugins", IMAGES, "snapshotter"): "overlayfs"}
    assert losses.lost_by_change([Source("/etc/c.toml", text)], before, after, wanted, Record()) == []
