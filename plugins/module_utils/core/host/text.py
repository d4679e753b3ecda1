# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text files of the node."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import read_bytes


def read_text(path: str) -> str | None:
    """Return the file as text, None if there is none. Raises HostError if it can't be read or isn't UTF-8."""
    content = read_bytes(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise HostError(f"{path} is not UTF-8 text: move it away, or repair it by hand") from error
