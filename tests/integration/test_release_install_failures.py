# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failure, either the new release is complete, or the previous one is unchanged."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.release_module import PROGRAM, Installation, installation, member, pack, release, run

__all__ = ["installation", "run"]

HOSTILE = {
    "absolute": [member("/tmp/evil")],
    "climbing": [member("../evil")],
    "link out": [member("bin/evil", b"", 0o777, tarfile.SYMTYPE, "../../evil")],
    "through a link": [member("evil", b"", 0o777, tarfile.SYMTYPE, "bin"), member("evil/x")],
    "absolute link": [member("bin/evil", b"", 0o777, tarfile.SYMTYPE, "/etc")],
    "hard link out": [member("evil", b"", 0o777, tarfile.LNKTYPE, "/etc/passwd")],
    "device": [member("evil", b"", 0o777, tarfile.BLKTYPE)],
    "named pipe": [member("evil", b"", 0o777, tarfile.FIFOTYPE)],
    "setuid": [member("bin/evil", PROGRAM, 0o4755)],
    "twice": [member("evil"), member("evil")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_leaves_nothing(installation: Installation, tmp_path: Path, case: str) -> None:
    before = installation.tree()
    answer = installation(pack(tmp_path / "archives/evil.tar", member("bin/demo"), *HOSTILE[case]))
    assert answer["failed"]
    assert "evil" in answer["msg"] and "\n" not in answer["msg"]
    assert installation.tree() == before


def damaged(tmp_path: Path, how: str) -> Path:
    archive = release(tmp_path, "a")
    content = archive.read_bytes()
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content = content[:-8] + bytes([content[-8] ^ 255]) + content[-7:]
    elif how == "cut inside":
        content = gzip.compress(gzip.decompress(content)[:20000])
    elif how == "text":
        content = b"<html>not found</html>"
    elif how == "empty":
        content = b""
    elif how == "cut zstd":
        content = subprocess.run(["zstd", "-q", "-c"], input=gzip.decompress(content), check=True, capture_output=True).stdout
        content = content[:-100]
    archive.write_bytes(content)
    return archive


@pytest.mark.parametrize("how", ["cut", "flipped", "cut inside", "text", "empty", "cut zstd"])
def test_a_damaged_archive_leaves_nothing(installation: Installation, tmp_path: Path, how: str) -> None:
    before = installation.tree()
    archive = damaged(tmp_path, how)
    for check in (True, False):
        answer = installation(archive, check=check)
        assert answer["failed"]
        assert str(archive) in answer["msg"] and "\n" not in answer["msg"]
    assert installation.tree() == before


@pytest.mark.smoke
def test_a_wrong_checksum_leaves_the_old_version(installation: Installation, tmp_path: Path) -> None:
    installation(release(tmp_path, "a"))
    before = installation.tree()
    answer = installation(release(tmp_path, "b"), "2.0", sha256="0" * 64)
    assert answer["failed"] and "the file is damaged, or it is another file" in answer["msg"]
    assert installation.tree() == before


@contextmanager
def small_file_system(path: Path, options: str) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount a small file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(
    ("options", "message"), [("size=200k", "too little space in"), ("nr_inodes=12", "No space left on device")]
)
def test_a_full_disk_leaves_the_old_version(installation: Installation, tmp_path: Path, options: str, message: str) -> None:
    small = pack(tmp_path / "archives/small.tar", member("bin/demo", b"#!/bin/sh\n"))
    large = pack(tmp_path / "archives/large.tar", *(member(f"bin/demo{number}", b"x" * 50_000) for number in range(9)))
    with small_file_system(installation.prefix, options):
        assert installation(small)["failed"] is False
        before = installation.tree()
        answer = installation(large, "2.0")
        assert answer["failed"] and message in answer["msg"], answer
        assert installation.tree() == before


def test_a_full_disk_on_a_fresh_node_leaves_no_directory(installation: Installation, tmp_path: Path) -> None:
    large = pack(tmp_path / "archives/large.tar", *(member(f"bin/demo{number}", b"x") for number in range(9)))
    with small_file_system(installation.prefix, "nr_inodes=7"):
        answer = installation(large)
        assert answer["failed"] and "No space left on device" in answer["msg"], answer
        assert list(installation.prefix.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_in_the_way_is_named(installation: Installation, tmp_path: Path, kind: str) -> None:
    archive = release(tmp_path, "a", "second")
    path = installation.links / "second"
    if kind == "file":
        path.write_bytes(b"theirs")
    elif kind == "link":
        path.symlink_to("/bin/true")
    else:
        path.mkdir()
    before = installation.tree()
    for check in (True, False):
        answer = installation(archive, check=check)
        assert answer["failed"] and f"{path} is a {kind}" in answer["msg"]
    assert installation.tree() == before
    replaced = installation(archive, adopt=True)
    assert replaced["failed"] is (kind == "directory")
    assert path.is_symlink() is (kind != "directory")


@pytest.mark.smoke
def test_an_interrupted_installation_is_mended(installation: Installation, tmp_path: Path) -> None:
    archive = release(tmp_path, "a", "second")
    first = installation(archive)
    whole = installation.tree()
    (Path(first["path"]) / ".slipway-manifest.json").unlink()
    (installation.home / ".staging-killed").mkdir()
    (installation.home / ".staging-killed" / "half").write_bytes(b"x")
    (installation.home / "current").unlink()
    (installation.links / "second").unlink()
    assert installation(archive, check=True)["changed"]
    assert installation(archive)["changed"]
    assert installation.tree() == whole
    assert installation(archive)["changed"] is False


@pytest.mark.parametrize("damage", ["truncated", "gone", "not executable", "manifest"])
def test_a_damaged_version_is_installed_again(installation: Installation, tmp_path: Path, damage: str) -> None:
    archive = release(tmp_path, "a")
    program = Path(installation(archive)["path"]) / "bin/demo"
    whole = installation.tree()
    if damage == "truncated":
        program.write_bytes(b"")
    elif damage == "gone":
        program.unlink()
    elif damage == "not executable":
        program.chmod(0o644)
    else:
        (program.parents[1] / ".slipway-manifest.json").write_bytes(b"")
    assert installation(archive)["changed"]
    assert installation.tree() == whole


def test_the_version_is_on_disk_before_anything_leads_to_it(installation: Installation, tmp_path: Path) -> None:
    """The order of the system calls is what a power cut sees."""
    trace = tmp_path / "trace"
    python = tmp_path / "python"
    calls = "fsync,fdatasync,syncfs,rename,renameat,renameat2"
    python.write_text(f'#!/bin/sh\nexec strace -f -y -e trace={calls} -o {trace} {sys.executable} "$@"\n')
    python.chmod(0o755)
    version = installation(release(tmp_path, "a"), python=str(python))["path"]
    lines = [line for line in trace.read_text().splitlines() if str(installation.directory) in line]
    named = next(index for index, line in enumerate(lines) if "rename(" in line and f'"{version}"' in line)
    synced = "\n".join(line for line in lines[:named] if "fsync(" in line)
    for name in ("bin/demo>", "README>", "bin>"):
        assert re.search(rf"\.staging-[^/]+/{name}", synced), name
    assert "manifest" in synced.splitlines()[-2]
    following = [
        f"fsync.*<{installation.home}>",
        "rename.*/current",
        f"fsync.*<{installation.home}>",
        "rename.*/bin/demo",
        f"fsync.*<{installation.links}>",
    ]
    assert len(lines[named + 1 :]) == len(following)
    for line, pattern in zip(lines[named + 1 :], following, strict=True):
        assert re.search(pattern, line), (line, pattern)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sha256": "abc"}, "sha256 must be 64"),
        ({"version": "a/b"}, "version must be"),
        ({"src": "relative.tgz"}, "src must be an absolute path"),
        ({"architecture": "vax"}, "architecture must be one of"),
        ({"link_dir": "/a\nb"}, "link_dir must be an absolute path"),
        ({"keep_versions": -1}, "keep_versions must not be negative"),
        ({"keep_versions": "many"}, "keep_versions"),
        ({"src": None}, "state is present but all of the following are missing: src"),
    ],
)
def test_bad_options(installation: Installation, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    archive = release(tmp_path, "a")
    arguments = {
        "name": "demo",
        "version": "1",
        "src": str(archive),
        "remote_src": True,
        "prefix": str(installation.prefix),
        "link_dir": str(installation.links),
    }
    arguments["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    answer = installation.run_module(**{key: value for key, value in {**arguments, **options}.items() if value is not None})
    assert answer["failed"] and message in answer["msg"]
