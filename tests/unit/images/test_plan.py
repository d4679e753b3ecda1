# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.images import plan
from ansible_collections.slipway.node.plugins.module_utils.images.plan import (
    CurrentImage,
    RegistryAuth,
    RemoteImage,
    Request,
    plan_removal,
)
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor
from ansible_collections.slipway.node.plugins.module_utils.store.reference import parse

DEFAULTS: dict[str, Any] = {
    "name": ["alpine"], "all": False, "exclude": [], "state": "present", "pull": "missing", "archive": None, "remote_src": False,
    "platform": None, "snapshotter": None, "namespace": "default",
    "hosts_dir": None, "plain_http": False, "username": None, "password": None, "parallel": 3,
    "durable": True, "integrity": "none", "repair": False, "timeout": 1800,
}  # fmt: skip
# All images of the namespace.
ALL: dict[str, Any] = {"name": None, "all": True, "integrity": "metadata"}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def remote(number: int = 1, platform: str | None = "linux/amd64", **more: Any) -> RemoteImage:
    blobs = (Descriptor("", digest(number), 10), Descriptor("", digest(100), 5), Descriptor("", digest(100), 5))
    return RemoteImage(digest(number), platform, (digest(7),), 1, blobs, digest(number + 50), **more)


def found(number: int = 1, **more: Any) -> CurrentImage:
    return CurrentImage(
        **{"digest": digest(number), "image": remote(number), "unpacked": True, "whole": True, "synced": True, **more}
    )


def test_the_same_image_twice_is_one() -> None:
    request = Request.from_params({**DEFAULTS, "name": ["alpine", "docker.io/library/alpine:latest", "b"]}, "linux/amd64")
    assert [str(name) for name in request.names] == ["docker.io/library/alpine:latest", "docker.io/library/b:latest"]
    assert request.platform == "linux/amd64"


def test_tag_and_digest_are_one_image_by_digest_for_the_kubelet() -> None:
    names = [f"r.example/a:1@{digest(1)}", f"r.example/a@{digest(1)}"]
    request = Request.from_params({**DEFAULTS, "name": names, "namespace": "k8s.io"}, "linux/amd64")
    assert [str(name) for name in request.names] == [f"r.example/a@{digest(1)}"]
    assert len(Request.from_params({**DEFAULTS, "name": names}, "linux/amd64").names) == 2


def test_excluded_images_are_known_by_their_full_names() -> None:
    request = Request.from_params({**DEFAULTS, **ALL, "exclude": ["alpine"]}, "linux/amd64")
    assert [str(name) for name in request.excluded] == ["docker.io/library/alpine:latest"]


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"name": None}, "name is missing"),
        ({"exclude": ["b"]}, "exclude is for all images"),
        ({**ALL, "exclude": ["a b"]}, "name: "),
        ({"name": None, "state": "absent", "archive": "/a"}, "archive is for state present"),
        ({"archive": "a.tar", "remote_src": True}, "archive"),
        ({"hosts_dir": "certs.d"}, "hosts_dir"),
        ({"snapshotter": "-s"}, "snapshotter"),
        ({"namespace": "a b"}, "namespace"),
        ({"parallel": 0}, "parallel"),
        ({"timeout": 0}, "timeout"),
        ({"platform": "amd64"}, "platform"),
        ({"platform": "linux/--x"}, "platform"),
        ({"username": "a"}, "username and password"),
        ({"password": "a"}, "username and password"),
        ({"username": "a:b", "password": "c"}, "username"),
        ({"username": "-u", "password": "c"}, "username"),
        ({"username": "", "password": "c"}, "username"),
        ({"username": "a", "password": ""}, "password"),
        ({"username": "a", "password": "b\nc"}, "password"),
        ({"username": "a", "password": "b" * 4001}, "password"),
        ({"name": ["a\nb"]}, "name"),
        ({"name": [f"a:slipway-staged@{digest(1)}"]}, "name: .* unfinished runs"),
        ({"name": ["import.slipway.invalid/staged:0"]}, "name: .* unfinished runs"),
        ({"repair": True}, "repair requires a comparison: set integrity"),
        ({"integrity": "content", "state": "absent"}, "integrity is for state present"),
        ({**ALL, "integrity": "none"}, "all is for images that are on the node: set integrity"),
        ({**ALL, "name": ["alpine"]}, "name and all exclude each other"),
        ({**ALL, "pull": "always"}, "all is .* neither archive nor pull"),
        ({**ALL, "state": "absent"}, "all is for state present"),
    ],
)
def test_nonsense_names_its_option(changes: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}"):
        Request.from_params({**DEFAULTS, **changes}, "linux/amd64")


@pytest.mark.parametrize(
    ("archive", "remote_src", "expected"), [("a.tar", False, True), ("/a.tar", True, False), (None, False, False)]
)
def test_an_archive_is_on_the_controller_unless_remote_src(archive: str | None, remote_src: bool, expected: bool) -> None:
    request = Request.from_params({**DEFAULTS, "archive": archive, "remote_src": remote_src}, "linux/amd64")
    assert request.on_controller is expected


def test_a_password_does_not_show() -> None:
    assert "secret" not in repr(RegistryAuth(username="me", password="secret"))


@pytest.mark.parametrize(
    ("one", "missing"),
    [
        (None, True),
        (found(), False),
        (found(unpacked=False), False),
        (found(unpacked=False, whole=False), True),
        (found(whole=False), False),
        (found(image=None), True),
        (found(image=remote(platform="linux/arm64")), True),
        (found(image=remote(platform="linux/386")), False),
        (found(image=remote(platform=None)), False),
    ],
)
def test_what_has_to_come_from_elsewhere(one: CurrentImage | None, missing: bool) -> None:
    assert plan.is_missing(one, "linux/amd64") == missing


def test_a_name_has_moved_if_its_digest_has() -> None:
    assert plan.moved(None, remote()) and plan.moved(found(image=None), remote())
    assert plan.moved(found(), remote(2)) and not plan.moved(found(), remote())
    # An archive of Docker's has no manifest: its config tells.
    unnamed = RemoteImage("", "linux/amd64", (), 0, (), digest(51))
    assert not plan.moved(found(), unnamed) and plan.moved(found(2), unnamed)


def test_what_an_image_needs_that_is_there() -> None:
    assert plan.local_action(found(unpacked=False, synced=False), durable=True) == plan.UNPACK
    assert plan.local_action(found(synced=False), durable=True) == plan.SYNC
    assert plan.local_action(found(synced=False), durable=False) == plan.NONE
    assert plan.local_action(found(), durable=True) == plan.NONE
    assert plan.local_action(found(alias="r/b:1"), durable=True) == plan.TAG
    assert plan.local_action(found(alias="r/b:1", synced=False), durable=True) == plan.SYNC


def test_an_image_whose_layers_did_not_come_is_not_there() -> None:
    assert plan.unpacking_trouble(found(), "overlayfs") == ""
    assert "hasn't unpacked its layers for overlayfs" in plan.unpacking_trouble(found(unpacked=False, whole=False), "overlayfs")
    unreadable = found(image=None, unpacked=False, trouble="the manifest is missing")
    assert plan.unpacking_trouble(unreadable, "overlayfs").endswith("can't be read: the manifest is missing")


def test_a_blob_counts_once() -> None:
    assert remote().size == 15 and remote(known_size=3).size == 3
    assert remote().missing(frozenset([digest(1)])) == 5


ID = digest(9)
REFERENCES = {"r/a:1": digest(1), "r/b:1": digest(1), "r/c:1": digest(2), ID: digest(1)}


@pytest.mark.parametrize(
    ("names", "namespace", "going", "used_by"),
    [
        (["r/a:1"], "k8s.io", ("r/a:1",), {"r/a:1": ("r/b:1", "container x")}),
        (["r/a:1", "r/b:1"], "k8s.io", ("r/a:1", "r/b:1", ID), {"r/a:1": ("container x",), "r/b:1": ()}),
        (["r/a:1", "r/b:1"], "default", ("r/a:1", "r/b:1"), {"r/a:1": (ID, "container x"), "r/b:1": (ID,)}),
        (["r/c:1", "r/none:1"], "k8s.io", ("r/c:1",), {"r/c:1": ()}),
        (["r/none:1"], "k8s.io", (), {}),
    ],
)
def test_only_what_is_named_goes(
    names: list[str], namespace: str, going: tuple[str, ...], used_by: dict[str, tuple[str, ...]]
) -> None:
    references = {name.replace("r/", "r.example/"): value for name, value in REFERENCES.items()}
    asked = [parse(name.replace("r/", "r.example/")) for name in names]
    removal = plan_removal(asked, references, {"r.example/a:1": ["x"]}, namespace)
    assert removal.names == tuple(name.replace("r/", "r.example/") for name in going)
    assert {name: tuple(one.replace("r.example/", "r/") for one in users) for name, users in removal.used_by.items()} == {
        name.replace("r/", "r.example/"): users for name, users in used_by.items()
    }
