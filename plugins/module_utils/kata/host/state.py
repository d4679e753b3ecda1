# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's Kata handlers, read without changing anything."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
from ansible_collections.slipway.node.plugins.module_utils.kata.host.files import read_drop_ins, version_beside
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DEVICES, DeclaredHandler, KataState, declared

# Where containerd's unit finds programs, as systemd sets it.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where the Go runtime searches its file, and where an archive has it: src/runtime/pkg/katautils/config-settings.go.in.
_DEFAULT_FILES = (
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
)


def read_kata(config: EffectiveConfig, version: Version, environment: Mapping[str, str] | None) -> KataState:
    """Return the handlers of a daemon with that configuration and environment. Raises HostError for what can't be read."""
    path = (environment or {}).get("PATH") or _PATH
    named = (environment or {}).get("KATA_CONF_FILE")
    handlers = tuple(_with_files(handler, path, named) for handler in declared(config, version))
    return KataState(handlers, {device: is_device(device) for device in DEVICES})


def _with_files(handler: DeclaredHandler, path: str, named: str | None) -> DeclaredHandler:
    """Return a handler with the content of its files. ``named`` is the file of KATA_CONF_FILE."""
    read = handler.config_path or named or next((one for one in _DEFAULT_FILES if os.path.exists(one)), None)
    if read is None:
        return handler
    shim = shutil.which(handler.shim or handler.shim_name, path=path)
    # Kata resolves links before it looks for config.d.
    resolved = os.path.realpath(read)
    return replace(
        handler,
        assumed_path=read,
        main=read_bytes(resolved),
        drop_ins=read_drop_ins(os.path.dirname(resolved)),
        version=version_beside(resolved) or (version_beside(os.path.realpath(shim)) if shim else None),
    )


def is_device(path: str) -> bool:
    """Return whether there is a character device. Raises HostError if it can't be read."""
    with naming("read", path):
        try:
            return stat.S_ISCHR(os.stat(path).st_mode)
        except FileNotFoundError:
            return False
