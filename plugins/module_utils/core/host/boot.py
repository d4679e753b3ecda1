# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The current boot of the node."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """Return the kernel's name of this boot."""
    with naming("read", _BOOT_ID), open(_BOOT_ID, encoding="ascii") as stream:
        return stream.read().strip()
