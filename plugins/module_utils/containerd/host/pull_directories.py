# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directories on which a pull depends: the files of registries, and the image verifiers."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError


def hosts_dir(directories: Iterable[str], host: str) -> str | None:
    """Return the first of the directories that has a file for a registry, or one for all; None if none has.

    containerd internal/cri/server/images/image_pull.go: hostDirFromRoots; core/remotes/docker/config: hostPaths.
    """
    name, colon, port = host.rpartition(":")
    names = [*([f"{name}_{port}_"] if colon else []), host, "_default"]
    return next((path for path in directories if any(os.path.exists(os.path.join(path, one)) for one in names)), None)


def unread_hosts_dirs(config: EffectiveConfig, version: Version) -> tuple[str, ...]:
    """Return the directories of registries that CRI doesn't read although they are configured, or have files by default."""
    unread = config.unread_hosts_dirs(version)
    return unread if config.registry_config_path else tuple(path for path in unread if _entries(path))


def image_verifiers(config: EffectiveConfig) -> tuple[str, ...]:
    """Return the paths of the image verifiers. Raises HostError if they can't be listed.

    containerd pkg/imageverifier/bindir/bindir.go: every entry of the directory is one.
    """
    return tuple(os.path.join(config.verifier_dir, name) for name in _entries(config.verifier_dir)) if config.verifier_dir else ()


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{directory} can't be listed: {error.strerror}") from error
