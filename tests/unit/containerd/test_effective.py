# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd import imports
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source

V2, IMAGES, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
VERIFIER = "io.containerd.image-verifier.v1.bindir"
VERSIONS = ("1.6.20", "1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2")
Recorded = Callable[[str, str], str]


def dump(recorded: Recorded, version: str, name: str = "node.dump.toml") -> dict[str, Any]:
    return tomllib.loads(recorded(version, name))


def config(recorded: Recorded, version: str, name: str = "node.dump.toml") -> EffectiveConfig:
    return EffectiveConfig(dump(recorded, version, name))


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_the_settings_under_the_options_names(recorded: Recorded, version: str) -> None:
    old = version == "1.6.20"
    kata = {
        "type": "io.containerd.kata.v2",
        "path": None,
        "snapshotter": None if old else "native",
        "config_path": "/etc/kata/qemu/configuration.toml",
    }
    runc = {"type": "io.containerd.runc.v2", "path": None, "snapshotter": None, "config_path": None}
    assert config(recorded, version).to_dict() == {
        "image_pull_sync_fs": None if old else True,
        "diff_sync_fs": True if version.startswith("2.") else None,
        "use_local_image_pull": True if version.startswith("2.") else None,
        "snapshotter": "native",
        "default_runtime": "kata",
        "runtimes": {"kata": kata, "runc": runc},
        "systemd_cgroup": True,
        "sandbox_image": "registry.example/pause:3.10",
        "registry_config_path": "/etc/containerd/certs.d",
        "max_concurrent_downloads": 5,
        "image_pull_progress_timeout": None if old else "5m0s",
        "root": "/srv/containerd",
        "proxy_snapshotters": ["lazy"],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_the_defaults(recorded: Recorded, version: str) -> None:
    read = config(recorded, version, "default.toml").to_dict()
    assert (read["snapshotter"], read["default_runtime"], read["max_concurrent_downloads"]) == ("overlayfs", "runc", 3)
    assert list(read["runtimes"]) == ["runc"]
    assert read["systemd_cgroup"] is False
    assert read["image_pull_sync_fs"] is (None if version == "1.6.20" else False)


@pytest.mark.parametrize(
    ("version", "name", "durable"),
    [
        ("1.6.20", "node.dump.toml", []),
        ("1.7.24", "default.toml", []),
        ("1.7.24", "node.dump.toml", ["cri"]),
        ("2.1.9", "default.toml", []),
        ("2.1.9", "node.dump.toml", ["cri", "ctr"]),
    ],
)
def test_durability_of_what_the_daemon_has(recorded: Recorded, version: str, name: str, durable: list[str]) -> None:
    verdicts = config(recorded, version, name).pull_durability(Version.parse(version))
    assert list(verdicts) == ["cri", "ctr"] + ["transfer"] * (version != "1.6.20")
    assert [path for path, one in verdicts.items() if one["durability"] == "durable"] == durable
    assert {one["durability"] for one in verdicts.values()} <= {"durable", "not_durable"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_recorded_configurations_make_sense(recorded: Recorded, version: str) -> None:
    assert config(recorded, version).cri_config_error() is None
    assert config(recorded, version, "default.toml").cri_config_error() is None


def handlers_table(tree: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = tree["plugins"][RUNTIME if RUNTIME in tree["plugins"] else V2]["containerd"]["runtimes"]
    return table


def images_table(tree: dict[str, Any]) -> dict[str, Any]:
    """The one that has ``registry``; the default snapshotter is beside it in 2.x, and in ``containerd`` in 1.x."""
    table: dict[str, Any] = tree["plugins"][IMAGES if IMAGES in tree["plugins"] else V2]
    return table


def snapshotter_table(tree: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = images_table(tree) if IMAGES in tree["plugins"] else images_table(tree)["containerd"]
    return table


def with_mirrors(tree: dict[str, Any]) -> None:
    images_table(tree)["registry"].update(mirrors={"docker.io": {"endpoint": ["https://mirror.example"]}})


def without_cri(tree: dict[str, Any]) -> None:
    snapshotter_table(tree).update(snapshotter="nosuch")
    tree["disabled_plugins"] = [V2]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda tree: handlers_table(tree).pop("kata"), "runtime handler 'kata' is not declared"),
        (lambda tree: handlers_table(tree)["kata"].update(runtime_type=""), "runtime handler 'kata' has no type"),
        (with_mirrors, "can't stand beside its config_path"),
        (lambda tree: snapshotter_table(tree).update(snapshotter="nosuch"), "'nosuch' is neither"),
    ],
    ids=["no handler", "no type", "mirrors", "snapshotter"],
)
def test_what_cri_would_fail_on(recorded: Recorded, version: str, change: Callable[[dict[str, Any]], None], error: str) -> None:
    tree = dump(recorded, version)
    change(tree)
    assert error in (EffectiveConfig(tree).cri_config_error() or "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "change",
    [lambda tree: snapshotter_table(tree).update(snapshotter="lazy"), without_cri],
    ids=["proxy snapshotter", "CRI disabled"],
)
def test_what_cri_does_not_fail_on(recorded: Recorded, version: str, change: Callable[[dict[str, Any]], None]) -> None:
    tree = dump(recorded, version)
    change(tree)
    assert EffectiveConfig(tree).cri_config_error() is None


@pytest.mark.parametrize(
    ("names", "expected"), [([], False), (["cri"], True), ([V2], True), (["io.containerd.internal.v1.opt"], False)]
)
def test_cri_is_disabled_by_either_name(names: list[str], expected: bool) -> None:
    assert EffectiveConfig({"disabled_plugins": names}).cri_enabled is not expected


def test_the_sockets_of_proxy_snapshotters_are_those_of_the_last_file() -> None:
    one = Source("/a", '[proxy_plugins.x]\ntype = "snapshot"\naddress = "/run/a.sock"\n[proxy_plugins.y]\ntype = "content"\n')
    two = Source("/b", '[proxy_plugins.x]\ntype = "snapshot"\naddress = "/run/b.sock"\n')
    assert imports.proxy_addresses([one, two, Source("/c", "no TOML")]) == {"x": "/run/b.sock"}


def test_the_daemons_socket_in_each_schema() -> None:
    assert EffectiveConfig({"grpc": {"address": "/run/a.sock"}}).socket == "/run/a.sock"
    moved = {"version": 4, "plugins": {"io.containerd.server.v1.grpc": {"address": "/run/b.sock"}}}
    assert EffectiveConfig(moved).socket == "/run/b.sock"
    # What is written into the old place is printed, and ignored.
    assert EffectiveConfig({**moved, "grpc": {"address": "/run/a.sock"}}).socket == "/run/b.sock"
    assert EffectiveConfig({}).socket is None


def test_the_thin_pool_and_its_snapshotters_directory() -> None:
    plugin = "io.containerd.snapshotter.v1.devmapper"

    def pool(tree: dict[str, Any]) -> tuple[str | None, str]:
        found = EffectiveConfig(tree)
        return found.thin_pool, found.snapshotter_root("devmapper")

    assert pool({"plugins": {plugin: {"pool_name": "", "root_path": ""}}})[0] is None
    assert pool({})[0] is None
    assert pool({"root": "/srv", "plugins": {plugin: {"pool_name": "a-b"}}}) == ("a-b", f"/srv/{plugin}")
    assert pool({"plugins": {plugin: {"pool_name": "a-b", "root_path": "/x"}}}) == ("a-b", "/x")


def test_the_tables_of_snapshotters() -> None:
    plugins = {"lazy": {"type": "snapshot", "address": "/s"}, "store": {"type": "content", "address": "/t"}}
    found = EffectiveConfig({"proxy_plugins": plugins})
    assert [found.proxy_address(name) for name in ("lazy", "store", "native")] == ["/s", None, None]
    assert found.snapshotter_table("native") == {}


BOTH = "/etc/containerd/certs.d:/etc/docker/certs.d"
PARTS = tuple(BOTH.split(":"))


@pytest.mark.parametrize(
    ("version", "images", "read", "unread"),
    [
        ("1.7.24", {"registry": {"config_path": BOTH}}, PARTS, ()),
        ("2.0.9", {"registry": {"config_path": BOTH}}, PARTS, ()),
        # The transfer service takes them for one.
        ("2.1.9", {"registry": {"config_path": BOTH}}, (BOTH,), PARTS),
        ("2.4.2", {"registry": {"config_path": "/a:"}}, ("/a:",), ("/a",)),
        ("2.1.9", {"registry": {"config_path": "/a"}}, ("/a",), ()),
        ("2.1.9", {"registry": {"config_path": BOTH}, "max_concurrent_downloads": 7}, PARTS, ()),
        # From 2.2 on there is a default, with which two directories are named.
        ("1.7.24", {}, (), ()),
        ("2.1.9", {"image_pull_with_sync_fs": True}, (), ()),
        ("2.2.9", {"image_pull_with_sync_fs": True}, PARTS, ()),
        ("2.4.2", {}, (BOTH,), PARTS),
        ("2.4.2", {"registry": {"mirrors": {"a.example": {}}}}, (), ()),
    ],
)
def test_the_directories_in_which_cri_finds_registries(
    version: str, images: dict[str, Any], read: tuple[str, ...], unread: tuple[str, ...]
) -> None:
    old = version.startswith("1")
    found = EffectiveConfig({"version": 2 if old else 3, "plugins": {V2 if old else IMAGES: images}})
    assert found.hosts_dirs(Version.parse(version)) == read
    assert found.unread_hosts_dirs(Version.parse(version)) == unread


@pytest.mark.parametrize(
    ("images", "keys"),
    [
        ({}, []),
        ({"max_concurrent_downloads": 3, "disable_snapshot_annotations": True, "registry": {"mirrors": {}}}, []),
        ({"use_local_image_pull": True}, ["use_local_image_pull"]),
        ({"image_pull_with_sync_fs": True}, ["image_pull_with_sync_fs"]),
        ({"disable_snapshot_annotations": False}, ["disable_snapshot_annotations"]),
        ({"discard_unpacked_layers": True}, ["discard_unpacked_layers"]),
        ({"registry": {"mirrors": {"a.example": {}}, "configs": {"b": {}}, "auths": {"c": {}}}}, ["mirrors", "configs", "auths"]),
        ({"max_concurrent_downloads": 4}, ["max_concurrent_downloads"]),
    ],
)
def test_the_keys_that_make_cri_pull_by_itself(images: dict[str, Any], keys: list[str]) -> None:
    diff = {"io.containerd.service.v1.diff-service": {"sync_fs": True}}
    found = EffectiveConfig({"version": 3, "plugins": {IMAGES: images, **diff}})
    assert [path[-1] for path in found.local_pull_keys] == keys
    for version in ("2.1.9", "2.2.9", "2.3.7", "2.4.2"):
        verdict = found.pull_durability(Version.parse(version))["cri"]["durability"]
        assert verdict == ("durable" if keys else "not_durable")


def test_where_the_image_verifiers_are() -> None:
    def directory(table: dict[str, Any], **tree: Any) -> str | None:
        return EffectiveConfig({"version": 3, "plugins": {VERIFIER: table}, **tree}).verifier_dir

    assert directory({"bin_dir": "/v", "max_verifiers": -1}) == "/v"
    assert directory({"bin_dir": "/v", "max_verifiers": 0}) is None
    assert directory({"bin_dir": ""}) is None
    assert directory({"bin_dir": "/v"}, disabled_plugins=[VERIFIER]) is None
    assert EffectiveConfig({}).verifier_dir is None


def test_credentials_may_stand_beside_a_directory_of_registries() -> None:
    def error(**registry: Any) -> str | None:
        runtimes = {"runc": {"runtime_type": "io.containerd.runc.v2"}}
        table = {"registry": {"config_path": "/certs.d", **registry}, "containerd": {"runtimes": runtimes}}
        return EffectiveConfig({"version": 2, "plugins": {V2: table}}).cri_config_error()

    assert error(configs={"a.example": {"auth": {"username": "me"}, "tls": None}}) is None
    assert "configs.tls" in (error(configs={"a.example": {"tls": {"ca_file": "/ca"}}}) or "")


def test_a_daemon_without_cri_has_a_default_snapshotter_and_uses_none(recorded: Recorded) -> None:
    found = EffectiveConfig({**dump(recorded, "2.1.9"), "disabled_plugins": ["cri"]})
    assert (found.default_snapshotter, found.cri_snapshotter, found.used_snapshotters) == ("native", None, ())
    assert found.own_snapshotters == ("native",)


@pytest.mark.parametrize(
    ("version", "places", "durable"),
    [
        # Only the diff service flushes what is unpacked when a container is made; it can't before 1.7.26.
        ("1.7.24", {"runtimes"}, "not_durable"),
        ("2.1.9", {"runtimes"}, "not_durable"),
        ("2.1.9", {"runtimes", "runtime_platforms"}, "durable"),
        ("2.3.4", {"runtimes"}, "durable"),
    ],
)
def test_durability_for_the_snapshotter_of_a_handler(version: str, places: set[str], durable: str) -> None:
    handlers = {"kata": {"snapshotter": "native"}, "runc": {}}
    if version.startswith("1."):
        images: dict[str, Any] = {}
        tables = {V2: {"image_pull_with_sync_fs": True, "containerd": {"snapshotter": "overlayfs", "runtimes": handlers}}}
    else:
        images = {"image_pull_with_sync_fs": True, "snapshotter": "overlayfs"}
        images["runtime_platforms"] = {"kata": {"snapshotter": "native"}} if "runtime_platforms" in places else {}
        tables = {IMAGES: images, RUNTIME: {"containerd": {"runtimes": handlers}}}
    tree = {"version": 2 if version.startswith("1.") else 3, "plugins": tables}
    found = EffectiveConfig(tree).handlers_durability(Version.parse(version))
    assert {name: one["durability"] for name, one in found.items()} == {"native": durable}


def test_the_largest_message_is_read_where_the_schema_has_it() -> None:
    assert EffectiveConfig({"version": 3, "grpc": {"max_recv_message_size": 5}}).message_bytes("max_recv_message_size") == 5
    table = {"io.containerd.server.v1.grpc": {"max_recv_message_size": 6}}
    assert (
        EffectiveConfig({"version": 4, "grpc": {"max_recv_message_size": 5}, "plugins": table}).message_bytes(
            "max_recv_message_size"
        )
        == 6
    )
    assert EffectiveConfig({"version": 3, "grpc": {"max_send_message_size": 7}}).message_bytes("max_send_message_size") == 7
    assert EffectiveConfig({"version": 3, "grpc": {"max_recv_message_size": 0}}).message_bytes("max_recv_message_size") is None
