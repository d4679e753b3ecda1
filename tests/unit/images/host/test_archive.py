# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
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


def image(number: int, architecture: str = "amd64") -> tuple[dict[str, bytes], str]:
    """The blobs of an image of one layer, and its manifest's digest."""
    layer = f"layer {number}".encode()
    rootfs = {"type": "layers", "diff_ids": [digest(layer)]}
    config = json.dumps({"os": "linux", "architecture": architecture, "rootfs": rootfs}).encode()
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


def oci_archive(path: Path, *annotations: dict[str, str], prefix: str = "", architectures: Sequence[str] = ()) -> str:
    members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    manifests = []
    for number, one in enumerate(annotations):
        blobs, name = image(number, *architectures[number : number + 1])
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
    remote, position = archive.find(parse("r.example/b:2"), AMD64, only=True)
    assert (remote.digest, remote.platform, remote.layers, position) == (image(1)[1], AMD64, 1, 1)
    assert remote.chain == (digest(b"layer 1"),)
    with pytest.raises(ValueError, match=r"has no image r.example/c:3: it has docker.io/library/a:1, r.example/b:2"):
        archive.find(parse("r.example/c:3"), AMD64, only=True)


def test_the_only_image_may_be_called_otherwise_but_not_by_two_names(tmp_path: Path) -> None:
    archive = ImageArchive(oci_archive(tmp_path / "a.tar", {SHORT: "latest"}))
    with pytest.raises(ValueError, match="an image without a name"):
        archive.names()
    assert archive.find(parse("mine:1"), AMD64, only=True)[1] == 0
    with pytest.raises(ValueError, match="it has images without names"):
        archive.find(parse("mine:1"), AMD64, only=False)


def test_an_image_is_found_by_its_digest_under_any_name(tmp_path: Path) -> None:
    archive = ImageArchive(oci_archive(tmp_path / "a.tar", {FULL: "r.example/a:1"}, {FULL: "r.example/b:2"}))
    assert archive.find(parse(f"r.example/b@{image(1)[1]}"), AMD64, only=False)[1] == 1


@pytest.mark.parametrize(
    ("there", "wanted", "position"),
    [
        (["arm64", "amd64"], AMD64, 1),
        (["amd64", "arm64"], "linux/arm64", 1),
        (["386", "amd64"], AMD64, 1),
        (["arm64", "386"], AMD64, 1),
        (["arm64", "s390x"], AMD64, 0),
    ],
)
def test_of_entries_with_one_name_the_one_for_the_platform_is_taken(
    tmp_path: Path, there: list[str], wanted: str, position: int
) -> None:
    annotations = [{FULL: "r.example/a:1"}] * len(there)
    archive = ImageArchive(oci_archive(tmp_path / "a.tar", *annotations, architectures=there))
    assert list(map(str, archive.names())) == ["r.example/a:1"]
    remote, found = archive.find(parse("r.example/a:1"), wanted, only=True)
    assert (found, remote.platform) == (position, f"linux/{there[position]}")


def test_an_index_in_an_index_of_an_archive_leads_to_the_image(tmp_path: Path) -> None:
    members, manifest = image(0)
    described_by: dict[str, Any] = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": 1}
    for _level in range(2):
        index = json.dumps({"schemaVersion": 2, "manifests": [described_by]}).encode()
        members[f"blobs/{digest(index).replace(':', '/')}"] = index
        described_by = described("index.v1+json", index)
    top = json.dumps({"schemaVersion": 2, "manifests": [{**described_by, "annotations": {FULL: "r.example/a:1"}}]}).encode()
    path = tar(tmp_path / "a.tar", {"oci-layout": b"{}", "index.json": top, **members})
    remote, _position = ImageArchive(path).find(parse("r.example/a:1"), AMD64, only=True)
    assert (remote.digest, remote.chain) == (described_by["digest"], (digest(b"layer 0"),))


def test_a_layer_that_is_a_hard_link_is_written_as_a_file(tmp_path: Path) -> None:
    path = Path(docker_archive(tmp_path / "a.tar", ["a:1"]))
    with tarfile.open(path) as archive, tarfile.open(tmp_path / "linked.tar", "w") as linked:
        for member in archive:
            linked.addfile(member, archive.extractfile(member))
            if member.name == "1/layer.tar":
                link = tarfile.TarInfo("2/layer.tar")
                link.type, link.linkname = tarfile.LNKTYPE, member.name
                linked.addfile(link)
    with_link = ImageArchive(str(tmp_path / "linked.tar"))
    stream = io.BytesIO()
    with_link.write_staged(stream, {0: "staged.invalid/x:0"})
    stream.seek(0)
    with tarfile.open(fileobj=stream) as copy:
        assert copy.getmember("2/layer.tar").isreg()
        assert copy.extractfile("2/layer.tar").read() == b"layer"  # type: ignore[union-attr]


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
