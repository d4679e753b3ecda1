# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's UUID, which containerd writes without syncing it, and then can't read for ever.

plugins/services/introspection/local.go, getUUID: an empty file is no UUID, so that the daemon answers neither
``ctr version`` nor other clients that ask for its UUID. It creates a new one if there is no file.
"""

from __future__ import annotations

import os
import uuid

from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes, remove_file


def uuid_problem(root: str) -> str:
    """Return the problem of the UUID, empty if there is none. ``root`` is containerd's own directory."""
    content = read_bytes(_path(root))
    if content is None:
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
