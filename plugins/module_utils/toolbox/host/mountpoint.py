# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a mount point: the mount on a path, its snapshot, and the processes that use it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.core.host.mounts import read_table
from ansible_collections.slipway.node.plugins.module_utils.core.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as words
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.shown import shows
from ansible_collections.slipway.node.plugins.module_utils.toolbox.mount_unit import Source, option

# What the kernel writes behind the name of a directory that is gone.
_DELETED = "//deleted"


@dataclass(frozen=True)
class Mountpoint:
    """``mount`` is one of the words of toolbox/plan.py; ``described`` says what is mounted, ``top`` is that mount."""

    mount: str
    described: str = ""
    elsewhere: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    top: Mount | None = None


def read_mountpoint(path: str, source: Source | None, root: str) -> Mountpoint:
    """Read a mount point. ``source``: the snapshot's mount, None if there is none; ``root``: the snapshotter's directory."""
    table = read_table()
    inside = tuple(one.path for one in table if one.path.startswith(f"{path}/"))
    here = [one for one in table if one.path == path]
    elsewhere = tuple(one.path for one in table if one.path != path and source is not None and shows(one, source))
    if not here:
        return Mountpoint(words.NOTHING, elsewhere=elsewhere, inside=inside)
    top = here[-1]
    return Mountpoint(_kind(top, source, root), _described(top), elsewhere, inside, top)


def _kind(mount: Mount, source: Source | None, root: str) -> str:
    if source is not None and shows(mount, source):
        return words.OURS
    return words.STALE if _is_stale(mount, root) else words.OTHER


def _is_stale(mount: Mount, root: str) -> bool:
    """Return whether it is of a snapshot that is gone, so that nothing can be kept in it any more."""
    upper = option(mount.options, "upperdir")
    if mount.type == "overlay":
        return upper.startswith(f"{root}/") and not os.path.lexists(upper)
    return mount.root.endswith(_DELETED)


def _described(mount: Mount) -> str:
    upper = option(mount.options, "upperdir")
    return f"{mount.type} {mount.source}" + (f" with upperdir {upper}" if upper else "")


def kind_of(path: str) -> str:
    """Return the kind of a path without a mount, in the words of toolbox/plan.py."""
    with naming("read", path):
        if os.path.islink(path):
            return words.NO_DIRECTORY
        try:
            return words.FULL if os.listdir(path) else words.EMPTY
        except FileNotFoundError:
            return words.MISSING
        except NotADirectoryError:
            return words.NO_DIRECTORY


def only_root_can_write(path: str) -> bool:
    """Return whether only root can write in a directory."""
    with naming("read", path):
        return _only_root_can_write(os.stat(path))


def _only_root_can_write(found: os.stat_result) -> bool:
    return found.st_uid == 0 and not found.st_mode & 0o022


def chown_root(path: str) -> None:
    """Make root the only writer of a directory, durably: Flatcar's toolbox gives it to its user."""
    with naming("change the owner of the directory", path):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if not _only_root_can_write(os.fstat(directory)):
                os.fchown(directory, 0, 0)
                os.fchmod(directory, 0o755)
                os.fsync(directory)
        finally:
            os.close(directory)


def check_safe(path: str) -> None:
    """Raise ValueError unless only root can put anything in the path's place, and its name is what the kernel calls it."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        if os.path.lexists(parent):
            raise ValueError(f"path can't be {path}: {parent} is not a directory")
        parent = os.path.dirname(parent)
    if os.path.realpath(parent) != parent:
        raise ValueError(f"path leads through a symbolic link: {parent} is {os.path.realpath(parent)}, so name that")
    above = [parent]
    while above[-1] != "/":
        above.append(os.path.dirname(above[-1]))
    for directory in above:
        found = os.stat(directory)
        if found.st_uid != 0:
            raise ValueError(
                f"path can't be {path}: {directory} belongs to the user {found.st_uid}, so give it to root, or use another path"
            )
        if found.st_mode & 0o022:
            raise ValueError(
                f"path can't be {path}: users other than root can write to {directory}, so change its mode or use another path"
            )


class ProcessFinder:
    """Looks for processes in a toolbox, in all mount namespaces."""

    def __init__(self, path: str, source: Source | None, mount: Mount | None) -> None:
        self._path = path
        self._source = source
        # Overlays and block devices have a device number of their own; directories of others share theirs.
        whole = mount is not None and mount.root == "/"
        self._device = _device(mount.device) if mount is not None and whole else None
        self._roots = set(_identities([path] if mount is not None else []))
        if source is not None and source.binds:
            self._roots.update(_identities([source.what]))
        self._own = _link("self", "ns/mnt")
        self._devices: dict[str, frozenset[int]] = {}

    def find(self) -> tuple[str, ...]:
        """Return the processes that use it, as ``pid 123 (bash)``."""
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        return tuple(f"pid {pid} ({_name(pid)})" for pid in pids if pid != os.getpid() and self._has(str(pid)))

    def _has(self, pid: str) -> bool:
        space = _link(pid, "ns/mnt")
        devices = self._in_namespace(pid, space)
        for link in ("root", "cwd"):
            try:
                found = os.stat(f"/proc/{pid}/{link}")
            except OSError:
                continue
            if found.st_dev in devices or (found.st_dev, found.st_ino) in self._roots:
                return True
        # Paths of other mount namespaces mean something else.
        return space == self._own and any(self._is_below(_link(pid, link)) for link in _files(pid))

    def _is_below(self, path: str) -> bool:
        return path == self._path or path.startswith(f"{self._path}/")

    def _in_namespace(self, pid: str, space: str) -> frozenset[int]:
        if space not in self._devices:
            found = {self._device} if self._device is not None else set()
            if self._source is not None and not self._source.binds:
                found.update(_device(one.device) for one in _table_of(pid) if shows(one, self._source))
            self._devices[space] = frozenset(found)
        return self._devices[space]


def _table_of(pid: str) -> tuple[Mount, ...]:
    try:
        return read_table(pid)
    except HostError:
        return ()


def _identities(paths: Iterable[str]) -> Iterable[tuple[int, int]]:
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


def _device(numbers: str) -> int:
    major, _colon, minor = numbers.partition(":")
    return os.makedev(int(major), int(minor))


def _link(pid: str, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _files(pid: str) -> list[str]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        descriptors = []
    return ["cwd", "root", "exe", *(f"fd/{number}" for number in descriptors)]


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return "gone"
