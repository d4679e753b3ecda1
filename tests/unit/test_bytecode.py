# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled code of a payload: it belongs to the present source and to this user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode import UNUSED, BytecodeCache

UTILS = Path(__file__).parents[2] / "plugins" / "module_utils" / "core" / "host"
SOURCE = b"VALUE = 'own'\n"
# Imports a package from a ZIP file as modules do; prints its value, and how often its files were compiled.
RUN = """
import json, sys
import bytecode
compiled = []
payload, directory = sys.argv[1:]
sys.path.insert(0, payload)
import outer
sys.addaudithook(lambda event, args: compiled.append(str(args[1])) if event == "compile" else None)
bytecode.install(payload, directory)
from outer.inner import part
print(json.dumps([part.VALUE, part.__file__, sum(name.startswith(payload) for name in compiled)]))
"""

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="zipimport is another one")


def imported(tmp_path: Path, value: str) -> tuple[str, str, int]:
    payload = tmp_path / "payload.zip"
    with zipfile.ZipFile(payload, "w") as archive:
        archive.writestr("outer/__init__.py", "")
        archive.writestr("outer/inner/__init__.py", "")
        archive.writestr("outer/inner/part.py", f"VALUE = {value!r}\n")
    argv = [sys.executable, "-c", RUN, str(payload), str(tmp_path / "cache")]
    done = subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(UTILS)}, capture_output=True, text=True, check=True)
    found: tuple[str, str, int] = tuple(json.loads(done.stdout))
    assert found[1] == f"{payload}/outer/inner/part.py"
    return found


def value_of(cache: BytecodeCache, source: bytes = SOURCE) -> str:
    found: dict[str, str] = {}
    exec(cache.code(source, "part.py"), found)
    return found["VALUE"]


def kept(tmp_path: Path) -> Path:
    """The file of the only code in a cache."""
    assert value_of(BytecodeCache(str(tmp_path / "cache"))) == "own"
    (file,) = (tmp_path / "cache").iterdir()
    return file


def test_each_file_of_a_payload_is_compiled_once_at_most(tmp_path: Path) -> None:
    assert imported(tmp_path, "first")[::2] == ("first", 2)
    assert imported(tmp_path, "first")[::2] == ("first", 0)


def test_a_file_that_differs_is_compiled(tmp_path: Path) -> None:
    imported(tmp_path, "first")
    assert imported(tmp_path, "second")[::2] == ("second", 1)
    assert imported(tmp_path, "first")[::2] == ("first", 0)


def test_only_its_user_reaches_the_code(tmp_path: Path) -> None:
    file = kept(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def foreign(file: Path) -> None:
    """Give a file the code of another source, with its checksum."""
    other = file.parent.parent / "other"
    BytecodeCache(str(other)).code(b"VALUE = 'foreign'\n", "part.py")
    (code,) = other.iterdir()
    file.write_bytes(code.read_bytes())


def test_the_code_of_the_cache_is_what_runs(tmp_path: Path) -> None:
    """So that the tests below see a refusal."""
    file = kept(tmp_path)
    foreign(file)
    assert value_of(BytecodeCache(str(file.parent))) == "foreign"


def test_a_file_that_others_could_write_does_not_run(tmp_path: Path) -> None:
    file = kept(tmp_path)
    foreign(file)
    file.chmod(0o620)
    assert value_of(BytecodeCache(str(file.parent))) == "own"


def test_nothing_runs_from_a_directory_that_others_could_write(tmp_path: Path) -> None:
    file = kept(tmp_path)
    foreign(file)
    file.parent.chmod(0o770)
    assert value_of(BytecodeCache(str(file.parent))) == "own"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("given", ["file", "directory"])
def test_nothing_of_another_user_runs(tmp_path: Path, given: str) -> None:
    file = kept(tmp_path)
    foreign(file)
    os.chown(file if given == "file" else file.parent, 65534, 65534)
    assert value_of(BytecodeCache(str(file.parent))) == "own"


@pytest.mark.parametrize("given", ["file", "directory"])
def test_no_link_is_followed(tmp_path: Path, given: str) -> None:
    file = kept(tmp_path)
    foreign(file)
    path = file if given == "file" else file.parent
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert value_of(BytecodeCache(str(tmp_path / "cache"))) == "own"


@pytest.mark.parametrize("size", [0, 31, 40])
def test_code_that_was_cut_off_is_compiled(tmp_path: Path, size: int) -> None:
    file = kept(tmp_path)
    os.truncate(file, size)
    assert value_of(BytecodeCache(str(file.parent))) == "own"


def test_unused_code_is_removed_by_the_next_that_is_kept(tmp_path: Path) -> None:
    file = kept(tmp_path)
    long_ago = file.stat().st_mtime - UNUSED - 1
    os.utime(file, (long_ago, long_ago))
    assert value_of(BytecodeCache(str(file.parent)), b"VALUE = 'other'\n") == "other"
    assert not file.exists()
    assert len(list(file.parent.iterdir())) == 1


def test_without_a_directory_everything_is_compiled(tmp_path: Path) -> None:
    assert value_of(BytecodeCache(str(tmp_path / "missing" / "cache"))) == "own"
    assert not (tmp_path / "missing").exists()
