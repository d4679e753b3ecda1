# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.verify.host import kernel
from ansible_collections.slipway.node.plugins.module_utils.verify.host.kernel import read_kernel_limits, read_null_problem


def test_the_null_device_of_a_process_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_null_problem(os.getpid()) == ""
    (tmp_path / "file").touch()
    for name, words in (
        ("missing", "isn't there"),
        ("file", "is not the kernel's null device"),
        (".", "is not the kernel's null device"),
        ("file/below", "can't be opened (Not a directory)"),
    ):
        monkeypatch.setattr(kernel, "NULL", f"{tmp_path}/{name}")
        assert read_null_problem(os.getpid()) == f"{tmp_path}/{name} {words}"
    monkeypatch.setattr(kernel, "NULL", "/dev/zero")
    assert read_null_problem(os.getpid()) == "/dev/zero is not the kernel's null device"


def test_a_process_that_has_ended_has_no_problem_with_its_null_device() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_null_problem(pid) == ""


def test_what_the_limits_of_the_kernel_leave_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/sys/kernel/pid_max": "400",
        "/proc/sys/kernel/threads-max": "192729",
        "/proc/sys/fs/mount-max": "100",
        "/proc/sys/user/max_mnt_namespaces": "0",
        "/proc/sys/user/max_net_namespaces": "96364",
        "/proc/loadavg": "2.79 2.03 2.67 2/152 21654",
        "/proc/key-users": "    0:    29 28/28 23/200 531/25000000",
        "/proc/7/mountinfo": "21 1 8:1 / /\n22 21 0:5 / /proc\n",
    }
    monkeypatch.setattr(kernel, "read_text", files.get)
    found = read_kernel_limits(7)
    assert (found.tasks, found.keys, found.mounts, list(found.namespaces)) == (248, 177, 98, ["mnt"])
    assert found.namespaces["mnt"] < 0


def test_limits_that_a_kernel_does_not_show_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "read_text", dict[str, str]().get)
    found = read_kernel_limits(7)
    assert (found.tasks, found.keys, found.mounts, found.namespaces) == (None, None, None, {})
