# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers as GNU tar and others write them, in every format and compression, and broken ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.integrity.host import blobs
from ansible_collections.slipway.node.plugins.module_utils.integrity.host.blobs import DamagedBlobError, open_layer
from ansible_collections.slipway.node.plugins.module_utils.integrity.tar import Entry
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Descriptor

TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
FORMATS = ("v7", "ustar", "oldgnu", "gnu", "pax")
LONG = "/".join(letter * 90 for letter in "abc")


def tar(directory: Path, *arguments: str) -> bytes:
    """GNU tar of a directory's content."""
    return subprocess.run(["tar", "-C", str(directory), *arguments, "-cf", "-", "."], check=True, capture_output=True).stdout


def stored(root: Path, content: bytes, media_type: str = TYPE) -> Descriptor:
    """A blob in a content store."""
    digest = hashlib.sha256(content).hexdigest()
    path = root / "blobs/sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Descriptor(media_type, f"sha256:{digest}", len(content))


def read(root: Path, content: bytes, media_type: str = TYPE) -> dict[bytes, tuple[Entry, bytes]]:
    """Entries by name, with their content; holes are filled."""
    found = {}
    with open_layer(str(root), stored(root, content, media_type)) as reader:
        for entry in reader.entries():
            whole = bytearray(entry.size)
            for offset, piece in reader.content(entry):
                whole[offset : offset + len(piece)] = piece
            found[entry.name] = entry, bytes(whole)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of every kind that anybody may make."""
    directory = tmp_path / "files"
    (directory / "d").mkdir(parents=True, mode=0o711)
    (directory / "d/file").write_bytes(b"abc" * 1000)
    (directory / "d/file").chmod(0o4751)
    (directory / "empty").touch()
    (directory / "block").write_bytes(b"x" * 512)
    (directory / "linked").hardlink_to(directory / "d/file")
    (directory / "link").symlink_to("d/file")
    os.mkfifo(directory / "pipe")
    return directory


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_tar(tmp_path: Path, files: Path, kind: str) -> None:
    content = tar(files, f"--format={kind}", "--sort=name", *["--exclude=pipe"] * (kind == "v7"))
    found = read(tmp_path, content)
    assert set(found) == {b"./", b"./d/", b"./d/file", b"./empty", b"./block", b"./linked", b"./link"} | (
        {b"./pipe"} if kind != "v7" else set()
    )
    for name, (entry, data) in found.items():
        path = files / name.decode()
        status = path.lstat()
        assert entry.mode == status.st_mode & 0o7777 and (entry.uid, entry.gid) == (status.st_uid, status.st_gid), name
        assert entry.kind in "fhdlp" and (entry.kind != "f" or data == path.read_bytes()), name
    assert (found[b"./link"][0].kind, found[b"./link"][0].target) == ("l", b"d/file")
    assert (found[b"./linked"][0].kind, found[b"./linked"][0].target) == ("h", b"./d/file")


@pytest.mark.parametrize("kind", ["ustar", "gnu", "pax"])
def test_names_of_any_length_and_encoding(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "files"
    names = [
        b"\xff\xfe",
        "ü\n=".encode(),
        *([LONG.encode(), b"t" * 200] if kind != "ustar" else [b"/".join([b"a" * 90, b"b" * 90])]),
    ]
    for name in names:
        path = Path(os.fsdecode(os.fsencode(directory) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    (directory / "link").symlink_to("z" * (200 if kind != "ustar" else 90))
    found = read(tmp_path, tar(directory, f"--format={kind}"))
    assert {name: found[b"./" + name][1] for name in names} == {name: name for name in names}
    assert found[b"./link"][0].target == b"z" * (200 if kind != "ustar" else 90)


@pytest.mark.parametrize("arguments", [["--format=pax", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0")])
@pytest.mark.parametrize("holes", [1, 3, 300])
def test_sparse_files_have_their_real_size(tmp_path: Path, arguments: list[str], holes: int) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    with (directory / "sparse").open("wb") as sparse:
        for number in range(holes):
            sparse.seek(number * 65536 + 32768)
            sparse.write(b"%d" % number)
        sparse.truncate(holes * 65536)
    (directory / "zz").write_bytes(b"after")
    content = tar(directory, "--sparse", "--sort=name", *arguments)
    found = read(tmp_path, content)
    entry, data = found[b"./sparse"]
    assert entry.size == holes * 65536 and entry.stored < entry.size
    assert data == (directory / "sparse").read_bytes()
    assert found[b"./zz"][1] == b"after"


def test_the_type_of_sparse_files_that_containerd_refuses(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    with (directory / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 20)
    with pytest.raises(ValueError, match="doesn't unpack"):
        read(tmp_path, tar(directory, "--sparse", "--format=gnu"))


def test_what_pax_records_say(tmp_path: Path) -> None:
    records = {"SCHILY.xattr.user.a": "b=c\n", "uid": "3000000", "path": "ü/x", "comment": "y"}
    member = tarfile.TarInfo("x")
    member.pax_headers = records
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "1", "path": "no"}) as archive:
        archive.addfile(member)
        archive.addfile(tarfile.TarInfo("y"))
    found = read(tmp_path, stream.getvalue())
    assert found["ü/x".encode()][0].xattrs == {b"user.a": b"b=c\n"}
    assert found["ü/x".encode()][0].uid == 3000000
    assert [entry.kind for entry, _data in found.values()] == ["g", "f", "f"] and b"y" in found, "global records are not applied"


def test_large_and_negative_numbers(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.uid, member.gid, member.mtime = 1 << 40, 2097152, -5
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member)
    assert read(tmp_path, stream.getvalue())[b"x"][0][3:5] == (1 << 40, 2097152)


@pytest.mark.parametrize("size", [-1, -5000, -(1 << 80)])
def test_negative_sizes_are_refused(tmp_path: Path, size: int) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size & ((1 << 96) - 1)).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ValueError, match="negative size"):
        read(tmp_path, bytes(header) + bytes(1024))


def compressions(content: bytes) -> dict[str, bytes]:
    half = len(content) // 2
    zstd = [["zstd", "-q", "-c"], ["zstd", "-q", "-c", "--format=zstd", "-3", "--no-check"]]
    packed = [subprocess.run(argv, input=content, check=True, capture_output=True).stdout for argv in zstd]
    halves = [
        subprocess.run(zstd[0], input=part, check=True, capture_output=True).stdout for part in (content[:half], content[half:])
    ]
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    return {
        "none": content,
        "gzip": gzip.compress(content),
        "gzip members": gzip.compress(content[:half]) + gzip.compress(b"") + gzip.compress(content[half:]),
        "zstd": packed[0],
        "zstd without sum": packed[1],
        "zstd frames": b"".join(halves),
        "zstd with a skippable frame": skippable + packed[0],
    }


@pytest.mark.parametrize("media_type", sorted(blobs.LAYER_TYPES))
def test_compression_is_seen_whatever_the_type_says(tmp_path: Path, files: Path, media_type: str) -> None:
    content = tar(files)
    expected = read(tmp_path, content, media_type)
    assert len(expected) == 8
    for name, packed in compressions(content).items():
        assert read(tmp_path, packed, media_type) == expected, name


def test_zstd_needs_a_program(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = compressions(tar(files))["zstd"]
    assert len(read(tmp_path, packed)) == 8
    if sys.version_info < (3, 14):
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(ValueError, match="install zstd on the node"):
            read(tmp_path, packed)


def test_other_types_are_not_guessed(tmp_path: Path, files: Path) -> None:
    with pytest.raises(ValueError, match=r"tar\+gzip\+encrypted are not understood"):
        read(tmp_path, tar(files), "application/vnd.oci.image.layer.v1.tar+gzip+encrypted")


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_damaged_blobs_are_told_from_layers_that_make_no_sense(tmp_path: Path, files: Path, compression: str) -> None:
    packed = compressions(tar(files))[compression]
    middle = len(packed) // 2
    descriptor = stored(tmp_path, packed)
    path = tmp_path / "blobs/sha256" / descriptor.digest.partition(":")[2]
    cases = {
        "flipped": packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :],
        "flipped at the end": packed[:-1] + bytes([packed[-1] ^ 1]),
        "cut off": packed[:middle],
        "empty": b"",
        "zeros": bytes(len(packed)),
        "longer": packed + b"x",
    }
    for name, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(DamagedBlobError), open_layer(str(tmp_path), descriptor) as reader:
            for _entry in reader.entries():
                pass
        assert path.read_bytes() == content, name
    path.unlink()
    with pytest.raises(DamagedBlobError), open_layer(str(tmp_path), descriptor):
        pass
    # These have the digest that they should have.
    with pytest.raises(ValueError, match="layer sha256:"):
        read(tmp_path, packed[:middle])


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 512,
        b"x" * 100,
        gzip.compress(b"x" * 512, mtime=0),
        b"\x1f\x8b\x08" + b"x" * 500,
        b"\x28\xb5\x2f\xfd" + b"x" * 500,
        gzip.compress(b"", mtime=0)[:-3],
    ],
)
def test_nonsense_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="layer sha256:"):
        read(tmp_path, content)


def test_empty_layers(tmp_path: Path) -> None:
    for content in (b"", bytes(1024), bytes(10240), gzip.compress(bytes(1024)), gzip.compress(b"")):
        assert read(tmp_path, content) == {}


@pytest.mark.parametrize("position", range(0, 500, 7))
def test_a_broken_header_raises_nothing_but_value_error(tmp_path: Path, files: Path, position: int) -> None:
    """Its checksum is right; the reader may also accept it."""
    content = bytearray(tar(files, "--format=pax", "--pax-option=comment=x"))
    for block in range(0, len(content), 512):
        header = content[block : block + 512]
        if bytes(header[257:262]) == b"ustar":
            header[position : position + 3] = b"\xff9\0"
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            content[block : block + 512] = header
    with suppress(ValueError), open_layer(str(tmp_path), stored(tmp_path, bytes(content))) as reader:
        for entry in reader.entries():
            for _piece in reader.content(entry):
                pass


def test_a_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("bomb")
    member.size = 100 << 20
    packed = gzip.compress(member.tobuf() + bytes(member.size + 1024))
    assert len(packed) < 1 << 20
    tracemalloc.start()
    with open_layer(str(tmp_path), stored(tmp_path, packed)) as reader:
        (entry,) = list(reader.entries())
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert entry.size == 100 << 20 and peak < 16 << 20
