# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of the daemon's unit, and those that override the collection's drop-in."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import (
    drop_in_path,
    environment_files,
    overridden_directives,
    overridden_variables,
)
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


def read_unit_files(paths: Iterable[str]) -> tuple[Source, ...]:
    """Return the files of a unit that are there, in this order. Raises HostError."""
    texts = ((path, read_text(path)) for path in paths)
    return tuple(Source(path, text) for path, text in texts if text is not None)


def read_environment_files(files: Iterable[Source]) -> tuple[Source, ...]:
    """Return the files that EnvironmentFile= of a unit's files names. Raises HostError."""
    return read_unit_files(path for pattern in environment_files(files) for path in sorted(glob.glob(pattern)))


def check_last_word(node: ContainerdHost, wanted: ConfigRequest) -> None:
    """Raise ValueError if systemd would not apply what the drop-in of the unit is to set, because of another file."""
    text = wanted.service.text() if wanted.present else None
    if text is None:
        return
    own = drop_in_path(wanted.unit)
    try:
        known = node.daemon.unit.status().files
    except HostError:
        if wanted.may_restart:
            raise
        known = ()
    # systemd may not have read its files again since one was added.
    paths = dict.fromkeys([*known, *sorted(glob.glob(os.path.join(os.path.dirname(own), "*.conf")))])
    files = read_unit_files(path for path in paths if path != own)
    overridden = overridden_directives(files, own, text)
    if overridden:
        raise ValueError(f"service_directives: {'; '.join(overridden)}, which systemd reads later: remove it there")
    variables = overridden_variables(files, own, wanted.service.environment(), read_environment_files(files))
    if variables:
        named = "; ".join(f"{name} is set by {path}" for name, path in variables.items())
        raise ValueError(f"http_proxy: {named}, which overrides {own}: remove the variables there")
