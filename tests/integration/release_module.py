# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for release_install on this machine, and archives for it."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from integration.local_module import LocalModule

PROGRAM = Path("/bin/true").read_bytes()


class Installation:
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
        options = {"remote_src": True, **options}
        return self.run_module(name="demo", prefix=str(self.prefix), link_dir=str(self.links), **options)

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
    return LocalModule("release_install", tmp_path_factory.mktemp("collections"))


@pytest.fixture
def installation(run: LocalModule, tmp_path: Path) -> Installation:
    (tmp_path / "archives").mkdir()
    (tmp_path / "installation").mkdir()
    return Installation(tmp_path / "installation", run)


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
