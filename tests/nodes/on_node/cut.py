# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing more is written to a file system: cut.py MOUNT-POINT. What its journal has not written yet is lost too."""

from __future__ import annotations

import fcntl
import os
import struct
import sys

# include/uapi/linux/fs.h and fs/xfs/libxfs/xfs_fs.h
FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
