# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read-only views of snapshots, which leave nothing behind.

A view is mounted in a mount namespace of its own, which is gone at once, as is its mount point: the mount then lives as
long as the descriptor that leads to it, and so not longer than this process, however that ends. What a killed process does
leave is the daemon's record of the view, and an empty directory of the same name whose lock no process holds any more.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import EROFS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.loop_device import attached
from ansible_collections.slipway.node.plugins.module_utils.store.snapshot_mounts import SnapshotMount, parse_ctr_mounts

PREFIX = "slipway-view-"
DIRECTORY = "/run"

_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_NOATIME = 1, 2, 4, 8, 32, 1024
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_MNT_DETACH = 2
_SAFE = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
# Options that a read-only mount needs no flag for, or that are given as flags anyway.
_NO_DATA = frozenset(("ro", "rw", "bind", "rbind", "nosuid", "nodev", "noexec", "noatime", "relatime", "defaults", "loop"))
_ATTEMPTS = 3


@dataclass(frozen=True)
class View:
    """``root`` is an open descriptor of its root directory; ``overlay``: several layers are laid over each other.

    ``packed``: each of them is an image of a file system that mkfs.erofs has made of it.
    """

    root: int
    overlay: bool
    packed: bool = False


class LostSnapshotError(HostError):
    """The daemon knows a snapshot whose directory is gone: its database may be on disk before the directory's name is."""


class Views:
    """The views of one snapshotter in one namespace. Raises HostError if containerd or the kernel refuses."""

    def __init__(self, ctr: Ctr, namespace: str, snapshotter: str) -> None:
        self._ctr = ctr
        self._namespace = namespace
        self.snapshotter = snapshotter

    @contextmanager
    def open(self, chain_id: str) -> Iterator[View]:
        """Mount the snapshot of a layer, invisibly to other processes.

        Raises LostSnapshotError if it, or one that it stands on, isn't there.
        """
        with _locked_directory() as directory, ThreadPoolExecutor(1) as pool:
            key = os.path.basename(directory)
            try:
                mounts = self._make(key, directory, chain_id)
                root = mount_detached(mounts, directory)
                view = View(root, mounts[-1].kind == "overlay", packed=self.snapshotter == EROFS)
                try:
                    yield view
                finally:
                    unmounting = pool.submit(os.close, root)
                    # With many files, that takes as long as the removal. A device has to be free before it.
                    if view.packed or not view.overlay:
                        unmounting.result()
            finally:
                self._remove(key)

    def sweep(self) -> None:
        """Remove what killed processes left; what running ones need stays."""
        for key in self._keys():
            with _abandoned(os.path.join(DIRECTORY, key)) as abandoned:
                if abandoned:
                    self._remove(key)
        for name in os.listdir(DIRECTORY):
            path = os.path.join(DIRECTORY, name)
            if name.startswith(PREFIX) and os.path.isdir(path):
                with _abandoned(path) as abandoned, suppress(OSError):
                    if abandoned:
                        os.rmdir(path)

    def _make(self, key: str, directory: str, chain_id: str) -> tuple[SnapshotMount, ...]:
        for attempt in range(_ATTEMPTS):
            try:
                doing = f"create a view of the snapshot {chain_id}"
                shown = self._ask("view", "--target", directory, key, chain_id, doing=doing)
                # Without it, garbage collection removes the view; that may happen even before.
                self._ask("label", key, "containerd.io/gc.root=view", doing="keep a view from garbage collection")
                with suppress(HostError):
                    return parse_ctr_mounts(shown, directory)
                # Those of several erofs layers are templates, which containerd 2.2 and later fill when asked for the mounts. Of
                # a single layer it then prints none, because it has mounted it.
                shown = self._ask("mounts", directory, key, doing="ask for a view's mounts")
                break
            except HostError as error:
                if os.strerror(errno.ENOENT).lower() in str(error):
                    raise LostSnapshotError(str(error)) from error
                if attempt + 1 == _ATTEMPTS:
                    raise
        return parse_ctr_mounts(shown, directory)

    def _remove(self, key: str) -> None:
        try:
            self._ask("rm", key, doing=f"remove the view {key}")
        except HostError:
            if key in self._keys():
                raise

    def _keys(self) -> list[str]:
        return [key for key in self._first_column() if is_view(key)]

    def _first_column(self) -> list[str]:
        rows = self._ask("ls", doing=f"ask containerd for the snapshots of {self.snapshotter}").splitlines()[1:]
        return [words[0] for words in map(str.split, rows) if words]

    def _ask(self, *arguments: str, doing: str) -> str:
        return self._ctr.in_namespace(self._namespace, "snapshots", "--snapshotter", self.snapshotter, *arguments, doing=doing)


def mount_detached(mounts: tuple[SnapshotMount, ...], directory: str) -> int:
    """Mount a snapshot, invisibly to other processes; return a descriptor of its root. Closing that unmounts it."""
    outcome: list[int | OSError] = []

    def work() -> None:
        # A thread may have a mount namespace and a working directory of its own.
        try:
            outcome.append(_mount(mounts, directory))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, OSError):
        kind = LostSnapshotError if result.errno == errno.ENOENT else HostError
        raise kind(f"cannot mount a view of type {mounts[-1].kind}: {result.strerror}") from result
    return result


def _mount(mounts: tuple[SnapshotMount, ...], directory: str) -> int:
    call_libc("unshare", _CLONE_NEWNS)
    call_libc("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
    target = os.fsencode(directory)
    for mount in mounts:
        source, kind = os.fsencode(mount.source), mount.kind.encode()
        if kind in (b"bind", b"rbind"):
            call_libc("mount", source, target, None, _MS_BIND, None)
            call_libc("mount", None, target, None, _MS_BIND | _MS_REMOUNT | _SAFE, None)
        else:
            options = _shortened(mount.options) if mount.kind == "overlay" else mount.options
            data = ",".join(option for option in options if option not in _NO_DATA)
            with attached(mount.source) if "loop" in options else nullcontext(source) as device:
                call_libc("mount", device, target, kind, _SAFE, os.fsencode(data))
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _mounted in mounts:
            call_libc("umount2", target, _MNT_DETACH)
    except OSError:
        os.close(root)
        raise
    return root


def _shortened(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options with lower directories relative to their common parent, which becomes the working directory.

    All options have to fit in one page, and an image may have hundreds of layers.
    """
    for number, option in enumerate(options):
        key, _equals, value = option.partition("=")
        layers = value.split(":")
        if key == "lowerdir" and len(layers) > 1 and "\\" not in value:
            common = os.path.commonpath(layers)
            os.chdir(common)
            relative = ":".join(os.path.relpath(layer, common) for layer in layers)
            return (*options[:number], f"lowerdir={relative}", *options[number + 1 :])
    return options


def call_libc(function: str, *arguments: bytes | int | None) -> None:
    """Call a function of the C library that returns 0. Raises OSError if it doesn't."""
    libc = ctypes.CDLL(None, use_errno=True)
    typed = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    if getattr(libc, function)(*typed) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def _locked_directory() -> Iterator[str]:
    """Create a directory whose lock says that its view is in use."""
    directory, lock = _fresh_directory()
    try:
        yield directory
    finally:
        with suppress(OSError):
            os.rmdir(directory)
        os.close(lock)


def _fresh_directory() -> tuple[str, int]:
    try:
        while True:
            directory = tempfile.mkdtemp(prefix=PREFIX, dir=DIRECTORY)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(directory):
                return directory, lock
            os.close(lock)  # another run swept it before it was locked
    except OSError as error:
        raise HostError(f"cannot create a directory in {DIRECTORY}: {error.strerror}") from error


def is_view(key: str) -> bool:
    """Return whether a snapshot is one that is made here."""
    return key.startswith(PREFIX)


@contextmanager
def _abandoned(directory: str) -> Iterator[bool]:
    """Return whether no running process has the lock; it has none while the block runs."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except OSError:
        free = False
    try:
        yield free
    finally:
        os.close(lock)
