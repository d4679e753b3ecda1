# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config import tables as schema
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import DIFFER_PREFIX, SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SETTINGS
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS, SNAPSHOTTER_SINCE
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.tree import flatten, lookup

V2, IMAGES, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
DIFF = "io.containerd.service.v1.diff-service"
SYNC_V2 = ("plugins", V2, "image_pull_with_sync_fs")
SYNC_V3 = ("plugins", IMAGES, "image_pull_with_sync_fs")
LOCAL = ("plugins", IMAGES, "use_local_image_pull")
RUNTIMES_V2 = ("plugins", V2, "containerd", "runtimes")
RUNC = {(*RUNTIMES_V2, "runc", "runtime_type"): "io.containerd.runc.v2"}
DIFF_SYNC = ("plugins", DIFF, "sync_fs")


def leaves(version: str, number: int, **options: Any) -> dict[tuple[str, ...], Any]:
    tree = schema.tables(Settings.from_params(options), Version.parse(version), number, "amd64")
    return flatten(tree)


@pytest.mark.parametrize(
    ("version", "number", "keys"),
    [
        ("1.7.14", 2, {SYNC_V2: True}),
        ("1.7.24", 2, {SYNC_V2: True}),
        ("1.7.26", 2, {SYNC_V2: True, DIFF_SYNC: True}),
        ("2.0.0", 3, {SYNC_V3: True, DIFF_SYNC: True}),
        ("2.1.9", 2, {SYNC_V2: True, DIFF_SYNC: True, LOCAL: True}),
        ("2.1.9", 3, {SYNC_V3: True, DIFF_SYNC: True, LOCAL: True}),
        ("2.2.3", 3, {SYNC_V3: True, DIFF_SYNC: True, LOCAL: True}),
        ("2.3.4", 4, {SYNC_V3: True, DIFF_SYNC: True, LOCAL: True}),
    ],
)
def test_every_switch_that_the_version_needs_for_durable_pulls(version: str, number: int, keys: dict[Any, Any]) -> None:
    assert leaves(version, number, image_pull_sync_fs=True) == keys


@pytest.mark.parametrize(
    ("version", "number", "keys"),
    [
        ("1.6.20", 2, {}),
        ("1.7.13", 2, {}),
        ("1.7.24", 2, {SYNC_V2: False}),
        ("2.1.9", 3, {SYNC_V3: False, DIFF_SYNC: False}),
    ],
)
def test_durable_pulls_are_switched_off(version: str, number: int, keys: dict[Any, Any]) -> None:
    assert leaves(version, number, image_pull_sync_fs=False) == keys


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        ("1.6.20", {"image_pull_sync_fs": True}, r"image_pull_sync_fs needs containerd 1\.7\.14 or newer, and this is 1\.6\.20"),
        ("1.7.13", {"image_pull_sync_fs": True}, r"image_pull_sync_fs needs containerd 1\.7\.14 .* this is 1\.7\.13"),
        (
            "1.6.20",
            {"runtimes": [{"name": "kata", "snapshotter": "native"}]},
            r"runtimes\[kata\]\.snapshotter needs containerd 1\.7 or newer, and this is 1\.6\.20",
        ),
        (
            "1.6.20",
            {"image_pull_progress_timeout": "5m"},
            r"image_pull_progress_timeout needs containerd 1\.7\.0 .* this is 1\.6\.20",
        ),
        ("1.7.3", {"snapshotter": "blockfile"}, r"snapshotters\.blockfile needs containerd 1\.7\.4"),
        ("2.0.5", {"snapshotters": {"erofs": {}}}, r"snapshotters\.erofs needs containerd 2\.1\.0"),
        ("2.1.3", {"snapshotters": {"erofs": {"set_immutable": True}}}, r"erofs\.set_immutable needs containerd 2\.1\.4"),
        ("2.1.9", {"snapshotters": {"erofs": {"default_size": "1G"}}}, r"erofs\.default_size needs containerd 2\.2\.0"),
        ("2.2.9", {"snapshotters": {"erofs": {"dmverity_mode": "on"}}}, r"erofs\.dmverity_mode needs containerd 2\.3\.0"),
        ("2.3.7", {"snapshotters": {"erofs": {"layer_content_caches": []}}}, r"layer_content_caches needs containerd 2\.4\.0"),
        ("2.1.9", {"snapshotters": {"erofs": {"enable_tar_index": True}}}, r"enable_tar_index needs containerd 2\.2\.0"),
        ("2.2.9", {"snapshotters": {"erofs": {"enable_dmverity": True}}}, r"enable_dmverity needs containerd 2\.3\.0"),
        ("1.6.20", {"snapshotters": {"overlayfs": {"mount_options": ["volatile"]}}}, r"mount_options needs containerd 1\.6\.24"),
        ("1.7.3", {"snapshotters": {"overlayfs": {"sync_remove": True}}}, r"sync_remove needs containerd 1\.7\.4"),
        ("1.7.24", {"snapshotters": {"overlayfs": {"slow_chown": True}}}, r"overlayfs\.slow_chown needs containerd 2\.0\.0"),
        ("2.0.5", {"runtimes": [{"name": "kata", "snapshotter": "erofs"}]}, r"snapshotters\.erofs needs containerd 2\.1\.0"),
        (
            "2.1.9",
            {"extra_config": {"plugins": {V2: {"sandbox_image": "x"}}}},
            rf'extra_config\.plugins\."{V2}"\.sandbox_image is a name of containerd 1\.x, and this is 2\.1\.9',
        ),
    ],
)
def test_refuses_what_the_version_cannot_do_naming_both(version: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        leaves(version, 2, **options)


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("1.7.4", {"snapshotter": "blockfile"}),
        ("2.1.0", {"snapshotter": "erofs"}),
        ("2.1.4", {"snapshotters": {"erofs": {"set_immutable": True}}}),
        ("2.1.9", {"extra_config": {"plugins": {V2: {"stream_server_port": "0"}}}}),
        ("1.7.24", {"extra_config": {"plugins": {V2: {"sandbox_image": "x"}}}}),
        ("2.1.9", {"extra_config": {"plugins": {V2: 5}}}),
    ],
)
def test_takes_what_the_version_can_do(version: str, option: dict[str, Any]) -> None:
    assert leaves(version, 2, **option)


WHOLE: dict[str, Any] = {
    "snapshotter": "native",
    "default_runtime": "kata",
    "sandbox_image": "registry.example/pause:1",
    "registry_config_path": "/etc/containerd/certs.d",
    "max_concurrent_downloads": 5,
    "image_pull_progress_timeout": "90s",
    "systemd_cgroup": True,
    "root": "/srv/containerd",
}


def test_settings_in_schema_2() -> None:
    assert leaves("1.7.24", 2, **WHOLE) == {
        ("plugins", V2, "containerd", "snapshotter"): "native",
        ("plugins", V2, "containerd", "default_runtime_name"): "kata",
        ("plugins", V2, "containerd", "runtimes", "runc", "options", "SystemdCgroup"): True,
        ("plugins", V2, "sandbox_image"): "registry.example/pause:1",
        ("plugins", V2, "registry", "config_path"): "/etc/containerd/certs.d",
        ("plugins", V2, "max_concurrent_downloads"): 5,
        ("plugins", V2, "image_pull_progress_timeout"): "90s",
        ("root",): "/srv/containerd",
    }


@pytest.mark.parametrize(("version", "number"), [("2.1.9", 3), ("2.3.4", 4)])
def test_settings_in_schema_3_and_4(version: str, number: int) -> None:
    unpack = [{"platform": "linux/amd64", "snapshotter": name} for name in ("overlayfs", "native")]
    assert leaves(version, number, **WHOLE) == {
        ("plugins", IMAGES, "snapshotter"): "native",
        ("plugins", RUNTIME, "containerd", "default_runtime_name"): "kata",
        ("plugins", RUNTIME, "containerd", "runtimes", "runc", "options", "SystemdCgroup"): True,
        ("plugins", IMAGES, "pinned_images", "sandbox"): "registry.example/pause:1",
        ("plugins", IMAGES, "registry", "config_path"): "/etc/containerd/certs.d",
        ("plugins", IMAGES, "max_concurrent_downloads"): 5,
        ("plugins", IMAGES, "image_pull_progress_timeout"): "90s",
        ("root",): "/srv/containerd",
        ("plugins", "io.containerd.transfer.v1.local", "unpack_config"): unpack,
    }


@pytest.mark.parametrize(("version", "number"), [("1.7.24", 2), ("2.1.9", 3), ("2.3.4", 4)])
def test_every_scalar_is_read_where_it_is_written(version: str, number: int) -> None:
    settings = Settings.from_params({**WHOLE, "image_pull_sync_fs": True})
    assert set(settings.scalars) == {row.name for row in SETTINGS}
    tree = schema.tables(settings, Version.parse(version), number, "amd64")
    read = EffectiveConfig({"version": number, **tree}).to_dict()
    assert {row.name: read[row.name] for row in SETTINGS} == settings.scalars


@pytest.mark.parametrize(
    ("version", "number", "places"),
    [
        ("1.7.24", 2, [(V2, "containerd", "runtimes", "kata", "snapshotter")]),
        (
            "2.1.9",
            2,
            [
                (V2, "containerd", "runtimes", "kata", "snapshotter"),
                (IMAGES, "runtime_platforms", "kata", "snapshotter"),
            ],
        ),
        (
            "2.1.9",
            3,
            [
                (RUNTIME, "containerd", "runtimes", "kata", "snapshotter"),
                (IMAGES, "runtime_platforms", "kata", "snapshotter"),
            ],
        ),
    ],
)
def test_a_handlers_snapshotter_is_in_every_place(version: str, number: int, places: list[tuple[str, ...]]) -> None:
    found = leaves(version, number, runtimes=[{"name": "kata", "snapshotter": "devmapper"}])
    assert [path[1:] for path, value in found.items() if value == "devmapper"] == places
    unpack = found.get(("plugins", "io.containerd.transfer.v1.local", "unpack_config"))
    assert unpack == (
        None if version < "2" else [{"platform": "linux/amd64", "snapshotter": one} for one in ("overlayfs", "devmapper")]
    )


def test_the_transfer_service_needs_no_list_for_its_default() -> None:
    assert not [path for path in leaves("2.1.9", 3, snapshotter="overlayfs") if "unpack_config" in path]


def test_a_handler_with_all_keys() -> None:
    handler = {
        "name": "kata",
        "type": "io.containerd.kata.v2",
        "path": "/opt/kata/shim",
        "config_path": "/etc/kata/q.toml",
        "privileged_without_host_devices": False,
        "pod_annotations": ["a.*"],
        "options": {"BinaryName": "x"},
    }
    tree = schema.tables(Settings.from_params({"runtimes": [handler]}), Version.parse("1.6.20"), 2, "amd64")
    assert lookup(tree, ("plugins", V2, "containerd", "runtimes")) == {
        "kata": {
            "runtime_type": "io.containerd.kata.v2",
            "runtime_path": "/opt/kata/shim",
            "privileged_without_host_devices": False,
            "pod_annotations": ["a.*"],
            "options": {"BinaryName": "x", "ConfigPath": "/etc/kata/q.toml"},
        }
    }


def test_snapshotters_have_their_own_tables_and_proxies_theirs() -> None:
    tables = {"native": {"root_path": "/srv/n"}, "lazy": {"address": "/run/lazy.sock"}}
    assert leaves("1.7.24", 2, snapshotters=tables) == {
        ("plugins", "io.containerd.snapshotter.v1.native", "root_path"): "/srv/n",
        ("proxy_plugins", "lazy", "type"): "snapshot",
        ("proxy_plugins", "lazy", "address"): "/run/lazy.sock",
    }


@pytest.mark.parametrize(
    ("version", "number", "place", "exports"),
    [
        ("1.7.24", 2, (V2, "containerd", "disable_snapshot_annotations"), None),
        ("2.1.9", 2, (V2, "containerd", "disable_snapshot_annotations"), "true"),
        ("2.1.9", 3, (IMAGES, "disable_snapshot_annotations"), "true"),
    ],
)
def test_a_proxy_that_is_used_is_told_of_layers(version: str, number: int, place: tuple[str, ...], exports: str | None) -> None:
    found = leaves(version, number, snapshotter="lazy", snapshotters={"lazy": {"address": "/run/lazy.sock"}})
    assert found.get(("plugins", *place)) is False
    assert found.get(("proxy_plugins", "lazy", "exports", "enable_remote_snapshot_annotations")) == exports


def test_a_proxys_own_exports_stay() -> None:
    exports = {"root": "/lazy", "enable_remote_snapshot_annotations": "false"}
    found = leaves("2.1.9", 3, snapshotter="lazy", snapshotters={"lazy": {"address": "/run/lazy.sock", "exports": exports}})
    assert {path[-1]: value for path, value in found.items() if path[2:3] == ("exports",)} == exports


@pytest.mark.parametrize("options", [{"snapshotter": "erofs"}, {"snapshotters": {"erofs": {"enable_fsverity": True}}}])
def test_erofs_brings_its_differ(options: dict[str, Any]) -> None:
    found = leaves("2.1.9", 3, **options)
    assert found["plugins", "io.containerd.service.v1.diff-service", "default"] == ["erofs", "walking"]
    unpack = found.get(("plugins", "io.containerd.transfer.v1.local", "unpack_config"))
    differs = {one["snapshotter"]: one["differ"] for one in unpack} if unpack else None
    assert differs == ({"overlayfs": "walking", "erofs": "erofs"} if "snapshotter" in options else None)


def test_extra_wins() -> None:
    extra = {"plugins": {V2: {"sandbox_image": "theirs", "cni": {"max_conf_num": 2}}}}
    assert leaves("1.7.24", 2, sandbox_image="ours", extra_config=extra) == {
        ("plugins", V2, "sandbox_image"): "theirs",
        ("plugins", V2, "cni", "max_conf_num"): 2,
    }


@pytest.mark.parametrize(
    ("version", "number", "options", "completion"),
    [
        ("1.6.20", 2, {"runtimes": [{"name": "kata"}]}, RUNC),
        ("1.7.24", 2, {"systemd_cgroup": True}, RUNC),
        ("1.7.24", 2, {"snapshotter": "native"}, {}),
        ("1.7.24", 2, {"sandbox_image": "x"}, {}),
        # Without a table of handlers, 2.x loses the snapshotter.
        ("2.1.9", 2, {"snapshotter": "native"}, {RUNTIMES_V2: {}}),
        ("2.3.7", 2, {"snapshotter": "native"}, {RUNTIMES_V2: {}}),
        ("2.1.9", 2, {"sandbox_image": "x"}, {}),
        ("2.1.9", 3, {"runtimes": [{"name": "kata"}], "snapshotter": "native"}, {}),
    ],
)
def test_handlers_are_declared_where_settings_would_be_lost(
    version: str, number: int, options: dict[str, Any], completion: dict[Any, Any]
) -> None:
    known = Version.parse(version)
    tree = schema.tables(Settings.from_params(options), known, number, "amd64")
    assert flatten(schema.completions(tree, known, number)) == completion


def test_extra_config_goes_to_the_places_of_the_schema() -> None:
    extra = {"metrics": {"address": "127.0.0.1:1338"}}
    moved = ("plugins", "io.containerd.server.v1.metrics", "address")
    assert leaves("2.3.7", 4, extra_config=extra) == {moved: "127.0.0.1:1338"}
    assert leaves("2.3.7", 3, extra_config=extra) == {("metrics", "address"): "127.0.0.1:1338"}


@pytest.mark.parametrize(
    ("version", "number", "place"),
    [
        ("1.7.24", 2, (V2, "containerd", "discard_unpacked_layers")),
        ("2.1.9", 2, (V2, "containerd", "discard_unpacked_layers")),
        ("2.1.9", 3, (IMAGES, "discard_unpacked_layers")),
    ],
)
def test_layers_are_kept_where_two_snapshotters_unpack_them(version: str, number: int, place: tuple[str, ...]) -> None:
    handler = {"name": "kata", "snapshotter": "devmapper"}
    assert leaves(version, number, runtimes=[handler])[("plugins", *place)] is False
    assert leaves(version, number, runtimes=[handler], snapshotter="native")[("plugins", *place)] is False
    assert ("plugins", *place) not in leaves(version, number, runtimes=[handler], snapshotter="devmapper")
    assert ("plugins", *place) not in leaves(version, number, runtimes=[{"name": "kata"}])


def test_the_keys_of_a_differ_go_into_its_own_table() -> None:
    erofs = {"dmverity_mode": "on", "layer_content_caches": ["/srv/a"], "enable_dmverity": True, "mkfs_options": ["-Ededupe"]}
    found = schema.tables(Settings.from_params({"snapshotters": {"erofs": erofs}}), Version.parse("2.4.2"), 4, "amd64")
    assert found["plugins"]["io.containerd.snapshotter.v1.erofs"] == {"dmverity_mode": "on", "layer_content_caches": ["/srv/a"]}
    assert found["plugins"]["io.containerd.differ.v1.erofs"] == {"enable_dmverity": True, "mkfs_options": ["-Ededupe"]}


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2"])
def test_the_keys_of_a_snapshotter_are_those_that_the_release_prints(version: str, recorded: Callable[[str, str], str]) -> None:
    """Every key that the table of keys says this release has, and no other."""
    plugins = tomllib.loads(recorded(version, "default.toml"))["plugins"]
    release = Version.parse(version)
    for name, keys in BUILTIN_SNAPSHOTTERS.items():
        if SNAPSHOTTER_PREFIX + name in plugins:
            known = {key for key, one in keys.items() if not one.since or release.at_least(*one.since)}
            assert {*plugins[SNAPSHOTTER_PREFIX + name], *plugins.get(DIFFER_PREFIX + name, ())} == known, name
        there = release.at_least(*SNAPSHOTTER_SINCE.get(name, ("1.6.0",)))
        # These are not in every build.
        assert name in ("btrfs", "zfs") or (SNAPSHOTTER_PREFIX + name in plugins) == there, name
