# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attach files as block devices, to read their content.

linux/loop.h and loop(4). A device that nothing has open or mounted any more is given back by the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CONTROL = "/dev/loop-control"
_LOOP_SET_FD, _LOOP_CLR_FD, _LOOP_SET_STATUS64, _LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C04, 0x4C82
_READ_ONLY, _AUTOCLEAR = 1, 4
# struct loop_info64, of which nothing but the flags is set.
_STATUS = struct.Struct("=5Q4I64s64s32s2Q")
_BLOCK_MAJOR = 7
_ATTEMPTS = 50


@contextmanager
def attached(path: str) -> Iterator[bytes]:
    """Attach a file to a read-only loop device. A mount made in the block stays when the block ends. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device, name = _attach(file)
    finally:
        os.close(file)
    try:
        yield os.fsencode(name)
    finally:
        os.close(device)


def _attach(file: int) -> tuple[int, str]:
    """Return an open descriptor of a device, and its name."""
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        # Nothing is wrong with the file.
        raise OSError(errno.ENODEV, f"there is no {_CONTROL}: load the kernel's module loop") from error
    try:
        for _attempt in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            name = f"/dev/loop{number}"
            device = _open(name, number)
            try:
                fcntl.ioctl(device, _LOOP_SET_FD, file)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
                continue  # another process has taken it
            try:
                status = _STATUS.pack(0, 0, 0, 0, 0, 0, 0, 0, _READ_ONLY | _AUTOCLEAR, b"", b"", b"", 0, 0)
                fcntl.ioctl(device, _LOOP_SET_STATUS64, status)
            except OSError:
                with suppress(OSError):
                    fcntl.ioctl(device, _LOOP_CLR_FD)
                os.close(device)
                raise
            return device, name
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _CONTROL)


def _open(name: str, number: int) -> int:
    # In a container, /dev may lack devices that the kernel has made since.
    if not os.path.exists(name):
        os.mknod(name, 0o600 | 0o060000, os.makedev(_BLOCK_MAJOR, number))
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
