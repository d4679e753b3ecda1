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
        ([machine("arm64"), None, None], "linux/amd64", 1),
        ([None, machine("amd64")], "linux/amd64", 1),
        ([machine("amd64", system="")], "linux/amd64", 0),
        ([machine("amd64"), machine("amd64", "v2"), machine("amd64", "v4")], "linux/amd64/v3", 1),
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
        ([machine("amd64", "v2")], "linux/amd64", "it is for linux/amd64/v2"),
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
        ({"os": "linux", "rootfs": {"diff_ids": []}}, "no architecture"),
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


INDEX, MANIFEST = oci.INDEX_TYPES[0], oci.MANIFEST_TYPES[0]


class Documents:
    """Documents by digest, as a registry or the content store has them."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def put(self, media_type: str, document: dict[str, Any], **more: Any) -> dict[str, Any]:
        text = json.dumps(document)
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        self.texts[digest] = text
        return {"mediaType": media_type, "digest": digest, "size": len(text), **more}

    def image(self, number: int, runs_on: dict[str, str], **more: Any) -> dict[str, Any]:
        config = self.put(oci.CONFIG_TYPES[0], {**runs_on, "rootfs": {"diff_ids": [name(number)]}})
        return self.put(MANIFEST, {"config": config, "layers": [blob("x", number)]}, **more)

    def index(self, *manifests: dict[str, Any]) -> dict[str, Any]:
        return self.put(INDEX, {"manifests": list(manifests)})

    def read(self, root: dict[str, Any], platform: str = "linux/amd64", *, typed: bool = True) -> oci.ImageDocuments:
        descriptor = oci.Descriptor(root["mediaType"] if typed else "", root["digest"], 0)
        return oci.read_documents(descriptor, lambda one: self.texts[one.digest], platform)


@pytest.mark.parametrize("typed", [True, False])
def test_an_index_in_an_index_leads_to_the_image(typed: bool) -> None:
    documents = Documents()
    arm = documents.image(1, machine("arm64"), platform=machine("arm64"))
    inner = documents.index(arm, documents.image(2, machine("amd64"), platform=machine("amd64")))
    outer = documents.index(inner)
    found = documents.read(outer, typed=typed)
    assert [one.digest for one in found.path[:2]] == [outer["digest"], inner["digest"]] and len(found.path) == 3
    assert [one.size for one in found.path[:2]] == [outer["size"], inner["size"]]
    assert (found.config.diff_ids, found.listed) == ((name(2),), "linux/amd64")
    assert found.blobs == (*found.path, found.manifest.config, *found.manifest.layers)


def test_an_image_without_a_listed_platform_is_for_that_of_its_config() -> None:
    documents = Documents()
    found = documents.read(documents.index(documents.image(1, machine("arm64"))))
    assert (found.config.platform, found.listed) == ("linux/arm64", None)


def test_the_platform_that_the_index_names_is_the_one_to_ask_for() -> None:
    documents = Documents()
    root = documents.index(documents.image(1, machine("386"), platform=machine("386")))
    assert documents.read(root).listed == "linux/386"


def test_an_empty_system_is_linux() -> None:
    documents = Documents()
    assert documents.read(documents.image(1, machine("amd64", system=""))).config.platform == "linux/amd64"


@pytest.mark.parametrize(
    ("image", "machine_platform", "runs"),
    [
        ("linux/amd64/v2", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v3", True),
        ("linux/386", "linux/amd64", True),
        ("linux/arm64", "linux/amd64", False),
        ("linux/arm/v7", "linux/arm/v6", False),
    ],
)
def test_what_runs_on_a_machine(image: str, machine_platform: str, runs: bool) -> None:
    assert oci.runs_on(image, machine_platform) is runs


@pytest.mark.parametrize("media_type", ["", "application/vnd.docker.distribution.manifest.v1+prettyjws"])
def test_an_image_of_schema_1_is_called_that(media_type: str) -> None:
    documents = Documents()
    root = documents.put(media_type, {"schemaVersion": 1, "fsLayers": []})
    with pytest.raises(ValueError, match=r"Docker's manifest schema 1, .*: convert it"):
        documents.read(root)


def test_what_is_neither_index_nor_manifest_is_refused_unread() -> None:
    with pytest.raises(ValueError, match=r"not a container image that containerd can unpack: .* 'application/x'"):
        Documents().read({"mediaType": "application/x", "digest": name(1)})
