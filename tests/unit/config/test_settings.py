# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Runtime, Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SETTINGS_SPEC
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS


def test_nothing_asked_for_is_no_setting() -> None:
    assert Settings.from_params({}) == Settings()
    # What Ansible hands over for options that aren't set.
    unset = dict.fromkeys(SETTINGS_SPEC)
    assert Settings.from_params({**unset, "snapshotters": {}, "runtimes": [], "extra_config": {}, "root": ""}) == Settings()


def test_settings_are_read() -> None:
    runtime = {"name": "kata", "type": None, "pod_annotations": ["io.katacontainers.*"], "options": {"a": 1}}
    settings = Settings.from_params({"runtimes": [runtime], "snapshotters": {"native": None}, "image_pull_sync_fs": False})
    assert settings.runtimes == (
        Runtime("kata", pod_annotations=("io.katacontainers.*",), options={"a": 1}, type="io.containerd.runc.v2"),
    )
    assert settings.snapshotters == {"native": {}}
    assert settings.image_pull_sync_fs is False


def test_the_default_snapshotter_comes_first_and_each_once() -> None:
    runtimes = [{"name": name, "snapshotter": one} for name, one in (("a", "native"), ("b", "zfs"), ("c", "native"))]
    settings = Settings.from_params({"snapshotter": "zfs", "runtimes": runtimes})
    assert settings.chosen_snapshotters() == ("zfs", "native")


@pytest.mark.parametrize("name", sorted(BUILTIN_SNAPSHOTTERS))
def test_takes_every_snapshotter_of_containerd(name: str) -> None:
    assert Settings.from_params({"snapshotter": name, "snapshotters": {name: {"root_path": "/srv/x"}}}).snapshotter == name


@pytest.mark.parametrize(
    "params",
    [
        {"snapshotter": "lazy", "snapshotters": {"lazy": {"address": "/run/lazy.sock"}}},
        {"snapshotter": "lazy", "extra_config": {"proxy_plugins": {"lazy": {"type": "snapshot", "address": "/run/lazy.sock"}}}},
        {"sandbox_image": "registry.k8s.io/pause:3.10", "registry_config_path": "/etc/a:/etc/b", "root": "/srv"},
        {"max_concurrent_downloads": 1, "default_runtime": "runc", "extra_config": {"plugins": {"a": {"b": [{"c": 1.5}]}}}},
    ],
)
def test_takes_sense(params: dict[str, Any]) -> None:
    settings = Settings.from_params(params)
    parts = {"snapshotters": settings.snapshotters, "runtimes": list(settings.runtimes), "extra_config": settings.extra_config}
    assert {**settings.scalars, **{name: value for name, value in parts.items() if value}} == params


# Each has to say which option it is about.
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"snapshoter": "native"}, "there is no setting 'snapshoter'"),
        ({"snapshotter": "nosuch"}, "snapshotter: containerd has no snapshotter 'nosuch'"),
        ({"snapshotter": "a\nb"}, "snapshotter has to be a name"),
        ({"snapshotter": "-x"}, "snapshotter has to be a name"),
        ({"snapshotter": 5}, "snapshotter has to be a text, not 5"),
        ({"default_runtime": "a b"}, "default_runtime has to be a name"),
        ({"snapshotters": {"nosuch": {}}}, r"snapshotters\.nosuch: containerd has no snapshotter of that name"),
        ({"snapshotters": {"native": {"colour": 1}}}, r"snapshotters\.native has no key 'colour': its keys are root_path"),
        ({"snapshotters": {"native": {"root_path": 1}}}, r"snapshotters\.native\.root_path has to be of type str"),
        ({"snapshotters": {"native": {"root_path": "x"}}}, r"snapshotters\.native\.root_path has to be an absolute path"),
        ({"snapshotters": {"lazy": {"address": "a\nb"}}}, r"snapshotters\.lazy\.address holds a control character"),
        (
            {"snapshotters": {"erofs": {"dmverity_mode": True}}},
            r'mode has to be one of "auto", "on", "off", in quotes, not True',
        ),
        ({"snapshotters": {"erofs": {"layer_content_caches": ["a"]}}}, r"erofs\.layer_content_caches has to be an absolute path"),
        (
            {"snapshotters": {"erofs": {"layer_content_caches": ["/a"], "set_immutable": True}}},
            r"snapshotters\.erofs: set_immutable can't be used with layer_content_caches",
        ),
        ({"snapshotters": {"native": "x"}}, r"snapshotters\.native has to be a dictionary, not 'x'"),
        ({"snapshotters": ["native"]}, "snapshotters has to be a dictionary"),
        ({"runtimes": {"name": "kata"}}, "runtimes has to be a list"),
        ({"runtimes": ["kata"]}, "runtimes must be a list of dictionaries with a name, not 'kata'"),
        ({"runtimes": [{"type": "x"}]}, "runtimes must be a list of dictionaries with a name"),
        ({"runtimes": [{"name": "a/b"}]}, r"runtimes\.name has to be a name"),
        ({"runtimes": [{"name": "a"}, {"name": "a"}]}, "runtimes names a twice"),
        ({"runtimes": [{"name": "a", "colour": "x"}]}, r"runtimes\[a\] has no key 'colour'"),
        ({"runtimes": [{"name": "a", "type": "x\ny"}]}, r"runtimes\[a\]\.type has to be one line"),
        ({"runtimes": [{"name": "a", "path": "bin/x"}]}, r"runtimes\[a\]\.path has to be an absolute path"),
        ({"runtimes": [{"name": "a", "config_path": "/x/../y"}]}, r"runtimes\[a\]\.config_path has to be an absolute path"),
        ({"runtimes": [{"name": "a", "snapshotter": "nosuch"}]}, r"runtimes\[a\]\.snapshotter: containerd has no"),
        ({"runtimes": [{"name": "a", "options": {"x": None}}]}, r"runtimes\[a\]\.options\.x: TOML has no way"),
        ({"runtimes": [{"name": "a", "pod_annotations": "x"}]}, r"runtimes\[a\]\.pod_annotations has to be a list"),
        ({"sandbox_image": "a\tb"}, "sandbox_image has to be one line of text"),
        ({"sandbox_image": "registry.k8s.io/Pause:3.10"}, "sandbox_image: .* is no image's name: .* the path in lower case"),
        ({"sandbox_image": "registry.k8s.io/pause:3.10 "}, "sandbox_image: .* is no image's name: '3.10 ' can't be a tag"),
        ({"registry_config_path": "/etc/a:etc/b"}, "registry_config_path has to be an absolute path"),
        ({"registry_config_path": "/etc/a\n"}, "registry_config_path holds a control character"),
        ({"root": "srv"}, "root has to be an absolute path"),
        ({"max_concurrent_downloads": 0}, "max_concurrent_downloads has to be 1 or more"),
        ({"max_concurrent_downloads": "3"}, "max_concurrent_downloads has to be a whole number, not '3'"),
        ({"max_concurrent_downloads": True}, "max_concurrent_downloads has to be a whole number, not True"),
        ({"image_pull_progress_timeout": "5"}, "image_pull_progress_timeout has to be a duration with units, such as 90s"),
        ({"image_pull_progress_timeout": 300}, "image_pull_progress_timeout has to be a text, not 300"),
        ({"image_pull_sync_fs": "yes"}, "image_pull_sync_fs has to be true or false, not 'yes'"),
        ({"extra_config": []}, "extra_config has to be a dictionary"),
        ({"extra_config": {"version": 3}}, "extra_config can't hold 'version'"),
        ({"extra_config": {"imports": []}}, "extra_config can't hold 'imports'"),
        ({"extra_config": {"debug": {"level": None}}}, r"extra_config\.debug\.level: TOML has no way to write None"),
        ({"extra_config": {"debug": {1: "x"}}}, "extra_config: the keys of a table have to be texts"),
        ({"extra_config": {"debug": {"": "x"}}}, "extra_config: the keys of a table have to be texts"),
        ({"extra_config": {"debug": {"level": "\udcff"}}}, "not text that can be written as UTF-8"),
        ({"extra_config": {"proxy_plugins": 5}, "snapshotter": "lazy"}, "snapshotter: containerd has no snapshotter 'lazy'"),
    ],
)
def test_refuses_nonsense_in_one_sentence_that_names_the_option(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Settings.from_params(params)
    assert "\n" not in str(caught.value)
