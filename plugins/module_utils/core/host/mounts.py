# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that directories of the node are on."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount, parse_mount_id, parse_mounts

_MOUNTS = "/proc/{}/mountinfo"


def read_table(process: str = "self") -> tuple[Mount, ...]:
    """Return the mounts that a process sees, the topmost of a path last. Raises HostError if they can't be read."""
    path = _MOUNTS.format(process)
    with naming("read", path), open(path, encoding="utf-8", errors="surrogateescape") as stream:
        text = stream.read()
    try:
        return tuple(parse_mounts(text).values())
    except ValueError as error:
        raise HostError(f"cannot read {path}: {error}") from error


def read_mounts(directories: Iterable[str]) -> tuple[dict[str, Mount], str]:
    """Return the file system of each directory, as the kernel resolves its path; and why some couldn't be read, if so."""
    troubles: list[str] = []
    found: dict[str, Mount] = {}
    table = {mount.id: mount for mount in read_table()}
    for path in directories:
        try:
            found[path] = table[_mount_id(path)]
        except (HostError, ValueError) as error:
            troubles.append(str(error))
        except KeyError:
            troubles.append(f"{path} is on a file system that {_MOUNTS.format('self')} doesn't list")
    return found, "; ".join(troubles)


def _mount_id(path: str) -> int:
    with naming("read", path):
        descriptor = os.open(path, os.O_PATH)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as stream:
                return parse_mount_id(stream.read())
        finally:
            os.close(descriptor)
