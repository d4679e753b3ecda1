# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the evidence of how the previous boot ended. Nothing is changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
from ansible_collections.slipway.node.plugins.module_utils.core.shutdown import Shutdown, classify

_LAST_LINES = "40"
# Debian's initramfs checks the root file system before there is a journal.
_INITRAMFS_FSCK = "/run/initramfs/fsck.log"


def last_shutdown(runner: Runner, root: str, devices: Iterable[str]) -> Shutdown:
    """Return how the previous boot ended. ``devices``: the numbers (``8:1``) of the devices of containerd's file systems."""
    return classify(
        born=_birth_time(runner, root),
        booted=_boot_time(),
        devices=[name for device in devices if (name := _device_name(device))],
        kernel=_journal(runner, "--dmesg", "--boot=0") or "",
        fsck=(_journal(runner, "--boot=0", "--identifier=systemd-fsck") or "") + _text(_INITRAMFS_FSCK),
        before=_journal(runner, "--boot=-1", f"--lines={_LAST_LINES}"),
    )


def _journal(runner: Runner, *options: str) -> str | None:
    """Return lines of the journal, None if there is no such journal, or no journalctl."""
    path = runner.find("journalctl")
    if path is None:
        return None
    try:
        return runner.run(path, "--quiet", "--no-pager", "--output=cat", *options, doing="read the journal") or None
    except HostError:
        return None


def _birth_time(runner: Runner, path: str) -> float | None:
    """Return when a file was created, which Python doesn't return; None if unknown."""
    program = runner.find("stat")
    if program is None:
        return None
    try:
        born = float(runner.run(program, "--format=%W", path, doing=f"inspect {path}"))
    except (HostError, ValueError):
        return None
    return born or None


def _boot_time() -> float:
    with naming("read", "/proc/uptime"), open("/proc/uptime", encoding="ascii") as stream:
        return time.time() - float(stream.read().split()[0])


def _device_name(numbers: str) -> str:
    """Return the name of a device as the kernel logs it; empty for file systems without a device."""
    try:
        return os.path.basename(os.readlink(f"/sys/dev/block/{numbers}"))
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return (read_bytes(path) or b"").decode(errors="replace")
    except HostError:
        return ""
