# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a namespace by their names and digests; the content store is a stand-in with one document for each image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ansible_collections.slipway.node.plugins.module_utils.images.host.current_images import CurrentImages
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Content, Reference
from ansible_collections.slipway.node.plugins.module_utils.store.reference import parse

LAYER = oci.Descriptor("", f"sha256:{9:064x}", 10)
NAMES = {"r.example/amd:1": 1, "r.example/arm:1": 2, "r.example/b:slipway-staged@sha256:" + f"{3:064x}": 3}
PLATFORMS = {1: "linux/amd64", 2: "linux/arm64", 3: "linux/amd64"}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def current(*, unpacked: bool = True, pulls: tuple[Pull, ...] = ()) -> CurrentImages:
    def read(reference: Reference, _platform: str, _blobs: Any) -> Content:
        platform = PLATFORMS[int(reference.digest.partition(":")[2])]
        return Content(oci.Manifest(LAYER, (LAYER,)), oci.Config(platform, (reference.digest,)), 20)

    store, request = SimpleNamespace(images=SimpleNamespace(read=read)), SimpleNamespace(platform="linux/amd64")
    target = cast(ImageTarget, SimpleNamespace(snapshotter="overlayfs", store=store, request=request))
    references = {name: Reference(name, "", digest(number)) for name, number in NAMES.items()}
    layers = frozenset(map(digest, PLATFORMS)) if unpacked else frozenset()
    return CurrentImages(target, references, frozenset([LAYER.digest]), layers, pulls)


def test_an_image_is_found_by_its_digest_under_another_name() -> None:
    found = current().find(parse(f"r.example/amd:2@{digest(1)}"))
    assert found is not None and (found.alias, found.digest, found.unpacked) == ("r.example/amd:1", digest(1), True)
    own = current().find(parse("r.example/amd:1"))
    assert own is not None and own.alias == ""
    assert current().find(parse("r.example/amd:2")) is None


def test_the_remains_of_an_unfinished_run_are_not_the_image() -> None:
    assert current().find(parse(f"r.example/b@{digest(3)}")) is None


def test_images_of_another_platform_are_left_to_their_tools() -> None:
    assert [str(name) for name in current().unpacked()] == ["r.example/amd:1"]
    pull = Pull("boot", "default", "overlayfs", tuple(NAMES), ())
    assert [str(name) for name in current(unpacked=False, pulls=(pull,)).left_packed()] == ["r.example/amd:1"]
