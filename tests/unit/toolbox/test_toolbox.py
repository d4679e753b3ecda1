# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import IMAGE_LABEL
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec, is_for, toolbox_path

PATH = "/var/lib/toolbox/core"
DEFAULTS: dict[str, Any] = {
    "name": "core",
    "image": "alpine",
    "path": None,
    "state": "mounted",
    "on_image_change": "keep",
    "labels": {},
    "platform": None,
    "namespace": "default",
}


def wanted(**params: Any) -> ToolboxSpec:
    return ToolboxSpec.from_params({**DEFAULTS, **params})


BAD_NAMES = ["", ".", "..", "-a", ".a", "a/b", "../a", "a b", "a\nb", "a" * 129, "é", "a\0"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name must be") as refusal:
        wanted(name=name)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250


BAD_PATHS = [
    ("a/b", "absolute path"),
    ("/var/lib/toolbox/../x", "without '..'"),
    ("/var/lib/toolbox/a\nb", "control character"),
    ("/var/lib/toolbox/a b", "plain path"),
    ("/var/lib/toolbox/a/", "plain path"),
    ("//var/lib/toolbox/a", "plain path"),
    ("/var/lib/./a", "plain path"),
    ("/srv/a:b", "plain path"),
    ("/srv/a%b", "plain path"),
    ("/", "plain path"),
    ("/var/lib", "belongs to the system"),
    ("/var/lib/toolbox", "belongs to the system"),
    ("/usr", "belongs to the system"),
    ("/etc/x", "belongs to the system"),
    ("/run/x", "belongs to the system"),
    ("/srv/" + "a" * 260, "too long"),
    ("/srv/" + "-" * 100, "too long"),
]


@pytest.mark.parametrize(("path", "words"), BAD_PATHS)
def test_bad_paths_are_refused(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^path .*{words}") as refusal:
        wanted(path=path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/var/lib/toolbox/my box", "/srv/a%b", "/srv/é", "/srv/" + "a" * 300, "/srv/$HOME"])
def test_what_others_have_named_can_be_removed(path: str) -> None:
    assert wanted(path=path, state="absent").path == path
    with pytest.raises(ValueError, match=r"^path "):
        wanted(path=path)


@pytest.mark.parametrize("path", ["/", "/etc/x", "/var/lib", "/srv/../etc/x", "/srv//x", "/srv/a\nb", "srv/x", "/srv/x/"])
def test_but_not_what_no_toolbox_can_be(path: str) -> None:
    with pytest.raises(ValueError, match=r"^path "):
        wanted(path=path, state="absent")


def test_good_paths_are_taken() -> None:
    for path in ("/var/lib/toolbox/core-docker.io_library_fedora-38", "/srv/t/a+b@c", "/usr2", "/runner/x", "/srv/" + "a" * 240):
        assert toolbox_path("path", path) == path
    assert wanted(name="core-fedora.38_x").path == "/var/lib/toolbox/core-fedora.38_x"


BAD_LABELS: list[dict[str, Any]] = [
    {"containerd.io/gc.root": "x"},
    {IMAGE_LABEL: "x"},
    {"a=b": "c"},
    {"a": ""},
    {"a": "b\nc"},
    {"a": "x" * 4096},
    {"a": []},
]


@pytest.mark.parametrize("labels", BAD_LABELS)
def test_labels_that_containerd_reads_or_cannot_hold_are_refused(labels: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^labels"):
        wanted(labels=labels)


def test_an_image_is_needed_and_spelled_out() -> None:
    assert str(wanted().image) == "docker.io/library/alpine:latest"
    assert wanted(image=None, state="absent").image is None
    with pytest.raises(ValueError, match=r"^image is missing"):
        wanted(image=None)
    with pytest.raises(ValueError, match=r"^image: "):
        wanted(image="No Image")


def test_in_the_kubelets_namespace_an_image_is_called_by_its_digest_alone() -> None:
    digest = "sha256:" + "a" * 64
    assert str(wanted(image=f"alpine:3@{digest}", namespace="k8s.io").image) == f"docker.io/library/alpine@{digest}"


@pytest.mark.parametrize("key", [PATH, f"{PATH}/", f"/{PATH}", "/var/lib//toolbox/./core", "/var/lib/x/../toolbox/core"])
def test_a_key_is_the_path_however_it_is_spelled(key: str) -> None:
    assert is_for(key, PATH)


@pytest.mark.parametrize("key", ["", "core", f"{PATH}2", f"{PATH}/x", "var/lib/toolbox/core", "sha256:1"])
def test_other_keys_are_not(key: str) -> None:
    assert not is_for(key, PATH)
