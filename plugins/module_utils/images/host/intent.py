# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of pulls, in containerd's own root, so that it is lost only with the images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes, remove_file, write_file
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, parse, to_text

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """Return the kernel's name of this boot, which the record keeps."""
    with naming("read", _BOOT_ID), open(_BOOT_ID, encoding="ascii") as stream:
        return stream.read().strip()


def record_path(root: str) -> str:
    """Return the path of the record; ``root`` is containerd's own directory."""
    return os.path.join(root, "slipway-pulls.json")


def read_pulls(root: str) -> tuple[Pull, ...]:
    """Return the recorded pulls. Raises HostError if the record can't be read or understood."""
    path = record_path(root)
    content = read_bytes(path)
    try:
        return parse(content.decode() if content is not None else None)
    except ValueError as error:
        raise HostError(f"{path} can't be understood: {error}; move it away, and check the node's images") from error


def write_pulls(root: str, pulls: Sequence[Pull]) -> None:
    """Write the record durably; without pulls, remove it."""
    path = record_path(root)
    if pulls:
        write_file(path, to_text(pulls).encode(), 0o600)
    else:
        remove_file(path)
