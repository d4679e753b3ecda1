# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's UUID, which containerd writes without syncing it, so that a power cut may damage it.

plugins/services/introspection/local.go, getUUID: the daemon creates a new UUID if there is no file, and if the file is empty
since containerd#10503. With anything else that is no UUID, it answers neither ``ctr version`` nor other clients that ask for it.
"""

from __future__ import annotations

import os
import uuid

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes, remove_file

# The first releases that replace an empty file.
_REPLACES_EMPTY = ("1.6.35", "1.7.21", "2.0.0")


def uuid_problem(root: str, version: Version | None) -> str:
    """Return the problem of the UUID for this version, empty if there is none. ``root`` is containerd's own directory."""
    content = read_bytes(_path(root))
    if content is None or (not content and version is not None and version.at_least(*_REPLACES_EMPTY)):
        return ""
    try:
        uuid.UUID(content.decode("ascii"))
    except ValueError:
        size = "is empty" if not content else "holds something else"
        return f"{_path(root)} {size}, so that the daemon doesn't answer ctr version: invalid UUID"
    return ""


def recreate_uuid(root: str) -> None:
    """Remove the damaged file: the daemon creates another UUID when it is asked next."""
    remove_file(_path(root))


def _path(root: str) -> str:
    return os.path.join(root, "io.containerd.grpc.v1.introspection", "uuid")
