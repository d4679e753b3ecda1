# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that the tests use themselves: of upstream's releases, whose archives tests/upstream has, and of Debian's packages."""

from __future__ import annotations

import fcntl
import os
import tarfile
import tempfile
from pathlib import Path

from nodes.node import CHECKOUT, WORK, run

_MIRROR = os.environ.get("NODE_MIRROR") or "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked(program: str, version: str) -> Path:
    """The directory with the files of a release's archive, below the checkout's work directory."""
    directory = WORK / "upstream" / f"{program}-{version}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            archive = run([str(CHECKOUT / "tests/upstream"), program, version]).stdout.strip()
            new = directory.with_name(f"{directory.name}.new")
            with tarfile.open(archive) as packed:
                packed.extractall(new, filter="data")
            new.rename(directory)
    return directory


def unpacked_package(package: str, suite: str) -> Path:
    """The directory with the files of a package of one of Debian's suites, below the checkout's work directory."""
    directory = WORK / "packages" / f"{package}-{suite}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
                archive = _downloaded(package, suite, Path(scratch))
                new = directory.with_name(f"{directory.name}.new")
                run(["dpkg", "-x", str(archive), str(new)])
                new.rename(directory)
    return directory


def _downloaded(package: str, suite: str, scratch: Path) -> Path:
    """Download a package with lists of apt's own, so that the machine's aren't touched."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (scratch / name).mkdir(parents=True)
    (scratch / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {suite} main\n")
    (scratch / "status").touch()
    options = {
        "Dir::Etc::SourceList": scratch / "sources.list",
        "Dir::Etc::SourceParts": scratch / "parts",
        "Dir::State::Lists": scratch / "lists",
        "Dir::State::Status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run([*apt, "update"])
    run(["env", "-C", str(scratch), *apt, "download", package])
    [archive] = scratch.glob("*.deb")
    return archive
