# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install on a real file system, with archives made here."""

from __future__ import annotations

import hashlib
import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from integration.release_module import PROGRAM, Installation, installation, member, pack, release, run

__all__ = ["installation", "run"]

OTHER_MACHINE = PROGRAM[:18] + (21).to_bytes(2, "little") + PROGRAM[20:]


@pytest.mark.smoke
def test_check_mode_predicts_what_is_installed(installation: Installation, tmp_path: Path) -> None:
    archive = release(tmp_path, "a", "demo-shim")
    before = installation.tree()
    predicted = installation(archive, check=True)
    assert installation.tree() == before
    first = installation(archive)
    same = ("changed", "version", "path", "links", "previous", "removed")
    assert {key: first[key] for key in same} == {key: predicted[key] for key in same}
    assert (first["changed"], first["version"], first["previous"]) == (True, "1.0", None)
    assert first["links"] == [str(installation.links / "demo"), str(installation.links / "demo-shim")]
    assert Path(first["path"]).parent == installation.home
    subprocess.run([str(installation.links / "demo")], check=True)


def test_files_belong_to_the_installing_user_and_only_it_can_write_them(installation: Installation, tmp_path: Path) -> None:
    version = Path(installation(release(tmp_path))["path"])
    modes = {name: stat.S_IMODE((version / name).stat().st_mode) for name in (".", "bin", "README")}
    assert modes == {".": 0o755, "bin": 0o755, "README": 0o644}
    assert (version / "bin/demo").stat().st_uid == os.geteuid()


def test_the_second_run_needs_no_archive(installation: Installation, tmp_path: Path) -> None:
    archive = release(tmp_path)
    installation(archive)
    after = installation.tree()
    archive.rename(archive.with_suffix(".gone"))
    options = {
        "version": "1.0",
        "src": str(archive),
        "sha256": hashlib.sha256(archive.with_suffix(".gone").read_bytes()).hexdigest(),
    }
    assert installation(**options)["changed"] is False
    assert installation(**options, check=True)["changed"] is False
    assert installation.tree() == after


def test_check_mode_before_the_archive_is_on_the_node(installation: Installation) -> None:
    options = {"version": "1.0", "src": str(installation.directory / "later.tgz"), "sha256": "0" * 64}
    predicted = installation(**options, check=True)
    assert (predicted["failed"], predicted["changed"], predicted["links"]) == (False, True, [])
    real = installation(**options)
    assert real["failed"]
    assert "cannot open" in real["msg"] and "later.tgz: No such file or directory" in real["msg"]


def test_a_staged_version_is_linked_later_without_its_archive(installation: Installation, tmp_path: Path) -> None:
    one, two = release(tmp_path, "a", "old"), release(tmp_path, "b", "new")
    installation(one, "1.0")
    before = installation.tree()
    predicted = installation(two, "2.0", state="staged", check=True)
    assert installation.tree() == before
    staged = installation(two, "2.0", state="staged")
    for done in (predicted, staged):
        assert (done["changed"], done["version"], done["previous"], done["removed"]) == (True, "2.0", "1.0", [])
    assert (Path(staged["path"]) / "bin/new").exists()
    assert {name: found for name, found in installation.tree().items() if name in before} == before
    assert not installation(two, "2.0", state="staged")["changed"]
    options = {"version": "2.0", "src": str(two), "sha256": hashlib.sha256(two.read_bytes()).hexdigest()}
    two.unlink()
    assert installation(**options)["previous"] == "1.0"
    assert (installation.links / "demo").read_bytes().endswith(b"b")


@pytest.mark.smoke
def test_upgrade_and_back_without_the_archive(installation: Installation, tmp_path: Path) -> None:
    one, two, three = (release(tmp_path, name, *extra) for name, extra in (("a", ["old"]), ("b", ["new"]), ("c", ["new"])))
    first = installation(one, "1.0")
    second = installation(two, "2.0")
    assert (second["previous"], second["removed"]) == ("1.0", [str(installation.links / "old")])
    assert sorted(path.name for path in installation.links.iterdir()) == ["demo", "new"]
    assert (installation.links / "demo").read_bytes().endswith(b"b")
    sha256 = hashlib.sha256(one.read_bytes()).hexdigest()
    one.unlink()
    back = installation(version="1.0", src=str(one), sha256=sha256)
    assert (back["failed"], back["changed"], back["path"], back["previous"]) == (False, True, first["path"], "2.0")
    assert (installation.links / "demo").read_bytes().endswith(b"a")
    third = installation(three, "3.0")
    assert third["removed"] == [str(installation.links / "old"), second["path"]]
    assert not Path(second["path"]).exists()
    assert installation(three, "3.0")["changed"] is False
    assert installation(three, "3.0", keep_versions=0)["removed"] == [first["path"]]


def test_the_same_version_from_another_build(installation: Installation, tmp_path: Path) -> None:
    one = installation(release(tmp_path, "a"))
    two = installation(release(tmp_path, "b"))
    assert (two["changed"], two["version"]) == (True, "1.0")
    assert one["path"] != two["path"]


def test_absent(installation: Installation, tmp_path: Path) -> None:
    before = installation.tree()
    foreign = installation.links / "theirs"
    foreign.write_bytes(b"x")
    installation(release(tmp_path, "a"), "1.0")
    installation(release(tmp_path, "b"), "2.0")
    assert installation(state="absent", check=True)["changed"]
    gone = installation(state="absent")
    assert (gone["changed"], len(gone["removed"])) == (True, 3)
    assert installation(state="absent")["changed"] is False
    foreign.unlink()
    installation.prefix.rmdir()
    assert installation.tree() == before


def test_a_tree_is_linked_as_a_whole(installation: Installation, tmp_path: Path) -> None:
    tree = installation.directory / "opt" / "demo"
    inside = str(tree)[1:]
    options: dict[str, Any] = {"install_root": str(tree), "bin_dir": f"{inside}/bin"}

    def packed(name: str) -> Path:
        program = member(f"./{inside}/bin/demo", PROGRAM + name.encode())
        return pack(
            tmp_path / "archives" / f"{name}.tar.xz", program, member(f"{inside}/share/x", name.encode(), 0o644), mode="w:xz"
        )

    later = {**options, "version": "1.0", "src": "/nonexistent/a.tar.xz", "sha256": "0" * 64}
    assert installation(**later, check=True)["links"] == [str(tree)]
    first = installation(packed("a"), "1.0", **options)
    assert first["links"] == [str(tree)] and list(installation.links.iterdir()) == []
    assert os.readlink(tree) == f"{installation.home}/current/{inside}"
    assert (tree / "share/x").read_text() == "a"
    assert installation(packed("b"), "2.0", **options)["previous"] == "1.0"
    assert (tree / "share/x").read_text() == "b"
    assert installation(packed("a"), "1.0", **options)["changed"] and (tree / "share/x").read_text() == "a"
    assert installation(packed("a"), "1.0", **options)["changed"] is False
    assert installation(state="absent", install_root=str(tree))["changed"] and not tree.is_symlink()


def test_a_directory_is_not_replaced_by_the_link_to_a_tree(installation: Installation, tmp_path: Path) -> None:
    tree = installation.directory / "opt" / "demo"
    tree.mkdir(parents=True)
    inside = str(tree)[1:]
    archive = pack(tmp_path / "archives/a.tar.gz", member(f"./{inside}/bin/demo"))
    refused = installation(archive, install_root=str(tree), bin_dir=f"{inside}/bin")
    assert f"{tree} is a directory: move it away" in refused["msg"] and not installation.home.exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zst"])
def test_compressions(installation: Installation, tmp_path: Path, mode: str) -> None:
    archive = release(tmp_path, "a", mode="w" if mode == "zst" else mode)
    if mode == "zst":
        subprocess.run(["zstd", "-q", "--rm", str(archive)], check=True)
        archive = archive.with_suffix(".tar.zst")
    assert installation(archive)["failed"] is False
    subprocess.run([str(installation.links / "demo")], check=True)


def test_zstd_without_a_decompressor(installation: Installation, tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("Python reads zstd itself")
    archive = release(tmp_path, "a", mode="w")
    subprocess.run(["zstd", "-q", "--rm", str(archive)], check=True)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPATH=/nothing exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    answer = installation(archive.with_suffix(".tar.zst"), python=str(python))
    assert answer["failed"]
    assert "install the package zstd" in answer["msg"]


def test_a_single_executable(installation: Installation, tmp_path: Path) -> None:
    program = tmp_path / "archives" / "demo.amd64"
    program.write_bytes(PROGRAM)
    answer = installation(program)
    assert answer["links"] == [str(installation.links / "demo")]
    subprocess.run([str(installation.links / "demo")], check=True)
    program.write_bytes(OTHER_MACHINE)
    refused = installation(program)
    assert refused["failed"] and "bin/demo is built for ppc64le, but architecture is" in refused["msg"]


def test_bin_dir(installation: Installation, tmp_path: Path) -> None:
    archive = pack(tmp_path / "archives/k.tar", member("./opt/kata/bin/shim"), member("./opt/kata/VERSION", b"3", 0o644))
    refused = installation(archive)
    assert refused["failed"] and "no executable in bin" in refused["msg"]
    assert installation(archive, bin_dir="opt/kata/bin")["links"] == [str(installation.links / "shim")]


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


def test_download(installation: Installation, tmp_path: Path, server: str) -> None:
    archive = release(tmp_path, "a")
    assert installation(archive, src=f"{server}/a.tar", check=True)["changed"]
    assert Server.requests == []
    assert installation(archive, src=f"{server}/a.tar")["failed"] is False
    assert installation(archive, src=f"{server}/a.tar")["changed"] is False
    assert Server.requests == ["/a.tar"]
    subprocess.run([str(installation.links / "demo")], check=True)


def test_a_failed_download_leaves_nothing(installation: Installation, tmp_path: Path, server: str) -> None:
    archive = release(tmp_path, "a")
    before = installation.tree()
    missing = installation(archive, src=f"{server}/missing")
    assert missing["failed"] and "cannot download" in missing["msg"] and "404" in missing["msg"]
    cut = installation(archive, src=f"{server}/cut")
    assert cut["failed"] and f"{server}/cut" in cut["msg"]
    nobody = installation(archive, src="http://127.0.0.1:1/a.tar")
    assert nobody["failed"] and "refused" in nobody["msg"]
    assert installation.tree() == before


def test_a_file_url(installation: Installation, tmp_path: Path) -> None:
    archive = release(tmp_path, "with space")
    assert installation(archive, src=f"file://{str(archive).replace(' ', '%20')}")["failed"] is False
