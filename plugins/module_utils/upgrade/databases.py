# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which version of containerd opens whose databases."""

from __future__ import annotations


def opens(old_version: str, new_version: str) -> bool:
    """Return whether the old version opens what the new one has written."""
    return True
