# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a mount of the node shows a snapshot."""

from __future__ import annotations

import os

from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source, option


def shows(mount: Mount, source: Source) -> bool:
    """Return whether a mount is of this source. A bind of a directory in another mount namespace isn't recognised."""
    if source.kind == "overlay":
        return mount.type == "overlay" and option(mount.options, "upperdir") == source.upper
    if source.binds:
        # Other directories aren't read: a file system that hangs must not be touched.
        return mount.root.rsplit("/", 2)[-2:] == source.what.rsplit("/", 2)[-2:] and _same(mount.path, source.what)
    return mount.source == source.what or _same_device(mount, source.what)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _same_device(mount: Mount, what: str) -> bool:
    """Return whether a mount is of ``what``, a device or the file behind a loop device."""
    try:
        found = os.stat(what)
    except OSError:
        return False
    if f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" == mount.device:
        return True
    backing = f"/sys/dev/block/{mount.device}/loop/backing_file"
    try:
        with open(backing, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().rstrip("\n") == what
    except OSError:
        return False
