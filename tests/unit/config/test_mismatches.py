# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config import mismatches
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source

V2, IMAGES, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
VERSIONS = ("1.6.20", "1.7.24", "2.1.9", "2.2.9", "2.3.7", "2.4.2")
Recorded = Callable[[str, str], str]


def dump(recorded: Recorded, version: str, name: str = "node.dump.toml") -> dict[str, Any]:
    return tomllib.loads(recorded(version, name))


def config(recorded: Recorded, version: str, name: str = "node.dump.toml") -> EffectiveConfig:
    return EffectiveConfig(dump(recorded, version, name))


def known(recorded: Recorded, version: str) -> frozenset[str]:
    return frozenset(dump(recorded, version, "default.toml")["plugins"])


def asked(version: str, **changes: Any) -> Settings:
    """The settings in the recorded node.toml, with changes."""
    runtime = {
        "name": "kata",
        "type": "io.containerd.kata.v2",
        "config_path": "/etc/kata/qemu/configuration.toml",
        "privileged_without_host_devices": True,
        "pod_annotations": ["io.katacontainers.*"],
        "snapshotter": None if version == "1.6.20" else "native",
    }
    options: dict[str, Any] = {
        "image_pull_sync_fs": version != "1.6.20",
        "snapshotter": "native",
        "snapshotters": {"lazy": {"address": "/run/lazy.sock"}},
        "runtimes": [runtime],
        "default_runtime": "kata",
        "systemd_cgroup": True,
        "sandbox_image": "registry.example/pause:3.10",
        "registry_config_path": "/etc/containerd/certs.d",
        "max_concurrent_downloads": 5,
        # The daemon prints 5m0s.
        "image_pull_progress_timeout": None if version == "1.6.20" else "5m",
        "root": "/srv/containerd",
        "extra_config": {"plugins": {"io.containerd.gc.v1.scheduler": {"schedule_delay": "1500ms"}}},
    }
    return Settings.from_params({**options, **changes})


def wrong(recorded: Recorded, version: str, settings: Settings, *others: Source) -> list[str]:
    found = mismatches.mismatches(
        settings, Version.parse(version), "amd64", config(recorded, version), known(recorded, version), others
    )
    return [one.sentence(Version.parse(version)) for one in found]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_daemon_prints_is_what_was_asked_for(recorded: Recorded, version: str) -> None:
    assert wrong(recorded, version, asked(version)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"snapshotter": "overlayfs"}, "snapshotter would be 'native' on the daemon, not 'overlayfs'"),
        ({"systemd_cgroup": False}, "SystemdCgroup would be True on the daemon, not False"),
        ({"max_concurrent_downloads": 4}, "max_concurrent_downloads would be 5 on the daemon, not 4"),
        ({"root": "/srv"}, "root would be '/srv/containerd' on the daemon, not '/srv'"),
    ],
)
def test_a_setting_that_the_daemon_has_not_is_named(
    recorded: Recorded, version: str, change: dict[str, Any], sentence: str
) -> None:
    found = wrong(recorded, version, asked(version, **change))
    assert any(one.endswith(sentence) for one in found)


@pytest.mark.parametrize("version", ["1.7.24", "2.1.9"])
def test_another_progress_timeout_is_named(recorded: Recorded, version: str) -> None:
    (sentence,) = wrong(recorded, version, asked(version, image_pull_progress_timeout="10m"))
    assert sentence.endswith("image_pull_progress_timeout would be '5m0s' on the daemon, not '10m'")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "path",
    [
        ("colour",),
        ("plugins", "io.containerd.gc.v1.scheduler", "colour"),
        ("plugins", "io.containerd.nothing.v1.here", "key"),
    ],
)
def test_a_key_that_the_daemon_does_not_know_is_named(recorded: Recorded, version: str, path: tuple[str, ...]) -> None:
    extra: Any = 1
    for part in reversed(path):
        extra = {part: extra}
    (sentence,) = wrong(recorded, version, asked(version, extra_config=extra))
    assert f"is not known to containerd {version}: check its spelling" in sentence


def test_an_unlisted_image_is_a_mismatch_on_schema_2_read_by_a_newer_daemon(recorded: Recorded) -> None:
    # 2.1.9 dropped the snapshotter of this file when it migrated it.
    migrated = config(recorded, "2.1.9", "schema2.dump.toml")
    settings = Settings.from_params({"snapshotter": "native", "sandbox_image": "registry.example/pause:3.10"})
    found = mismatches.mismatches(settings, Version.parse("2.1.9"), "amd64", migrated)
    assert [(one.path[-1], one.found) for one in found] == [
        ("unpack_config", None),
        ("snapshotter", "overlayfs"),
    ]


@pytest.mark.parametrize(
    ("version", "text", "named"),
    [
        ("2.1.9", f'[plugins."{IMAGES}"]\nsnapshotter = "native"\n', True),
        ("2.1.9", f'version = 2\n[plugins."{V2}".containerd]\nsnapshotter = "native"\n', True),
        ("2.1.9", f'[plugins."{IMAGES}"]\nmax_concurrent_downloads = 1\n', False),
        ("2.1.9", "not toml", False),
        ("1.7.24", f'[plugins."{V2}"]\nmax_concurrent_downloads = 1\n', True),
        ("1.7.24", '[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 1\n', False),
    ],
)
def test_the_file_that_overrides_a_setting_is_named(recorded: Recorded, version: str, text: str, named: bool) -> None:
    others = (Source("/etc/containerd/conf.d/10-a.toml", ""), Source("/etc/containerd/conf.d/99-b.toml", text))
    sentences = wrong(recorded, version, asked(version, snapshotter="overlayfs"), *others)
    (sentence,) = [one for one in sentences if "snapshotter" in one and "unpack_config" not in one]
    assert sentence.startswith("/etc/containerd/conf.d/99-b.toml overrides ") is named


def test_a_proxy_plugin_declared_elsewhere_replaces_the_whole_table(recorded: Recorded) -> None:
    settings = asked("2.1.9", snapshotters={"lazy": {"address": "/run/other.sock"}})
    source = Source("/etc/containerd/conf.d/99-b.toml", '[proxy_plugins.lazy]\ntype = "snapshot"\n')
    (sentence,) = wrong(recorded, "2.1.9", settings, source)
    assert sentence.startswith("/etc/containerd/conf.d/99-b.toml overrides proxy_plugins.lazy.address")


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_that_the_daemon_ignores(recorded: Recorded, version: str) -> None:
    sources = (Source("/etc/containerd/config.toml", recorded(version, "node.toml")), Source("/broken.toml", "= 1"))
    ignored = mismatches.unknown_keys(sources, config(recorded, version), known(recorded, version))
    cri = IMAGES if version.startswith("2.") else V2
    assert ignored == [
        "/etc/containerd/config.toml: colour",
        f'/etc/containerd/config.toml: plugins."{cri}".spelled_wrong',
        '/etc/containerd/config.toml: plugins."io.containerd.nothing.v1.here".key',
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_key_of_the_default_configuration_is_known(recorded: Recorded, version: str) -> None:
    text = recorded(version, "default.toml")
    source = Source("/etc/containerd/config.toml", text)
    assert mismatches.unknown_keys([source], EffectiveConfig(tomllib.loads(text)), known(recorded, version)) == []


def test_a_schema_2_file_read_by_a_newer_daemon_has_no_unknown_keys(recorded: Recorded) -> None:
    source = Source("/etc/containerd/config.toml", recorded("2.1.9", "schema2.toml"))
    migrated = config(recorded, "2.1.9", "schema2.dump.toml")
    assert mismatches.unknown_keys([source], migrated, known(recorded, "2.1.9")) == []


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, False),
        ({"root": "/srv", "snapshotters": {"native": {}}, "extra_config": {"debug": {"level": "info"}}}, False),
        ({"image_pull_sync_fs": True}, True),
        ({"systemd_cgroup": False}, True),
        ({"runtimes": [{"name": "kata"}]}, True),
    ],
)
def test_which_settings_need_cri(params: dict[str, Any], expected: bool) -> None:
    assert mismatches.needs_cri(Settings.from_params(params)) is expected


@pytest.mark.parametrize("version", ["2.3.7", "2.4.2"])
def test_tables_that_schema_4_moved_are_compared_where_they_are(recorded: Recorded, version: str) -> None:
    def found(**extra: Any) -> list[str]:
        return wrong(recorded, version, asked(version, extra_config=extra))

    assert found(grpc={"address": "/run/containerd/containerd.sock"}, debug={"level": ""}) == []
    assert found(metrics={"address": "x"}) == [
        "plugins.\"io.containerd.server.v1.metrics\".address would be '' on the daemon, not 'x'"
    ]
    (sentence,) = found(metrics={"adress": "x"})
    assert sentence.startswith('plugins."io.containerd.server.v1.metrics".adress is not known')


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ('version = 4\n[grpc]\naddress = "/run/x"\n', ["grpc.address"]),
        ('version = 3\n[grpc]\nadress = "/run/x"\n', ["grpc.adress"]),
        ('version = 3\n[grpc]\naddress = "/run/x"\n[debug]\nlevel = "info"\n', []),
        ('version = 4\n[debug]\nlevl = "info"\n', ["debug.levl"]),
        ("[plugins.scheduler]\npause_threshold = 0.3\n", []),
    ],
)
@pytest.mark.parametrize("version", ["2.3.7", "2.4.2"])
def test_keys_of_the_daemons_own_tables_that_it_ignores(recorded: Recorded, version: str, text: str, ignored: list[str]) -> None:
    found = mismatches.unknown_keys([Source("/a", text)], config(recorded, version, "default.toml"), known(recorded, version))
    assert found == [f"/a: {one}" for one in ignored]


@pytest.mark.parametrize("version", ["2.2.9", "2.3.7", "2.4.2"])
def test_keys_of_schema_2_that_the_daemon_migrates_are_known(recorded: Recorded, version: str) -> None:
    source = Source("/a", recorded(version, "schema2.toml"))
    migrated = config(recorded, version, "schema2.dump.toml")
    # This one is no key of 2.x; what is off in the older schema isn't reported.
    ignored = [f'/a: plugins."{V2}".systemd_cgroup']
    assert mismatches.unknown_keys([source], migrated, known(recorded, version)) == ignored


def test_a_file_of_another_schema_is_found() -> None:
    sources = [Source("/a", "version = 2"), Source("/b", "oom_score = 1"), Source("/c", "no TOML"), Source("/d", "version = 3")]
    assert mismatches.other_schema(sources, 2) == "/d"
    assert mismatches.other_schema(sources[:3], 2) is None


def test_a_handler_that_is_new_to_a_snapshotter_which_is_not_ok(recorded: Recorded) -> None:
    current = dump(recorded, "2.1.9", "default.toml")
    settings = Settings.from_params({"runtimes": [{"name": "kata", "snapshotter": "devmapper"}]})

    def unready(states: dict[str, str], wanted: dict[str, Any] | None = None, before: dict[str, Any] | None = None) -> str | None:
        return mismatches.handler_without_snapshotter(
            settings, states, EffectiveConfig(before or current), EffectiveConfig(wanted or current)
        )

    assert "runtimes[kata].snapshotter: the snapshotter devmapper is in state skip" in (unready({"devmapper": "skip"}) or "")
    assert "not loaded" in (unready({}) or "")
    assert unready({"devmapper": "ok"}) is None
    # These settings may mend it, and one that was ok before may be ok again.
    plugin = {"io.containerd.snapshotter.v1.devmapper": {"pool_name": "pool"}}
    assert unready({"devmapper": "skip"}, {**current, "plugins": {**current["plugins"], **plugin}}) is None
    handlers = {RUNTIME: {"containerd": {"runtimes": {"kata": {"runtime_type": "x", "snapshotter": "devmapper"}}}}}
    assert unready({"devmapper": "error"}, before={**current, "plugins": handlers}) is None


TWO = "/etc/containerd/certs.d:/etc/docker/certs.d"
DENY = ("/v/deny",)


def conflict(options: dict[str, Any], images: dict[str, Any], *, version: str = "2.3.7", verifiers: tuple[str, ...] = ()) -> str:
    """Why CRI would not pull as the options say, where the daemon would have these keys of its images plugin."""
    no_sync = images.pop("no_sync", False)
    tree = {"version": 3, "plugins": {IMAGES: images, "io.containerd.metadata.v1.bolt": {"no_sync": no_sync}}}
    settings = Settings.from_params(options)
    return mismatches.pull_conflict(settings, Version.parse(version), "amd64", EffectiveConfig(tree), verifiers)


def test_several_directories_of_registries_need_the_local_puller() -> None:
    asked, has = {"registry_config_path": TWO}, {"registry": {"config_path": TWO}}
    assert "name one directory, or set image_pull_sync_fs to true" in conflict(asked, {**has})
    assert conflict(asked, {**has}, verifiers=DENY).endswith(": name one directory")
    assert conflict(asked, {**has, "image_pull_with_sync_fs": True}) == ""
    assert conflict(asked, {**has}, version="2.0.9") == ""
    # An administrator's own are for node_verify.
    assert conflict({}, {**has}) == ""


def test_a_flush_of_the_layers_needs_that_of_the_metadata() -> None:
    sentence = conflict({"image_pull_sync_fs": True}, {"image_pull_with_sync_fs": True, "no_sync": True})
    assert sentence.startswith('image_pull_sync_fs has no effect with plugins."io.containerd.metadata.v1.bolt".no_sync')
    assert conflict({"image_pull_sync_fs": False}, {"no_sync": True}) == ""


@pytest.mark.parametrize(
    ("options", "images", "remedy"),
    [
        (
            {"image_pull_sync_fs": True},
            {"image_pull_with_sync_fs": True, "use_local_image_pull": True},
            ": set image_pull_sync_fs ",
        ),
        ({"max_concurrent_downloads": 7}, {"max_concurrent_downloads": 7}, "max_concurrent_downloads to its default; or"),
        (
            {"extra_config": {"plugins": {IMAGES: {"registry": {"auths": {"a": {"username": "me"}}}}}}},
            {"registry": {"auths": {"a": {"username": "me"}}}},
            "registry.auths to its default; or",
        ),
    ],
    ids=["sync", "downloads", "auths"],
)
def test_settings_that_go_around_image_verifiers_have_to_be_allowed(
    options: dict[str, Any], images: dict[str, Any], remedy: str
) -> None:
    sentence = conflict(options, {**images}, verifiers=DENY)
    assert "without the transfer service, which asks the image verifiers (/v/deny): " in sentence
    assert remedy in sentence
    assert sentence.endswith("set allow_unverified_pulls to true")
    assert conflict({**options, "allow_unverified_pulls": True}, {**images}, verifiers=DENY) == ""
    assert conflict(options, {**images}) == ""
    # These come from an administrator, or from a version that never asks them.
    assert conflict({}, {**images}, verifiers=DENY) == ""
    assert conflict(options, {**images}, version="2.0.9", verifiers=DENY) == ""
