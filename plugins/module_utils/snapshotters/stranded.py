# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that are unpacked only for snapshotters that no pod uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StrandedImage:
    """An image that is unpacked for no snapshotter that pods use, but for these."""

    name: str
    snapshotters: tuple[str, ...]
