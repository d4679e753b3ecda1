# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flush every file and directory under some directories with fsync, one by one: fsync_all.py DIRECTORY..."""

from __future__ import annotations

import os
import sys

for root in sys.argv[1:]:
    for directory, _, names in os.walk(root, topdown=False):
        for path in (*(os.path.join(directory, name) for name in names), directory):
            if not os.path.islink(path):
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
