# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a configuration change, beside the root file."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


def record_path(config_file: str) -> str:
    """Return the path of the record beside the file. Its name ends so that no glob of imports matches it."""
    return f"{config_file}.slipway.json"


def read_record(config_file: str) -> Record:
    """Return the record beside the file. Raises HostError if it can't be understood."""
    path = record_path(config_file)
    try:
        return Record.from_text(read_text(path))
    except ValueError as error:
        raise HostError(f"{path} can't be read: {error}; move it away to start without it") from error
