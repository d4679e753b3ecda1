# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers with all features of an archive, and images that contain such layers byte for byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nodes.node import run

OCI, DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
CAPABILITY = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
FILE, DIRECTORY = tarfile.REGTYPE, tarfile.DIRTYPE


class Archive:
    """Written entry by entry, in the order of the calls."""

    def __init__(self, form: int = tarfile.PAX_FORMAT, **options: Any) -> None:
        self._stream = io.BytesIO()
        self._archive = tarfile.TarFile(fileobj=self._stream, mode="w", format=form, **options)

    def add(self, name: str, content: bytes = b"", *, kind: bytes = FILE, mode: int = 0o644, **more: Any) -> Archive:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.size = kind, mode, len(content)
        for key, value in more.items():
            setattr(member, key, value)
        self._archive.addfile(member, io.BytesIO(content))
        return self

    def directory(self, name: str, mode: int = 0o755, **more: Any) -> Archive:
        return self.add(name, kind=DIRECTORY, mode=mode, **more)

    def link(self, name: str, target: str, **more: Any) -> Archive:
        return self.add(name, kind=tarfile.SYMTYPE, mode=0o777, linkname=target, **more)

    def bytes(self) -> bytes:
        self._archive.close()
        return self._stream.getvalue()


def lowest() -> bytes:
    """Files of every kind."""
    archive = Archive(pax_headers={"comment": "global", "mtime": "1"})
    archive.directory("./", 0o700, uid=5).directory("d", 0o711, uid=1, gid=2).add("d/file", b"content", mode=0o4755, uid=1000)
    archive.add("d/sgid", b"x", mode=0o2755, gid=50).directory("sticky", 0o1777).add("empty", mode=0o600)
    archive.add("d/hard", kind=tarfile.LNKTYPE, linkname="d/file", mode=0o4755, uid=1000)
    archive.add("relinked", b"r").add("other", kind=tarfile.LNKTYPE, linkname="/relinked", mode=0o640, uid=7)
    archive.link("link", "d/file", uid=3).link("dangling", "/nowhere/" + "n" * 150).link("out", "../../../../run")
    archive.add("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    archive.add("loop", kind=tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=7, devminor=300).add("pipe", kind=tarfile.FIFOTYPE)
    archive.add("capable", b"c", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
    archive.add("attributed", b"a", pax_headers={"SCHILY.xattr.user.colour": "blau", "SCHILY.xattr.trusted.no": "x"})
    archive.directory("attributes", pax_headers={"SCHILY.xattr.user.of": "a directory"})
    archive.add("/absolute/file", b"1").add("../../above/file", b"2").add("a/../spelled/file", b"3").add("./dot//slash", b"4")
    archive.add("twice", b"first", mode=0o600).add("twice", b"again", mode=0o644)
    archive.add("no/parents/here", b"p").directory("s", 0o2775, gid=44).add("s/implied/file", b"q")
    archive.add("long/" + "/".join(letter * 100 for letter in "xyz"), b"l").add("n\udcff\udcfe", b"n").add("ü\n=", b"u")
    archive.directory("links/to").link("links/here", "to").add("links/here/file", b"through")
    archive.link("links/up", "/links/../../../links/to").add("links/up/file2", b"up")
    archive.add("big", bytes(100_000), mtime=-1).add("owned", b"o", uid=3_000_000, gid=70_000)
    for name in ("gone", "gone-directory/x/y", "hidden/a", "hidden/b/c", "replaced/by/file", "cleared/old", "cleared/sub/old"):
        archive.add(name, name.encode())
    archive.add("replaced-by-directory", b"f").directory("kept", 0o750, uid=8).add("kept/child", b"k")
    archive.directory("deep", 0o701, gid=9)
    return archive.directory("deep/er", 0o1755, uid=4).add("back", b"old").bytes()


def upper() -> bytes:
    """Takes away, replaces and adds to what lowest has."""
    archive = Archive(tarfile.GNU_FORMAT)
    archive.add(".wh.gone").add(".wh.gone-directory").add("hidden/.wh.a").add(".wh.never-there").add("new/.wh.either")
    archive.add("replaced", b"now a file").directory("replaced-by-directory").add("replaced-by-directory/x", b"x")
    archive.directory("kept", 0o700, gid=3).add("deep/er/file", b"without parents").add(".wh.back")
    archive.directory("cleared").add("cleared/new", b"n").add("cleared/.wh..wh..opq").add("cleared/newer/file", b"m")
    archive.add("link", b"a file now", mode=0o400).link("big", "small").add("long/" + "/".join("xyz"), b"short")
    return archive.add("w" * 120 + "/" + "v" * 120, b"gnu").add("d/sgid", b"y", mode=0o6711, uid=77).bytes()


def highest() -> bytes:
    """What the layers in between took away comes back, otherwise."""
    archive = Archive(tarfile.USTAR_FORMAT)
    archive.directory("back", 0o755).add("back/again", b"1").add("gone", b"2").add("cleared/sub/new", b"3")
    return archive.add("gone-directory/z", b"4").directory("hidden/b", 0o555).add("kept/.wh.child").bytes()


def sparse(directory: Path) -> bytes:
    """As GNU tar writes it."""
    directory.mkdir()
    with (directory / "sparse").open("wb") as file:
        for number in range(5):
            file.seek((2 * number + 1) << 20)
            file.write(b"data")
        file.truncate(20 << 20)
    form = ["--sparse", "--format=pax", "--sparse-version=1.0", "--owner=0", "--group=0"]
    argv = ["tar", "-C", str(directory), *form, "-cf", "-", "sparse"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def whole() -> list[tuple[str, bytes]]:
    """Layers as blobs with their media types; each compressed otherwise."""
    half = len(lowest()) // 2
    members = gzip.compress(lowest()[:half], mtime=0) + gzip.compress(lowest()[half:], mtime=0)
    zstd = subprocess.run(["zstd", "--quiet", "--stdout"], input=upper(), check=True, capture_output=True).stdout
    return [(f"{OCI}+gzip", members), (f"{OCI}+zstd", zstd), (f"{DOCKER}.gzip", gzip.compress(highest(), mtime=0))]


def uncompressed(blob: bytes) -> bytes:
    if blob.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "--decompress", "--quiet", "--stdout"], input=blob, check=True, capture_output=True).stdout
    return gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob


def write_archive(directory: Path, images: dict[str, Sequence[tuple[str, bytes]]]) -> Path:
    """An OCI archive of images, by name; their layers as media types and blobs."""
    blobs = directory / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    entries = []
    for name, layers in images.items():
        config = {
            "architecture": run(["dpkg", "--print-architecture"]).stdout.strip(),
            "os": "linux",
            "config": {"Labels": {"name": name}},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(uncompressed(one)).hexdigest()}" for _kind, one in layers],
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
            "layers": [blob(kind, one) for kind, one in layers],
        }
        entry = blob("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode())
        entries.append({**entry, "annotations": {"io.containerd.image.name": name}})
    (directory / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (directory / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    run(["tar", "-C", str(directory / "layout"), "-cf", str(directory / "images.tar"), "."])
    return directory / "images.tar"
