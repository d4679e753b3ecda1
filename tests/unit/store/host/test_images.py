# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference, parse_references

VERSIONS = ("1.6.20", "1.7.24", "2.1.9")
Recorded = Callable[[str, str], str]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize("version", VERSIONS)
def test_reads_the_list_of_images(recorded: Recorded, version: str) -> None:
    assert parse_references(recorded(version, "images-ls.txt")) == (
        Reference("registry.example/deep:1", MANIFEST, "sha256:9bb468e9cd355c433f29cf699ed838524b6821621b7717f86f3f5ece4c4db761"),
        Reference("registry.example/deep:2", INDEX, "sha256:6314c2b4112f5d7655e3cc288fc2f45f83b97ff9c89bbafc7e0c40d586406716"),
        Reference("registry.example/deep:3", INDEX, "sha256:7eb26fdde5f740a3494461cadb427d9bbbf8bcc833c6d16607da50f4d495664a"),
    )


@pytest.mark.parametrize("stdout", ["", "REF TYPE DIGEST SIZE PLATFORMS LABELS \n"])
def test_reads_the_list_of_no_images(stdout: str) -> None:
    assert parse_references(stdout) == ()


def test_an_image_is_synced_as_long_as_its_name_stands_for_it() -> None:
    row = "r.example/a:1 {type} sha256:{digest} 194.3 KiB linux/amd64 k=v w,slipway.node/synced.overlayfs=sha256:{label},l=m \n"
    listing = "REF TYPE DIGEST SIZE PLATFORMS LABELS \n" + row
    (one,) = parse_references(listing.format(type=MANIFEST, digest="a" * 64, label="a" * 64))
    assert one.synced == {"overlayfs"}
    (moved,) = parse_references(listing.format(type=MANIFEST, digest="b" * 64, label="a" * 64))
    assert moved.synced == frozenset()
