# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes in bytes as people write and read them."""

from __future__ import annotations

import re

_UNITS = "KMGTP"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*([{_UNITS}])?(?:i?B)?\Z", re.IGNORECASE)


def parse_size(option: str, text: str) -> int:
    """Parse ``10G``, ``512MiB`` or ``1073741824`` as bytes, units in powers of 1024. Raises ValueError that names the option."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError(f"{option} has to be a size such as 10G or 512M, not {text!r}")
    return int(float(found[1]) * 1024 ** (1 + _UNITS.index(found[2].upper()) if found[2] else 0))


def shown(size: float) -> str:
    """Format a size with one digit behind the point, in the largest unit that fits: ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
