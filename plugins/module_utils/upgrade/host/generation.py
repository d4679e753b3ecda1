# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The generations on a node, the journal of an upgrade, and the script that restores a generation."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import (
    TEMPORARY_PREFIX,
    make_directories,
    naming,
    read_bytes,
    remove_empty_dir,
    remove_file,
    remove_leftovers,
    sync_directory,
    write_file,
)
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import run_program
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import (
    ABSENT,
    AT_WORK,
    DATABASE,
    FILE,
    GENERATIONS,
    JOURNAL,
    LINK,
    PACKAGES,
    STATE_DIRECTORY,
    Journal,
    Kept,
    list_text,
    parse_list,
)
from ansible_collections.slipway.node.plugins.module_utils.release.host.archive import remove_tree
from ansible_collections.slipway.node.plugins.module_utils.release.plan import CURRENT
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import Manifest
from ansible_collections.slipway.node.plugins.module_utils.upgrade.restore_script import (
    RESTORE_SCRIPT,
    UNIT_NAME,
    UNIT_PATH,
    restore_unit,
)

SCRIPT = f"{STATE_DIRECTORY}/restore"
_ROOT = "/var/lib/containerd"
# A generation that is being removed.
_REMOVED = ".removed-"
# Packages are installed again, and a copy of a large database is written.
_RESTORE_SECONDS = 900.0
# Running containers write their logs meanwhile, usually to the same file system.
_SPARE_BYTES = 32 * 1024 * 1024


def directory_of(number: int) -> str:
    """Return the directory of a generation."""
    return f"{GENERATIONS}/{number}"


def numbers() -> list[int]:
    """Return the numbers of the generations on the node."""
    try:
        return sorted(int(name) for name in os.listdir(GENERATIONS) if name.isdigit())
    except FileNotFoundError:
        return []


def manifests() -> list[Manifest]:
    """Return the generations on the node. Raises HostError for one that can't be read."""
    return [read_manifest(number) for number in numbers()]


def read_manifest(number: int) -> Manifest:
    """Return the manifest of a generation. Raises HostError if it can't be read."""
    path = f"{directory_of(number)}/manifest.json"
    try:
        return Manifest.from_text(read_text(path) or "")
    except ValueError as error:
        raise HostError(f"{path} can't be read: {error}; remove the directory above it to give up this generation") from error


def check_unit(manifest: Manifest, unit: str) -> None:
    """Raise HostError if a generation is that of another daemon of the node."""
    if manifest.unit not in ("", unit):
        raise HostError(f"generation {manifest.number} is of {manifest.unit}, not of {unit}: name that one with unit")


def objects_of(number: int) -> tuple[Kept, ...]:
    """Return the objects of a generation. Raises HostError if its list can't be read."""
    path = f"{directory_of(number)}/list"
    remedy = "remove the directory above it to give up this generation"
    try:
        found = parse_list(read_text(path) or "")
    except ValueError as error:
        raise HostError(f"{path} can't be read: {error}; {remedy}") from error
    if not found:
        raise HostError(f"{path} is missing or empty: {remedy}")
    return found


def read_copy(number: int, kept: Kept) -> bytes:
    """Return the content of a file that was kept. Raises HostError if the copy is damaged."""
    path = f"{directory_of(number)}/{kept.copy}"
    content = read_bytes(path)
    if content is None or _copy_of(content) != kept.copy:
        raise HostError(f"{path} is missing or damaged: remove the directory {directory_of(number)} to give up this generation")
    return content


def _copy_of(content: bytes) -> str:
    """Return the name of the copy of a file. It contains the checksum, with which the script verifies the copy."""
    return f"files/{hashlib.sha256(content).hexdigest()}"


def remove_generation(number: int) -> None:
    """Remove a generation. A rename comes first, so a killed run leaves no incomplete one. It may be missing."""
    path, removed = directory_of(number), f"{GENERATIONS}/{_REMOVED}{number}"
    if os.path.isdir(path):
        remove_tree(removed)
        with naming("rename", path):
            os.rename(path, removed)
    for leftover in glob.glob(f"{glob.escape(GENERATIONS)}/{_REMOVED}*"):
        remove_tree(leftover)


def exists(number: int) -> bool:
    """Return whether there is such a generation, or a part of it."""
    return os.path.isdir(directory_of(number))


def in_use() -> set[int]:
    """Return the generations with a version directory of a release from which a process runs, such as a shim."""
    programs = [path for entry in os.listdir("/proc") if entry.isdigit() and (path := _program(entry))]

    def runs_from(one: Kept) -> bool:
        directory = os.path.join(os.path.dirname(one.path), one.target)
        return one.kind == LINK and os.path.basename(one.path) == CURRENT and any(p.startswith(f"{directory}/") for p in programs)

    return {number for number in numbers() if any(map(runs_from, objects_of(number)))}


def _program(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def remove_temporary(number: int) -> None:
    """Remove the temporary files and links that a killed run left beside the objects of a generation."""
    for one in objects_of(number):
        directory, name = os.path.split(one.path)
        if os.path.isdir(directory):
            with naming("list", directory):
                remove_leftovers(directory, f"{TEMPORARY_PREFIX}{name}.")


def remove_new_directories(manifest: Manifest) -> None:
    """Remove the directories that were missing when the generation was kept, unless they hold something."""
    for directory in reversed(manifest.directories):
        remove_empty_dir(directory)


def describe(path: str) -> Kept:
    """Return the object at a path. Raises HostError if it is neither a file nor a link."""
    with naming("read", path):
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return Kept(ABSENT, path)
        if stat.S_ISLNK(found.st_mode):
            return Kept(LINK, path, target=os.readlink(path))
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{path} is neither a file nor a link: move it away")
    return Kept(FILE, path, mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)


def followed(paths: Iterable[str]) -> list[str]:
    """Return the paths, and the targets of links at them: a write through a link changes its target."""
    return list(dict.fromkeys(one for path in paths for one in (os.path.realpath(path), path)))


def same(number: int) -> bool:
    """Return whether the node's files and links are those of a generation. Packages and databases aren't compared."""
    return all(_is_there(number, one) for one in objects_of(number) if one.kind in (FILE, LINK, ABSENT))


def _is_there(number: int, kept: Kept) -> bool:
    found = describe(kept.path)
    if (found.kind, found.target, found.mode, found.uid, found.gid) != (kept.kind, kept.target, kept.mode, kept.uid, kept.gid):
        return False
    return kept.kind != FILE or read_bytes(kept.path) == read_copy(number, kept)


def keep_generation(manifest: Manifest, paths: Sequence[str], *, packages: bool) -> None:
    """Keep the objects at paths. ``packages``: the generation's directory ``packages`` has archives to install again.

    Raises HostError, or ValueError for a path that the list can't hold.
    """
    directory = directory_of(manifest.number)
    _make_private(f"{directory}/files")
    objects = [Kept(PACKAGES, copy="packages")] if packages else []
    for path in dict.fromkeys(paths):
        one = describe(path)
        if one.kind == FILE:
            content = read_bytes(path) or b""
            one = replace(one, copy=_copy_of(content))
            write_file(f"{directory}/{one.copy}", content, 0o600)
        objects.append(one)
    _write_list(manifest.number, objects)
    write_file(f"{directory}/manifest.json", manifest.to_text().encode(), 0o600)


def keep_sums(number: int, paths: Iterable[str]) -> None:
    """Keep the sums of the files that the change has made, so that later edits are known. Raises HostError."""
    lines = (f"{_sum(path)}\t{path}\n" for path in dict.fromkeys(paths) if describe(path).kind != LINK)
    write_file(f"{directory_of(number)}/sums", "".join(lines).encode(), 0o600)


def edited(number: int) -> list[str]:
    """Return the files that were edited, added or removed after the change of a generation. Raises HostError."""
    lines = (read_text(f"{directory_of(number)}/sums") or "").splitlines()
    return [path for known, _tab, path in (line.partition("\t") for line in lines) if _sum(path) != known]


def _sum(path: str) -> str:
    """Return the SHA-256 of a file; another text for what is none."""
    return hashlib.sha256(read_bytes(path) or b"").hexdigest() if describe(path).kind == FILE else "none"


def package_directory(number: int) -> str:
    """Create the directory for archives of packages in a generation, and return its path."""
    path = f"{directory_of(number)}/packages"
    _make_private(path)
    return path


def keep_databases(number: int, paths: Iterable[str]) -> None:
    """Copy the databases of the daemon, which is stopped. Raises HostError."""
    directory = f"{directory_of(number)}/databases"
    _make_private(directory)
    copies = [Kept(DATABASE, path, f"databases/{index}") for index, path in enumerate(paths)]
    for one in copies:
        _copy(one.path, f"{directory_of(number)}/{one.copy}")
        _keep_snapshot_names(f"{os.path.dirname(one.path)}/snapshots", f"{directory_of(number)}/{one.copy}.snapshots")
    with naming("flush", directory):
        sync_directory(directory)
    _write_list(number, [one for one in objects_of(number) if one.kind != DATABASE] + copies)


def _keep_snapshot_names(snapshots: str, path: str) -> None:
    """Write the names of the snapshots' directories: other directories are newer than the copy of the database."""
    with naming("read", snapshots), suppress(FileNotFoundError):
        write_file(path, "".join(f"{name}\n" for name in sorted(os.listdir(snapshots))).encode(), 0o600)


def databases_used(number: int) -> bool:
    """Return whether the daemon has written a database of a generation since the journal was written."""
    with naming("read", JOURNAL):
        since = os.stat(JOURNAL).st_mtime
    paths = [one.path for one in objects_of(number) if one.kind == DATABASE]
    return any(os.path.exists(path) and os.path.getmtime(path) > since for path in paths)


def database_paths(config: EffectiveConfig) -> tuple[str, ...]:
    """Return the databases of a daemon with this configuration: that of the metadata, of each snapshotter, and others."""
    found = glob.glob(f"{glob.escape(str(config.root or _ROOT))}/io.containerd.*/*.db")
    names = [name[len(SNAPSHOTTER_PREFIX) :] for name in config.plugins if name.startswith(SNAPSHOTTER_PREFIX)]
    own = (f"{config.snapshotter_root(name)}/metadata.db" for name in names)
    return tuple(sorted({*found, *filter(os.path.isfile, own)}))


def copies_bytes(paths: Iterable[str]) -> int:
    """Return the bytes that copies of these databases need, with other writes while the daemon is stopped."""
    return _SPARE_BYTES + sum(os.path.getsize(path) for path in paths if os.path.exists(path))


def room_in(path: str) -> tuple[str, int]:
    """Return the first directory at or above the path that exists, and the free bytes there, without those reserved for root."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    with naming("read", path):
        found = os.statvfs(path)
    return path, found.f_bavail * found.f_frsize


def check_room(paths: Iterable[str]) -> None:
    """Raise HostError if a copy of these files, and other writes while the daemon is stopped, don't fit on the file system."""
    needed = copies_bytes(paths)
    place, free = room_in(STATE_DIRECTORY)
    if free < needed:
        raise HostError(f"no room in {place} for a copy of containerd's databases: {needed} bytes are needed, {free} are free")


def check_writable(paths: Iterable[str]) -> None:
    """Raise HostError if a file or a link at one of these paths can't be replaced: it couldn't be restored either."""
    for path in dict.fromkeys((*paths, UNIT_PATH, SCRIPT)):
        directory = os.path.dirname(path)
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        places = [directory] if os.path.islink(path) or not os.path.exists(path) else [directory, path]
        wrong = next((place for place in places if not os.access(place, os.W_OK)), None)
        if wrong is not None:
            raise HostError(
                f"{wrong} can't be written: make its file system writable, or remove the attribute that lsattr shows (chattr -i)"
            )


def _copy(source: str, target: str) -> None:
    with naming("copy", source):
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make_private(path: str) -> None:
    make_directories(path, 0o700)


def _write_list(number: int, objects: Iterable[Kept]) -> None:
    write_file(f"{directory_of(number)}/list", list_text(objects).encode(), 0o600)


def read_journal() -> Journal | None:
    """Return the journal of an upgrade that has begun. Raises HostError if it can't be read."""
    text = read_text(JOURNAL)
    try:
        return None if text is None else Journal.from_text(text)
    except ValueError as error:
        raise HostError(
            f"{JOURNAL} can't be read: {error}; restore the generation by hand with '{SCRIPT} NUMBER keep', one of "
            f"{', '.join(map(str, numbers())) or 'none'}, and remove the file"
        ) from error


def write_journal(journal: Journal) -> None:
    """Write the journal durably."""
    write_file(JOURNAL, journal.to_text().encode(), 0o600)


def remove_journal() -> None:
    """Remove the journal: the upgrade is over."""
    remove_file(JOURNAL)


@contextmanager
def at_work() -> Iterator[None]:
    """Keep the boot unit from restoring a generation while this run is active, and ignore signals that would end the run.

    A lost connection would end the run with the daemon stopped. Programs that the run starts ignore the signals too.
    """
    write_file(AT_WORK, f"{os.getpid()}\n".encode(), 0o600)
    handlers = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        with suppress(HostError):
            remove_file(AT_WORK)


def install_script(runner: Runner, unit: str) -> None:
    """Install the script that restores a generation, and the unit that runs it at boot after a power cut."""
    _make_private(STATE_DIRECTORY)
    # It may be the root of a file system of its own.
    os.chmod(STATE_DIRECTORY, 0o700)
    if read_text(SCRIPT) != RESTORE_SCRIPT:
        write_file(SCRIPT, RESTORE_SCRIPT.encode(), 0o700)
    text = restore_unit(unit)
    requires = f"{os.path.dirname(UNIT_PATH)}/{unit}.requires"
    if read_text(UNIT_PATH) != text or not os.path.islink(f"{requires}/{UNIT_NAME}"):
        write_file(UNIT_PATH, text.encode(), 0o644)
        runner.run("systemctl", "daemon-reload", doing="reload systemd")
        runner.run("systemctl", "enable", "--", UNIT_NAME, doing=f"enable {UNIT_NAME}")
    # systemctl doesn't flush its links, without which a boot after a power cut would not call the script.
    with naming("flush", requires):
        for directory in (requires, f"{os.path.dirname(requires)}/multi-user.target.wants", os.path.dirname(requires)):
            sync_directory(directory)


def restore(number: int | None, lock: int) -> None:
    """Run the script for the generation of the journal, or for another one without its databases.

    It holds the lock until it ends. Raises HostError with what the script couldn't restore.
    """
    arguments = [] if number is None else [str(number), "keep"]
    done = run_program([SCRIPT, *arguments], timeout=_RESTORE_SECONDS, inherit=(lock,))
    if done.code != 0:
        said = "; ".join(done.stderr.split("\n")[-4:]).strip("; ") or f"it ended with {done.code}"
        raise HostError(f"{SCRIPT} failed: {said}")
