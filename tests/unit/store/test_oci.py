# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.store import oci

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def name(number: int) -> str:
    return f"sha256:{number:064x}"


def blob(media_type: str, number: int, size: int = 10, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": name(number), "size": size, **more}


def index(*platforms: dict[str, Any] | None) -> oci.Index:
    manifests = [blob(f"{OCI}.manifest.v1+json", number, platform=platform) for number, platform in enumerate(platforms)]
    return oci.parse_index(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def machine(architecture: str, variant: str = "", system: str = "linux") -> dict[str, str]:
    return {"os": system, "architecture": architecture, **({"variant": variant} if variant else {})}


ATTESTATION = machine("unknown", system="unknown")


@pytest.mark.parametrize(
    ("platforms", "wanted", "chosen"),
    [
        ([machine("arm64", "v8"), machine("amd64"), ATTESTATION], "linux/amd64", 1),
        ([machine("amd64"), machine("arm64", "v8"), ATTESTATION], "linux/arm64", 1),
        ([machine("amd64"), machine("arm64")], "linux/arm64/v8", 1),
        ([machine("amd64", system="windows"), machine("amd64")], "linux/amd64", 1),
        ([machine("386"), machine("amd64")], "linux/amd64", 1),
        ([machine("386")], "linux/amd64", 0),
        ([machine("arm", "v5"), machine("arm", "v6"), machine("arm", "v7")], "linux/arm/v7", 2),
        ([machine("arm", "v5"), machine("arm", "v6")], "linux/arm/v7", 1),
        ([machine("arm", "v7")], "linux/arm64", 0),
        ([None], "linux/amd64", 0),
        ([None, ATTESTATION], "linux/amd64", 0),
    ],
)
def test_chooses_the_manifest_for_the_machine(platforms: list[Any], wanted: str, chosen: int) -> None:
    assert index(*platforms).choose(wanted).digest == name(chosen)


@pytest.mark.parametrize(
    ("platforms", "wanted", "words"),
    [
        ([machine("s390x"), machine("arm64")], "linux/amd64", "not for linux/amd64: it is for linux/arm64, linux/s390x"),
        ([machine("arm", "v7")], "linux/arm/v6", "not for linux/arm/v6"),
        ([], "linux/amd64", "it is for nothing"),
        ([None, None], "linux/amd64", "it is for nothing"),
    ],
)
def test_says_what_the_image_is_for_instead(platforms: list[Any], wanted: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        index(*platforms).choose(wanted)


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"),
        (f"{DOCKER}.container.image.v1+json", f"{DOCKER}.image.rootfs.diff.tar.gzip"),
    ],
)
def test_reads_both_kinds_of_manifest(config: str, layer: str) -> None:
    manifest = oci.parse_manifest(
        json.dumps({"schemaVersion": 2, "config": blob(config, 1, 7), "layers": [blob(layer, 2, 30), blob(layer, 3, 40)]})
    )
    assert manifest.config == oci.Descriptor(config, name(1), 7)
    assert [(one.digest, one.size) for one in manifest.layers] == [(name(2), 30), (name(3), 40)]


def test_a_list_that_is_null_is_empty() -> None:
    manifest = oci.parse_manifest(json.dumps({"config": blob(oci.CONFIG_TYPES[0], 1), "layers": None}))
    assert manifest.layers == ()


def test_names_snapshots_by_chain() -> None:
    config = oci.parse_config(
        json.dumps({**machine("amd64"), "rootfs": {"type": "layers", "diff_ids": [name(1), name(2), name(3)]}})
    )
    second = "sha256:" + hashlib.sha256(f"{name(1)} {name(2)}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {name(3)}".encode()).hexdigest()
    assert config.chain_ids == (name(1), second, third)
    assert config.platform == "linux/amd64"
    assert oci.chain_ids([]) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("\0\0", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "descriptor that is no object"),
        (json.dumps({"config": blob("application/vnd.in-toto+json", 1), "layers": []}), "not a container image"),
        (json.dumps({"config": blob(oci.CONFIG_TYPES[0], 1)}), "no list layers"),
        (json.dumps({"config": blob(oci.CONFIG_TYPES[0], 1), "layers": {"a": 1}}), "no list layers"),
        (json.dumps({"config": blob(oci.CONFIG_TYPES[0], 1), "layers": [3]}), "no object"),
        (json.dumps({"config": blob(oci.CONFIG_TYPES[0], 1), "layers": [blob("x", 1, -1)]}), "size -1"),
        (json.dumps({"config": {**blob(oci.CONFIG_TYPES[0], 1), "digest": "--help"}, "layers": []}), "'--help' is not a digest"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        oci.parse_manifest(text)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "no rootfs"),
        ({"rootfs": {"diff_ids": []}}, "no os and architecture"),
        ({**machine("amd64"), "rootfs": {}}, "no list diff_ids"),
        ({**machine("amd64"), "rootfs": {"diff_ids": [name(1)[:-1]]}}, "is not a digest"),
        ({**machine("amd64"), "rootfs": {"diff_ids": [7]}}, "7 is not a digest"),
    ],
)
def test_what_is_no_config_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        oci.parse_config(json.dumps(document))


def test_what_is_no_index_is_refused() -> None:
    with pytest.raises(ValueError, match="no list manifests"):
        oci.parse_index("{}")
