# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    make_directories,
    open_null,
    read_bytes,
    remove_empty_dir,
    remove_file,
    write_file,
)


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_writes_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "config.toml"
    write_file(str(path), b"version = 2\n", 0o640)
    assert read_bytes(str(path)) == b"version = 2\n"
    assert mode(path) == 0o640
    assert mode(path.parent) == 0o755
    assert names(path.parent) == ["config.toml"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(str(tmp_path / "made" / "file"), b"x", 0o644)
    finally:
        os.umask(before)
    assert mode(tmp_path / "made") == 0o755
    assert mode(tmp_path / "made" / "file") == 0o644


def test_missing_file_is_none(tmp_path: Path) -> None:
    assert read_bytes(str(tmp_path / "missing")) is None


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.toml"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link = tmp_path / "config.toml"
    link.symlink_to(target)
    write_file(str(link), b"new", 0o644)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["config.toml", "elsewhere"]


def test_a_fifo_is_refused_by_name_rather_than_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(HostError, match=r"cannot read .*/fifo, which is a FIFO: remove or repair it by hand"):
        read_bytes(str(path))


def test_owner_is_kept_and_mode_is_set(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 5678)
    write_file(str(path), b"new", 0o600)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 5678, 0o600)


def test_attributes_are_kept_with_the_mode_as_the_mask_of_the_acl(
    tmp_path: Path, attributed: Callable[[Path], dict[str, bytes]]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    given = attributed(path)
    write_file(str(path), b"new", 0o640)
    assert path.read_text() == "new"
    assert {name: os.getxattr(path, name) for name in given} == given
    write_file(str(path), b"secret", 0o600)
    assert mode(path) == 0o600


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "in the way"
    directory.mkdir()
    with pytest.raises(HostError, match="in the way: Is a directory"):
        write_file(str(directory), b"x", 0o644)
    assert names(tmp_path) == ["in the way"]
    with pytest.raises(HostError, match="in the way"):
        write_file(str(directory / ("n" * 300)), b"x", 0o644)
    assert names(directory) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount a small file system here")
    try:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        with pytest.raises(HostError, match=r"cannot write .*/file: No space left on device"):
            write_file(str(path), b"x" * 1_000_000, 0o644)
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["file"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".slipway-hosts.toml.abc123.tmp").write_bytes(b"secret")
    (tmp_path / ".slipway-other.toml.abc123.tmp").write_bytes(b"another's")
    write_file(str(tmp_path / "hosts.toml"), b"new", 0o644)
    assert names(tmp_path) == [".slipway-other.toml.abc123.tmp", "hosts.toml"]


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostError, match=r"cannot create the directory .*/file"):
        write_file(str(tmp_path / "file" / "config.toml"), b"", 0o644)


def test_made_directories_are_listed(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    assert make_directories(str(wanted)) == [str(tmp_path / "a"), str(wanted)]
    assert make_directories(str(wanted)) == []


def test_removing(tmp_path: Path) -> None:
    path = tmp_path / "dir" / "file"
    write_file(str(path), b"", 0o644)
    assert remove_empty_dir(str(path.parent)) is False
    remove_file(str(path))
    remove_file(str(path))
    assert remove_empty_dir(str(path.parent)) is True
    assert remove_empty_dir(str(path.parent)) is True
    assert names(tmp_path) == []
    with pytest.raises(HostError, match=r"cannot remove .*: Is a directory"):
        remove_file(str(tmp_path))


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(tmp_path: Path) -> None:
    """The order of the system calls is what a power cut sees."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    program = f"from {write_file.__module__} import write_file; write_file({str(tmp_path / 'd' / 'f')!r}, b'x', 0o600)"
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=mkdir,fchmod,write,fsync,rename", "-o", str(trace)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*command, sys.executable, "-c", program], check=True, env=environment)
    lines = [line for line in trace.read_text().splitlines() if str(tmp_path) in line]
    calls = [line.split(maxsplit=1)[1] for line in lines]
    assert [call.split("(")[0] for call in calls] == ["mkdir", "fsync", "fchmod", "write", "fsync", "rename", "fsync"]
    assert calls[1].count(f"<{tmp_path}>") == 1
    assert ".slipway-f." in calls[4]
    assert calls[6].count(f"<{tmp_path / 'd'}>") == 1


def test_host_error_is_one_sentence() -> None:
    assert str(HostError("cannot read /x: Permission denied")) == "cannot read /x: Permission denied"
    error = HostError("pull failed", command=["ctr", "images", "pull", "a b"], exit_code=1, stderr="warn\nno such host\n")
    assert str(error) == "pull failed (ctr images pull 'a b' exited with 1: no such host)"


def test_a_removed_file_takes_what_killed_writes_of_it_left(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text("content")
    (tmp_path / ".slipway-one.toml.x1.tmp").write_text("a secret")
    (tmp_path / ".slipway-another.toml.x1.tmp").write_text("not ours to remove")
    remove_file(str(path))
    assert [one.name for one in tmp_path.iterdir()] == [".slipway-another.toml.x1.tmp"]


def test_a_node_without_a_null_device_gets_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing", tmp_path):
        monkeypatch.setattr(os, "devnull", str(path))
        null = open_null()
        try:
            assert (os.read(null, 10), os.write(null, b"x")) == (b"", 1)
        finally:
            os.close(null)
        assert not (tmp_path / "missing").exists()
