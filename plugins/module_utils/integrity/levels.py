# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How closely images are compared with their layers."""

from __future__ import annotations

# The way in which the previous boot ended decides how images are compared with their layers.
AUTO = "auto"


# How closely images that are there are compared with their layers.
INTEGRITY_NONE = "none"
LEVELS = (INTEGRITY_NONE, "metadata", "content")


METADATA, CONTENT = "metadata", "content"
COMPARED_LEVELS = (METADATA, CONTENT)
