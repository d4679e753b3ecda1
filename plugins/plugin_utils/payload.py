# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time that Ansible needs for the payload of a module."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Run a module in the block.

    Ansible parses each file of a payload to find its imports. A parse creates so many objects that Python looks for garbage
    among all objects of the process hundreds of times, which was half of the time for a payload of 230 files. The garbage of
    such a payload is 35 MB. Only one process of a run builds it, the others wait for it.

    The next search would take another 0.1 s for that garbage. The process ends with the task, so it keeps the garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
