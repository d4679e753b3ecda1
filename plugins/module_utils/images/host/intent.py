# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the intent record lies: in containerd's own root, so that it shares the fate of the images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes, remove_file, write_file
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull, parse, to_text


def record_path(root: str) -> str:
    """``root`` is containerd's own directory."""
    return os.path.join(root, "slipway-pulls.json")


def read_pulls(root: str) -> tuple[Pull, ...]:
    """Raise HostError if the record can't be read or understood."""
    path = record_path(root)
    content = read_bytes(path)
    try:
        return parse(content.decode() if content is not None else None)
    except ValueError as error:
        raise HostError(f"{path} can't be understood: {error}; move it away, and check the node's images") from error


def write_pulls(root: str, pulls: Sequence[Pull]) -> None:
    """On disk when it returns. No pulls: the file goes."""
    path = record_path(root)
    if pulls:
        write_file(path, to_text(pulls).encode(), 0o600)
    else:
        remove_file(path)
