# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.node_spec.images import image_batches, present_images

LIBRARY = "docker.io/library"


def test_images_that_differ_by_name_alone_are_one_batch() -> None:
    images: list[dict[str, Any]] = [
        {"name": "a"},
        {"name": ["b", "c"], "namespace": "k8s.io", "platform": None},
        {"name": "d", "snapshotter": "native"},
        {"name": "e", "state": "present"},
        {"name": ["a", "a"]},
    ]
    assert image_batches(images, "k8s.io") == [
        {"name": [f"{LIBRARY}/{name}:latest" for name in "abce"], "namespace": "k8s.io", "state": "present"},
        {"name": [f"{LIBRARY}/d:latest"], "namespace": "k8s.io", "state": "present", "snapshotter": "native"},
    ]


# Two settings of an image that can't be had in one run.
DIFFERENT: list[dict[str, Any]] = [
    {"namespace": "default"},
    {"state": "absent"},
    {"pull": "always"},
    {"archive": "/a.tar"},
    {"archive": "/a.tar", "remote_src": True},
    {"platform": "linux/arm64"},
    {"snapshotter": "native"},
    {"hosts_dir": "/certs.d"},
    {"plain_http": True},
    {"username": "node", "password": "one"},
    {"username": "node", "password": "other"},
]


def test_every_setting_but_the_name_makes_a_batch_of_its_own() -> None:
    images = [{"name": f"image{number}", **settings} for number, settings in enumerate(DIFFERENT)]
    batches = image_batches([*images, {"name": "last"}], "k8s.io")
    assert [len(batch["name"]) for batch in batches] == [1] * (len(DIFFERENT) + 1)
    for settings, batch in zip(DIFFERENT, batches, strict=False):
        assert batch.items() >= settings.items()


def test_what_is_handed_in_stays_as_it_is() -> None:
    names = ["a"]
    images: list[dict[str, Any]] = [{"name": names}, {"name": "b"}]
    image_batches(images, "k8s.io")
    assert images == [{"name": ["a"]}, {"name": "b"}]
    assert names == ["a"]


def test_the_same_name_may_differ_between_namespaces() -> None:
    images = [{"name": "a"}, {"name": "a", "namespace": "default", "state": "absent"}]
    assert len(image_batches(images, "k8s.io")) == 2


WRONG: list[tuple[Any, str]] = [
    ("a", "containerd_images has to be a list"),
    ({"name": "a"}, "containerd_images has to be a list"),
    (["a"], r"containerd_images\[0\] has to be a dictionary with a name"),
    ([{"name": "a"}, {}], r"containerd_images\[1\] needs a name"),
    ([{"name": ""}], r"containerd_images\[0\]: "),
    ([{"name": []}], r"containerd_images\[0\] needs a name"),
    ([{"name": [1]}], r"containerd_images\[0\] needs a name"),
    ([{"archive": "/a.tar"}], r"containerd_images\[0\] needs a name, .* archive"),
    ([{"name": "a b"}], r"containerd_images\[0\]: 'a b' is no image's name"),
    ([{"name": "a", "colour": "red"}], r"containerd_images\[0\] has no key 'colour'"),
    ([{"name": "a", "remote_src": True}], r"containerd_images\[0\] has remote_src, but no archive"),
    ([{"name": "a", "archive": "/a", "state": "absent"}], "needs no archive"),
    ([{"name": "a"}, {"name": "a:latest", "state": "absent"}], f"{LIBRARY}/a:latest in k8s.io both present and absent"),
]


@pytest.mark.parametrize(("images", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_refuses_in_one_sentence(images: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        image_batches(images, "k8s.io")


def test_no_sentence_has_a_password() -> None:
    with pytest.raises(ValueError, match="is no image's name") as refused:
        image_batches([{"name": "a b", "username": "node", "password": "hunter2"}], "k8s.io")
    assert "hunter2" not in str(refused.value)


def test_verify_gets_the_images_that_are_present_without_their_credentials() -> None:
    images: list[dict[str, Any]] = [
        {"name": "a", "username": "node", "password": "hunter2", "platform": "linux/arm64"},
        {"name": "b", "state": "absent"},
    ]
    assert present_images(image_batches(images, "k8s.io")) == [
        {"name": [f"{LIBRARY}/a:latest"], "namespace": "k8s.io", "platform": "linux/arm64"}
    ]


def test_tag_and_digest_of_the_kubelets_images_are_the_name_that_cri_looks_for() -> None:
    digest = "sha256:" + "a" * 64
    images = [{"name": f"a:1@{digest}"}, {"name": f"a:1@{digest}", "namespace": "default"}]
    batches = image_batches(images, "k8s.io")
    assert [batch["name"] for batch in batches] == [[f"{LIBRARY}/a@{digest}"], [f"{LIBRARY}/a:1@{digest}"]]
