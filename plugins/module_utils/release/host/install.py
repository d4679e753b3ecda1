# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions of a release on a node: ``PREFIX/NAME/VERSION-SHA256/``, and ``current``, which leads to one of them."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.parse import unquote, urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    make_directories,
    naming,
    read_bytes,
    remove_empty_dir,
    remove_file,
    sync_directory,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import GENERATIONS, LINK, parse_list
from ansible_collections.slipway.node.plugins.module_utils.release.host.archive import Contents, copy_hashed, remove_tree, unpack
from ansible_collections.slipway.node.plugins.module_utils.release.plan import (
    CURRENT,
    CurrentLink,
    Installed,
    InstalledReleases,
    Plan,
    Release,
    check_source,
)

MANIFEST = ".slipway-manifest.json"
STAGING_PREFIX = ".staging-"


def read_state(home: str, links: str) -> InstalledReleases:
    """Return what the node has in the release's directory and in the directory of the links."""
    names = _names(home)
    versions = (_installed(home, name) for name in sorted(names) if name != CURRENT and not name.startswith("."))
    if CURRENT in names and not os.path.islink(f"{home}/{CURRENT}"):
        raise HostError(f"{home}/{CURRENT} is not a link: move it away")
    with naming("read", f"{home}/{CURRENT}"):
        current = os.readlink(f"{home}/{CURRENT}") if CURRENT in names else None
    return InstalledReleases(
        installed=tuple(version for version in versions if version is not None),
        current=current,
        leftovers=tuple(sorted(name for name in names if name.startswith(STAGING_PREFIX))),
        links={f"{links}/{name}": _link(f"{links}/{name}") for name in _names(links)},
        kept=_kept(home),
    )


def _kept(home: str) -> frozenset[str]:
    """Return the version directories that the generations of upgrades lead to. Raises HostError for a damaged list."""
    found = set()
    for name in _names(GENERATIONS):
        path = f"{GENERATIONS}/{name}/list"
        try:
            objects = parse_list((read_bytes(path) or b"").decode())
        except ValueError as error:
            raise HostError(f"{path} can't be read: {error}; remove the directory above it to give up this generation") from error
        found |= {one.target for one in objects if one.kind == LINK and one.path == f"{home}/{CURRENT}"}
    return frozenset(found)


def _names(directory: str) -> list[str]:
    with naming("list", directory):
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []


def _link(path: str) -> CurrentLink:
    with naming("read", path):
        mode = os.lstat(path).st_mode
        return CurrentLink(os.readlink(path) if stat.S_ISLNK(mode) else None, stat.S_ISDIR(mode))


def _installed(home: str, name: str) -> Installed | None:
    """Read a version directory's manifest; None if it has none: it was not installed by us, or not to its end."""
    path = f"{home}/{name}/{MANIFEST}"
    with naming("read", path):
        try:
            installed_at = os.stat(path).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        manifest = json.loads(read_bytes(path) or b"")
        version, sizes = (
            str(manifest["version"]),
            {str(file): int(size) for file, size in manifest["executables"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = all(_is_executable(f"{home}/{name}/{file}", size) for file, size in sizes.items())
    return Installed(name, version, tuple(sizes), installed_at, whole)


def _is_executable(path: str, size: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size and bool(found.st_mode & stat.S_IXUSR)


@contextmanager
def open_source(module: AnsibleModule, src: str, release: Release, prefix: str) -> Iterator[IO[bytes]]:
    """Yield the release's archive, from the node or downloaded, once its sha256 is proven.

    A download has no name, so nothing of it can stay behind.
    """
    path = local_path(src)
    label = path or src
    with _open(path) if path else _temporary(prefix) as source:
        _check_hash(copy_hashed(source) if path else _download(module, src, source), release, label)
        yield source


def _open(path: str) -> IO[bytes]:
    with naming("open", path):
        source = open(path, "rb")  # noqa: SIM115 the caller closes it
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            source.close()
            raise HostError(f"src {path} is not a file")
        return source


def _temporary(prefix: str) -> IO[bytes]:
    directory = _existing(prefix)
    with naming("create a temporary file in", directory):
        return tempfile.TemporaryFile(dir=directory)


def local_path(src: str) -> str | None:
    """Return the path on the node that src is, None if it has to be downloaded. Raises ValueError."""
    if check_source(src) == "path":
        return src
    parts = urlsplit(src)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"src must be a file on the node as in file:///path, not {src}")
    return unquote(parts.path)


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _download(module: AnsibleModule, url: str, target: IO[bytes]) -> str:
    # To import these takes 15 ms, and most runs download nothing.
    from http.client import HTTPException  # noqa: PLC0415

    from ansible.module_utils.urls import fetch_url  # noqa: PLC0415

    response, answer = fetch_url(module, url, timeout=module.params["timeout"])
    if response is None or answer["status"] != 200:
        raise HostError(f"cannot download {url}: {answer['msg']}")
    try:
        with naming("download", url):
            checksum = copy_hashed(response, target)
            target.flush()
            return checksum
    except HTTPException as error:
        raise HostError(f"cannot download {url}: {error or type(error).__name__}") from error
    finally:
        response.close()


def _check_hash(found: str, release: Release, label: str) -> None:
    if found != release.sha256:
        raise ValueError(f"sha256 of {label} is {found}, not {release.sha256}: the file is damaged, or it is another file")


def check_room(prefix: str, contents: Contents) -> None:
    """Raise HostError if the file system has no room for the unpacked archive."""
    directory = _existing(prefix)
    with naming("read", directory):
        free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < contents.size:
        raise HostError(
            f"too little space in {directory}: {contents.size} bytes are needed, {free.f_bavail * free.f_frsize} are free"
        )


def apply_plan(plan: Plan, home: str, install: tuple[IO[bytes], Release, Contents] | None) -> None:
    """Carry out the plan; install is the source of the version to install, if it has one.

    The version directory is on disk before anything leads to it, and links go before what they lead to.
    """
    for name in plan.leftovers:
        remove_tree(f"{home}/{name}")
    if plan.install and install is not None:
        _install(home, *install)
    if plan.switch and plan.current is not None:
        _set_link(f"{home}/{CURRENT}", plan.current)
    for path in plan.links.changed:
        make_directories(os.path.dirname(path))
        _set_link(path, plan.links.wanted[path])
    for path in plan.links.stale:
        remove_file(path)
    if plan.switch and plan.current is None:
        remove_file(f"{home}/{CURRENT}")
    for name in plan.dropped:
        remove_tree(f"{home}/{name}")
    if plan.current is None:
        remove_empty_dir(home)


def _install(home: str, source: IO[bytes], release: Release, contents: Contents) -> None:
    """Unpack beside the versions, flush, write the manifest, then give the directory its name."""
    made = make_directories(home)
    final = f"{home}/{release.directory}"
    with naming("create a directory in", home):
        staging = tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=home)
    try:
        unpack(source, release, staging, f"the archive of {release.name} {release.version}")
        manifest = {"version": release.version, "sha256": release.sha256, "executables": contents.executables}
        write_file(f"{staging}/{MANIFEST}", json.dumps(manifest, indent=2).encode() + b"\n", 0o644)
        if os.path.lexists(final):
            # An interrupted or damaged installation.
            remove_tree(final)
        with naming("rename to", final):
            os.rename(staging, final)
            sync_directory(home)
    except BaseException:
        remove_tree(staging)
        for directory in reversed(made):
            remove_empty_dir(directory)
        raise


def _set_link(path: str, target: str) -> None:
    """Make or replace a link in one step, durably."""
    with naming("link", path):
        directory, name = os.path.split(path)
        temporary = f"{directory}/.slipway-{name}.{os.getpid()}.tmp"
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        try:
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        sync_directory(directory)
