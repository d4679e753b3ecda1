# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.host.archive import ImageArchive
from ansible_collections.slipway.node.plugins.module_utils.store.reference import parse

AMD64 = "linux/amd64"
FULL = "io.containerd.image.name"
SHORT = "org.opencontainers.image.ref.name"


def digest(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def image(number: int) -> tuple[dict[str, bytes], str]:
    """The blobs of an image of one layer, and its manifest's digest."""
    layer = f"layer {number}".encode()
    rootfs = {"type": "layers", "diff_ids": [digest(layer)]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": described("config.v1+json", config),
            "layers": [described("layer.v1.tar", layer)],
        }
    ).encode()
    return {f"blobs/{digest(text).replace(':', '/')}": text for text in (layer, config, manifest)}, digest(manifest)


def described(kind: str, text: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(text), "size": len(text)}


def oci_archive(path: Path, *annotations: dict[str, str], prefix: str = "") -> str:
    members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    manifests = []
    for number, one in enumerate(annotations):
        blobs, name = image(number)
        members.update(blobs)
        manifests.append(
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": name, "size": 1, "annotations": one}
        )
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return tar(path, {prefix + name: content for name, content in members.items()})


def docker_archive(path: Path, tags: list[str] | None) -> str:
    layer = b"layer"
    rootfs = {"type": "layers", "diff_ids": [digest(layer)]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    index = json.dumps([{"Config": "c.json", "RepoTags": tags, "Layers": ["1/layer.tar"]}]).encode()
    return tar(path, {"1/layer.tar": layer, "c.json": config, "manifest.json": index, "repositories": b"{}"})


@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_oci_archive_says_what_it_has(tmp_path: Path, prefix: str) -> None:
    path = oci_archive(tmp_path / "a.tar", {FULL: "docker.io/library/a:1"}, {SHORT: "r.example/b:2"}, prefix=prefix)
    archive = ImageArchive(path)
    assert list(map(str, archive.names())) == ["docker.io/library/a:1", "r.example/b:2"]
    remote = archive.image(archive.entry(parse("r.example/b:2"), only=True), AMD64)
    assert (remote.digest, remote.platform, remote.layers) == (image(1)[1], AMD64, 1)
    assert remote.chain == (digest(b"layer 1"),)
    with pytest.raises(ValueError, match=r"has no image r.example/c:3: it has docker.io/library/a:1, r.example/b:2"):
        archive.entry(parse("r.example/c:3"), only=True)


def test_the_only_image_may_be_called_otherwise_but_not_by_two_names(tmp_path: Path) -> None:
    archive = ImageArchive(oci_archive(tmp_path / "a.tar", {SHORT: "latest"}))
    with pytest.raises(ValueError, match="an image without a name"):
        archive.names()
    assert archive.entry(parse("mine:1"), only=True).position == 0
    with pytest.raises(ValueError, match="it has images without names"):
        archive.entry(parse("mine:1"), only=False)


def test_dockers_archive_says_what_it_has(tmp_path: Path) -> None:
    archive = ImageArchive(docker_archive(tmp_path / "a.tar", ["a:1", "b:1"]))
    assert list(map(str, archive.names())) == ["docker.io/library/a:1", "docker.io/library/b:1"]
    remote = archive.image(archive.entries[0], AMD64)
    assert (remote.digest, remote.chain, remote.size) == ("", (digest(b"layer"),), len(b"layer") + remote.blobs[0].size)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_staged_copy_has_only_what_is_wanted_under_other_names(tmp_path: Path, compressed: bool) -> None:
    path = oci_archive(tmp_path / "a.tar", {FULL: "docker.io/library/a:1"}, {FULL: "r.example/b:2", "kept": "yes"})
    if compressed:
        Path(path).write_bytes(gzip.compress(Path(path).read_bytes()))
    stream = io.BytesIO()
    ImageArchive(path).write_staged(stream, {1: "staged.invalid/x:1"})
    stream.seek(0)
    with tarfile.open(fileobj=stream) as copy:
        members = {member.name: copy.extractfile(member) for member in copy}
        index = json.load(members["index.json"])  # type: ignore[arg-type]
        assert [one["annotations"] for one in index["manifests"]] == [{FULL: "staged.invalid/x:1", "kept": "yes"}]
        assert set(members) == {"oci-layout", "index.json", *image(0)[0], *image(1)[0]}


def test_a_staged_copy_of_dockers_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    ImageArchive(docker_archive(tmp_path / "a.tar", ["a:1", "b:1"])).write_staged(stream, {0: "staged.invalid/x:0"})
    stream.seek(0)
    with tarfile.open(fileobj=stream) as copy:
        index = json.load(copy.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert [one["RepoTags"] for one in index] == [["staged.invalid/x:0"]]
        assert "repositories" not in copy.getnames()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a tar")
    plain = tar(tmp_path / "plain.tar", {"etc/passwd": b"x"})
    broken = tar(tmp_path / "broken.tar", {"manifest.json": b"{"})
    empty = tar(tmp_path / "empty.tar", {"manifest.json": b"{}"})
    cut = Path(oci_archive(tmp_path / "cut.tar", {FULL: "a:1"}))
    cut.write_bytes(cut.read_bytes()[:700])
    for path, complaint in (
        (tmp_path / "text", "name a tar archive"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (plain, "neither an OCI layout nor"),
        (broken, "is not JSON"),
        (empty, "no list of images"),
        (cut, "archive"),
    ):
        with pytest.raises(HostError, match=complaint) as caught:
            ImageArchive(str(path))
        assert "\n" not in str(caught.value)


def test_a_blob_that_is_missing_or_altered_is_noticed_before_anything_is_imported(tmp_path: Path) -> None:
    blobs, manifest = image(0)
    for damage in ("missing", "altered"):
        path = tmp_path / f"{damage}.tar"
        oci_archive(path, {FULL: "a:1"})
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        name = f"blobs/{manifest.replace(':', '/')}"
        assert name in blobs
        members[name] += b" "
        if damage == "missing":
            del members[name]
        with pytest.raises(HostError, match=r"is damaged|is not whole"):
            ImageArchive(tar(path, members)).image(ImageArchive(str(path)).entries[0], AMD64)
