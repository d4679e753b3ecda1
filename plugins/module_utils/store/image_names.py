# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of the images in a namespace."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.slipway.node.plugins.module_utils.store import reference
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName


def canonical_names(references: Mapping[str, str]) -> tuple[ImageName, ...]:
    """Return one name of each image from names with their digests, if possible one by which it can be pulled."""
    found: dict[str, ImageName] = {}
    for text, digest in sorted(references.items(), key=lambda item: (_parsed_as_written(item[0]) is None, item[0])):
        if not reference.is_staged(text):
            found.setdefault(digest, _parsed_as_written(text) or ImageName(text))
    return tuple(found.values())


def _parsed_as_written(text: str) -> ImageName | None:
    """Parse a full name; None for other texts."""
    try:
        name = reference.parse(text)
    except ValueError:
        return None
    return name if str(name) == text else None
