# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_archive on a real file system, with archives made here."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from integration.local_module import LocalModule

PROGRAM = Path("/bin/true").read_bytes()
OTHER_MACHINE = PROGRAM[:18] + (21).to_bytes(2, "little") + PROGRAM[20:]


class Site:
    """A prefix, a directory of links and a place for archives, below one directory."""

    def __init__(self, directory: Path, run: LocalModule) -> None:
        self.run_module = run
        self.directory = directory
        self.links = directory / "bin"
        self.prefix = directory / "lib"
        self.home = self.prefix / "demo"
        self.links.mkdir()

    def __call__(self, archive: Path | None = None, number: str = "1.0", /, **options: Any) -> dict[str, Any]:
        if archive is not None:
            sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
            options = {"version": number, "src": str(archive), "sha256": sha256, **options}
        return self.run_module(name="demo", prefix=str(self.prefix), links=str(self.links), **options)

    def tree(self) -> dict[str, Any]:
        """Everything below the site: content or link target, and mode."""
        found: dict[str, Any] = {}
        for folder, folders, files in os.walk(self.directory):
            for name in folders + files:
                path = Path(folder, name)
                if "archives" in path.parts:
                    continue
                content: Any = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
                found[str(path.relative_to(self.directory))] = (content, stat.S_IMODE(path.lstat().st_mode))
        return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LocalModule:
    return LocalModule("release_archive", tmp_path_factory.mktemp("collections"))


@pytest.fixture
def site(run: LocalModule, tmp_path: Path) -> Site:
    (tmp_path / "archives").mkdir()
    (tmp_path / "site").mkdir()
    return Site(tmp_path / "site", run)


def member(name: str, content: bytes = PROGRAM, mode: int = 0o755, kind: bytes = tarfile.REGTYPE, target: str = "") -> Any:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.uid = mode, kind, target, 1234
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, io.BytesIO(content)


def pack(path: Path, *members: Any, mode: str = "w:gz") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, content)
    return path


def release(tmp_path: Path, name: str = "a", *extra: str, mode: str = "w:gz") -> Path:
    """An archive with bin/demo and bin/NAME for each extra."""
    programs = [member(f"bin/{program}", PROGRAM + name.encode()) for program in ("demo", *extra)]
    directory = member("./bin/", b"", 0o775, tarfile.DIRTYPE)
    return pack(tmp_path / "archives" / f"{name}.tar", directory, *programs, member("README", b"x", 0o666), mode=mode)


def test_check_mode_predicts_then_installs_then_nothing(site: Site, tmp_path: Path) -> None:
    archive = release(tmp_path, "a", "demo-shim")
    before = site.tree()
    predicted = site(archive, check=True)
    assert site.tree() == before
    first = site(archive)
    assert {key: first[key] for key in ("changed", "version", "path", "links", "previous", "removed")} == {
        key: predicted[key] for key in ("changed", "version", "path", "links", "previous", "removed")
    }
    assert (first["changed"], first["version"], first["previous"]) == (True, "1.0", None)
    assert first["links"] == [str(site.links / "demo"), str(site.links / "demo-shim")]
    subprocess.run([str(site.links / "demo")], check=True)
    version = Path(first["path"])
    assert version.parent == site.home
    assert stat.S_IMODE(version.stat().st_mode) == 0o755
    assert stat.S_IMODE((version / "bin").stat().st_mode) == 0o755
    assert stat.S_IMODE((version / "README").stat().st_mode) == 0o644
    assert (version / "bin/demo").stat().st_uid == os.geteuid()
    after = site.tree()
    archive.rename(archive.with_suffix(".gone"))
    options = {
        "version": "1.0",
        "src": str(archive),
        "sha256": hashlib.sha256(archive.with_suffix(".gone").read_bytes()).hexdigest(),
    }
    assert site(**options)["changed"] is False
    assert site(**options, check=True)["changed"] is False
    assert site.tree() == after


def test_check_mode_before_the_archive_is_on_the_node(site: Site) -> None:
    options = {"version": "1.0", "src": str(site.directory / "later.tgz"), "sha256": "0" * 64}
    predicted = site(**options, check=True)
    assert (predicted["failed"], predicted["changed"], predicted["links"]) == (False, True, [])
    real = site(**options)
    assert real["failed"]
    assert "cannot open" in real["msg"] and "later.tgz: No such file or directory" in real["msg"]


def test_upgrade_and_back_without_the_archive(site: Site, tmp_path: Path) -> None:
    one, two, three = (release(tmp_path, name, *extra) for name, extra in (("a", ["old"]), ("b", ["new"]), ("c", ["new"])))
    first = site(one, "1.0")
    second = site(two, "2.0")
    assert (second["previous"], second["removed"]) == ("1.0", [str(site.links / "old")])
    assert sorted(path.name for path in site.links.iterdir()) == ["demo", "new"]
    assert (site.links / "demo").read_bytes().endswith(b"b")
    sha256 = hashlib.sha256(one.read_bytes()).hexdigest()
    one.unlink()
    back = site(version="1.0", src=str(one), sha256=sha256)
    assert (back["failed"], back["changed"], back["path"], back["previous"]) == (False, True, first["path"], "2.0")
    assert (site.links / "demo").read_bytes().endswith(b"a")
    third = site(three, "3.0")
    assert third["removed"] == [str(site.links / "old"), second["path"]]
    assert not Path(second["path"]).exists()
    assert site(three, "3.0")["changed"] is False
    assert site(three, "3.0", keep=0)["removed"] == [first["path"]]


def test_the_same_version_from_another_build(site: Site, tmp_path: Path) -> None:
    one = site(release(tmp_path, "a"))
    two = site(release(tmp_path, "b"))
    assert (two["changed"], two["version"]) == (True, "1.0")
    assert one["path"] != two["path"]


def test_absent(site: Site, tmp_path: Path) -> None:
    before = site.tree()
    foreign = site.links / "theirs"
    foreign.write_bytes(b"x")
    site(release(tmp_path, "a"), "1.0")
    site(release(tmp_path, "b"), "2.0")
    assert site(state="absent", check=True)["changed"]
    gone = site(state="absent")
    assert (gone["changed"], len(gone["removed"])) == (True, 3)
    assert site(state="absent")["changed"] is False
    foreign.unlink()
    site.prefix.rmdir()
    assert site.tree() == before


def test_a_tree_is_linked_as_a_whole(site: Site, tmp_path: Path) -> None:
    tree = site.directory / "opt" / "demo"
    inside = str(tree)[1:]
    options: dict[str, Any] = {"tree": str(tree), "bin_dir": f"{inside}/bin"}

    def packed(name: str) -> Path:
        program = member(f"./{inside}/bin/demo", PROGRAM + name.encode())
        return pack(
            tmp_path / "archives" / f"{name}.tar.xz", program, member(f"{inside}/share/x", name.encode(), 0o644), mode="w:xz"
        )

    later = {**options, "version": "1.0", "src": "/nonexistent/a.tar.xz", "sha256": "0" * 64}
    assert site(**later, check=True)["links"] == [str(tree)]
    first = site(packed("a"), "1.0", **options)
    assert first["links"] == [str(tree)] and list(site.links.iterdir()) == []
    assert os.readlink(tree) == f"{site.home}/current/{inside}"
    assert (tree / "share/x").read_text() == "a"
    assert site(packed("b"), "2.0", **options)["previous"] == "1.0"
    assert (tree / "share/x").read_text() == "b"
    assert site(packed("a"), "1.0", **options)["changed"] and (tree / "share/x").read_text() == "a"
    assert site(packed("a"), "1.0", **options)["changed"] is False
    assert site(state="absent", tree=str(tree))["changed"] and not tree.is_symlink()

    tree.mkdir()
    refused = site(packed("a"), "1.0", **options)
    assert f"{tree} is a directory: move it away" in refused["msg"] and not site.home.exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zst"])
def test_compressions(site: Site, tmp_path: Path, mode: str) -> None:
    archive = release(tmp_path, "a", mode="w" if mode == "zst" else mode)
    if mode == "zst":
        subprocess.run(["zstd", "-q", "--rm", str(archive)], check=True)
        archive = archive.with_suffix(".tar.zst")
    assert site(archive)["failed"] is False
    subprocess.run([str(site.links / "demo")], check=True)


def test_zstd_without_a_decompressor(site: Site, tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("Python reads zstd itself")
    archive = release(tmp_path, "a", mode="w")
    subprocess.run(["zstd", "-q", "--rm", str(archive)], check=True)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPATH=/nothing exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    answer = site(archive.with_suffix(".tar.zst"), python=str(python))
    assert answer["failed"]
    assert "install the package zstd" in answer["msg"]


def test_a_single_executable(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "archives" / "demo.amd64"
    program.write_bytes(PROGRAM)
    answer = site(program)
    assert answer["links"] == [str(site.links / "demo")]
    subprocess.run([str(site.links / "demo")], check=True)
    program.write_bytes(OTHER_MACHINE)
    refused = site(program)
    assert refused["failed"] and "bin/demo is built for ppc64le, but architecture is" in refused["msg"]


def test_bin_dir(site: Site, tmp_path: Path) -> None:
    archive = pack(tmp_path / "archives/k.tar", member("./opt/kata/bin/shim"), member("./opt/kata/VERSION", b"3", 0o644))
    refused = site(archive)
    assert refused["failed"] and "no executable in bin" in refused["msg"]
    assert site(archive, bin_dir="opt/kata/bin")["links"] == [str(site.links / "shim")]


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
def test_a_hostile_archive_leaves_nothing(site: Site, tmp_path: Path, case: str) -> None:
    before = site.tree()
    answer = site(pack(tmp_path / "archives/evil.tar", member("bin/demo"), *HOSTILE[case]))
    assert answer["failed"]
    assert "evil" in answer["msg"] and "\n" not in answer["msg"]
    assert site.tree() == before


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
def test_a_damaged_archive_leaves_nothing(site: Site, tmp_path: Path, how: str) -> None:
    before = site.tree()
    archive = damaged(tmp_path, how)
    for check in (True, False):
        answer = site(archive, check=check)
        assert answer["failed"]
        assert str(archive) in answer["msg"] and "\n" not in answer["msg"]
    assert site.tree() == before


def test_a_wrong_checksum_leaves_the_old_version(site: Site, tmp_path: Path) -> None:
    site(release(tmp_path, "a"))
    before = site.tree()
    answer = site(release(tmp_path, "b"), "2.0", sha256="0" * 64)
    assert answer["failed"] and "it is damaged or not the file that was meant" in answer["msg"]
    assert site.tree() == before


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


@pytest.mark.parametrize(("options", "message"), [("size=200k", "no room in"), ("nr_inodes=12", "No space left on device")])
def test_a_full_disk_leaves_the_old_version(site: Site, tmp_path: Path, options: str, message: str) -> None:
    small = pack(tmp_path / "archives/small.tar", member("bin/demo", b"#!/bin/sh\n"))
    large = pack(tmp_path / "archives/large.tar", *(member(f"bin/demo{number}", b"x" * 50_000) for number in range(9)))
    with small_file_system(site.prefix, options):
        assert site(small)["failed"] is False
        before = site.tree()
        answer = site(large, "2.0")
        assert answer["failed"] and message in answer["msg"], answer
        assert site.tree() == before


def test_a_full_disk_on_a_fresh_node_leaves_no_directory(site: Site, tmp_path: Path) -> None:
    large = pack(tmp_path / "archives/large.tar", *(member(f"bin/demo{number}", b"x") for number in range(9)))
    with small_file_system(site.prefix, "nr_inodes=7"):
        answer = site(large)
        assert answer["failed"] and "No space left on device" in answer["msg"], answer
        assert list(site.prefix.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_in_the_way_is_named(site: Site, tmp_path: Path, kind: str) -> None:
    archive = release(tmp_path, "a", "second")
    path = site.links / "second"
    if kind == "file":
        path.write_bytes(b"theirs")
    elif kind == "link":
        path.symlink_to("/bin/true")
    else:
        path.mkdir()
    before = site.tree()
    for check in (True, False):
        answer = site(archive, check=check)
        assert answer["failed"] and f"{path} is a {kind}" in answer["msg"]
    assert site.tree() == before
    replaced = site(archive, replace=True)
    assert replaced["failed"] is (kind == "directory")
    assert path.is_symlink() is (kind != "directory")


def test_an_interrupted_installation_is_mended(site: Site, tmp_path: Path) -> None:
    archive = release(tmp_path, "a", "second")
    first = site(archive)
    whole = site.tree()
    (Path(first["path"]) / ".slipway-manifest.json").unlink()
    (site.home / ".staging-killed").mkdir()
    (site.home / ".staging-killed" / "half").write_bytes(b"x")
    (site.home / "current").unlink()
    (site.links / "second").unlink()
    assert site(archive, check=True)["changed"]
    assert site(archive)["changed"]
    assert site.tree() == whole
    assert site(archive)["changed"] is False


@pytest.mark.parametrize("damage", ["truncated", "gone", "not executable", "manifest"])
def test_a_damaged_version_is_installed_again(site: Site, tmp_path: Path, damage: str) -> None:
    archive = release(tmp_path, "a")
    program = Path(site(archive)["path"]) / "bin/demo"
    whole = site.tree()
    if damage == "truncated":
        program.write_bytes(b"")
    elif damage == "gone":
        program.unlink()
    elif damage == "not executable":
        program.chmod(0o644)
    else:
        (program.parents[1] / ".slipway-manifest.json").write_bytes(b"")
    assert site(archive)["changed"]
    assert site.tree() == whole


def test_the_version_is_on_disk_before_anything_leads_to_it(site: Site, tmp_path: Path) -> None:
    """The order of the system calls is what a power cut sees."""
    trace = tmp_path / "trace"
    python = tmp_path / "python"
    calls = "fsync,fdatasync,syncfs,rename,renameat,renameat2"
    python.write_text(f'#!/bin/sh\nexec strace -f -y -e trace={calls} -o {trace} {sys.executable} "$@"\n')
    python.chmod(0o755)
    version = site(release(tmp_path, "a"), python=str(python))["path"]
    lines = [line for line in trace.read_text().splitlines() if str(site.directory) in line]
    named = next(index for index, line in enumerate(lines) if "rename(" in line and f'"{version}"' in line)
    synced = "\n".join(line for line in lines[:named] if "fsync(" in line)
    for name in ("bin/demo>", "README>", "bin>"):
        assert re.search(rf"\.staging-[^/]+/{name}", synced), name
    assert "manifest" in synced.splitlines()[-2]
    following = [
        f"fsync.*<{site.home}>",
        "rename.*/current",
        f"fsync.*<{site.home}>",
        "rename.*/bin/demo",
        f"fsync.*<{site.links}>",
    ]
    assert len(lines[named + 1 :]) == len(following)
    for line, pattern in zip(lines[named + 1 :], following, strict=True):
        assert re.search(pattern, line), (line, pattern)


class Server(http.server.SimpleHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path.endswith("cut"):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b only this")
            return
        super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    def handler(*arguments: Any) -> Server:
        return Server(*arguments, directory=str(tmp_path / "archives"))

    Server.requests.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_download(site: Site, tmp_path: Path, server: str) -> None:
    archive = release(tmp_path, "a")
    assert site(archive, src=f"{server}/a.tar", check=True)["changed"]
    assert Server.requests == []
    assert site(archive, src=f"{server}/a.tar")["failed"] is False
    assert site(archive, src=f"{server}/a.tar")["changed"] is False
    assert Server.requests == ["/a.tar"]
    subprocess.run([str(site.links / "demo")], check=True)


def test_a_failed_download_leaves_nothing(site: Site, tmp_path: Path, server: str) -> None:
    archive = release(tmp_path, "a")
    before = site.tree()
    missing = site(archive, src=f"{server}/missing")
    assert missing["failed"] and "cannot download" in missing["msg"] and "404" in missing["msg"]
    cut = site(archive, src=f"{server}/cut")
    assert cut["failed"] and f"{server}/cut" in cut["msg"]
    nobody = site(archive, src="http://127.0.0.1:1/a.tar")
    assert nobody["failed"] and "refused" in nobody["msg"]
    assert site.tree() == before


def test_a_file_url(site: Site, tmp_path: Path) -> None:
    archive = release(tmp_path, "with space")
    assert site(archive, src=f"file://{str(archive).replace(' ', '%20')}")["failed"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sha256": "abc"}, "sha256 must be 64"),
        ({"version": "a/b"}, "version must be"),
        ({"src": "relative.tgz"}, "src must be an absolute path"),
        ({"architecture": "vax"}, "architecture must be one of"),
        ({"links": "/a\nb"}, "links must be an absolute path"),
        ({"keep": -1}, "keep must not be negative"),
        ({"keep": "many"}, "keep"),
        ({"src": None}, "state is present but all of the following are missing: src"),
    ],
)
def test_bad_options(site: Site, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    archive = release(tmp_path, "a")
    arguments = {
        "name": "demo",
        "version": "1",
        "src": str(archive),
        "prefix": str(site.prefix),
        "links": str(site.links),
    }
    arguments["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    answer = site.run_module(**{key: value for key, value in {**arguments, **options}.items() if value is not None})
    assert answer["failed"] and message in answer["msg"]
