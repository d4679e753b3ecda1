# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config import losses
from ansible_collections.slipway.node.plugins.module_utils.config.record import OwnedKey, Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted, merge, nest

Recorded = Callable[[str, str], str]
V2, IMAGES = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"
MOVED = ("2.3.7", "2.4.2")
SANDBOX = ("plugins", IMAGES, "pinned_images", "sandbox")
GRPC, TTRPC = ("plugins", "io.containerd.server.v1.grpc"), ("plugins", "io.containerd.server.v1.ttrpc")


def config(recorded: Recorded, version: str, name: str) -> EffectiveConfig:
    return EffectiveConfig(tomllib.loads(recorded(version, name)))


@pytest.mark.parametrize("version", MOVED)
def test_a_wrong_version_in_a_file_without_one_loses_everything(recorded: Recorded, version: str) -> None:
    before, after, defaults = (
        config(recorded, version, f"{name}.toml") for name in ("versionless.dump", "versionless-as-4.dump", "default")
    )
    assert [dotted(path).rpartition('".')[2] for path in losses.lost_by_change(before, after, defaults, ())] == [
        "snapshotter",
        "pinned_images.sandbox",
        "containerd.runtimes.runc.options.SystemdCgroup",
        "address",
        "address",
        "address",
    ]
    assert losses.lost_by_change(before, before, defaults, ()) == []


@pytest.mark.parametrize("version", MOVED)
def test_what_the_run_sets_itself_is_not_lost(recorded: Recorded, version: str) -> None:
    defaults = config(recorded, version, "default.toml")
    before = config(recorded, version, "versionless.dump.toml")
    after = EffectiveConfig(
        merge(before.dump, nest({SANDBOX: "other", (*GRPC, "address"): "/a", (*TTRPC, "address"): "/a.ttrpc"}))
    )
    own = {SANDBOX, (*GRPC, "address")}
    assert losses.lost_by_change(before, after, defaults, own) == []
    assert losses.lost_by_change(before, after, defaults, {SANDBOX}) == [(*GRPC, "address"), (*TTRPC, "address")]


def test_the_places_of_a_run_and_of_those_before_it() -> None:
    # An empty table is none of anybody's settings.
    runtimes = ("plugins", V2, "containerd", "runtimes")
    record = Record(keys={("plugins", V2, "sandbox_image"): OwnedKey("x"), runtimes: OwnedKey({})})
    drop_in = Source("/60-slipway.toml", 'version = 3\n[metrics]\naddress = "x"\n')
    assert losses.own_places({("root",): "/srv", ("plugins", "a"): {}}, drop_in, (record,), 4) == {
        ("root",),
        SANDBOX,
        ("plugins", "io.containerd.server.v1.metrics", "address"),
    }


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
