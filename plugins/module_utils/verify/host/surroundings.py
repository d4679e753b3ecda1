# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's surroundings, read without changing anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.store import reference
from ansible_collections.slipway.node.plugins.module_utils.verify.host.programs import file_problem, program_problem
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    CNI_SUFFIXES,
    KUBELET_CONFIG,
    Kubelet,
    PodNetwork,
    RegistryFile,
    Room,
    SandboxImage,
    cni_plugins,
    ignored_lines,
    parse_hosts,
)

_ANALYZE_SECONDS = 20.0
_CRI_NAMESPACE = "k8s.io"
_PINNED = "io.cri-containerd.pinned=pinned"


def read_room(
    directories: Iterable[str], pid: int | None, *, with_programs: Collection[str] = (), temporary: str = ""
) -> tuple[Room, ...]:
    """Return the room of each file system, by its first directory, as the daemon's process sees it. Raises HostError.

    Directories ``with_programs`` have programs that containers run from there. In the ``temporary`` one, which it doesn't create,
    the daemon makes directories to mount on.
    """
    found: dict[Any, Room] = {}
    for directory in directories:
        places = ([f"/proc/{pid}/root{directory}"] if pid else []) + [directory]
        place = next((place for place in places if os.path.isdir(place)), None)
        if place is not None:
            device, room = _room(directory, place, runs_programs=directory in with_programs)
            found.setdefault(device, replace(room, directories_only=directory == temporary))
        elif directory == temporary:
            found[directory] = Room(directory, 0, 0, 0, 0, missing=True)
    return tuple(found.values())


def _room(directory: str, place: str, *, runs_programs: bool) -> tuple[Any, Room]:
    """Return what tells a file system and its quota from others, and its room."""
    try:
        device = os.stat(place).st_dev
        got = os.statvfs(place)
    except OSError as error:
        raise HostError(f"cannot look at {directory}: {error.strerror}") from error
    room = Room(
        directory=directory,
        size=got.f_blocks * got.f_frsize,
        free=got.f_bfree * got.f_frsize,
        inodes=got.f_files,
        inodes_free=got.f_ffree,
        read_only=bool(got.f_flag & os.ST_RDONLY),
        available=got.f_bavail * got.f_frsize,
        noexec=bool(got.f_flag & os.ST_NOEXEC),
        runs_programs=runs_programs,
    )
    # statvfs(2) shows the project quota of a directory as its size. A mount may be read-only or noexec by itself.
    return (device, room.size, room.inodes, room.read_only, room.noexec, runs_programs and room.noexec), room


def read_kubelet() -> Kubelet | None:
    """Return the kubelet of the node, None if none has been configured. Raises HostError."""
    text = read_text(KUBELET_CONFIG)
    return None if text is None else Kubelet.parse(text)


def read_unit_files(paths: Sequence[str]) -> tuple[Source, ...]:
    """Return the files of the unit in the order in which systemd reads them. Raises HostError."""
    texts = ((path, read_text(path)) for path in paths)
    return tuple(Source(path, text) for path, text in texts if text is not None)


def read_ignored_directives(runner: Runner, unit: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Return what systemd says of lines of the unit's files that it ignores; nothing on a node without systemd-analyze."""
    program = runner.find("systemd-analyze")
    if program is None:
        return ()
    done = runner.try_run(program, "verify", "--man=no", unit, timeout=_ANALYZE_SECONDS)
    return ignored_lines(done.stderr + done.stdout, paths)


def read_sandbox(ctr: Ctr, name: str) -> SandboxImage:
    """Ask the daemon for the image that CRI starts pods with. Raises HostError."""
    try:
        parsed = reference.parse(name)
        # CRI drops the tag of a name that has a digest as well.
        wanted = parsed.blob(parsed.digest) if parsed.digest else str(parsed)
    except ValueError:
        wanted = name
    listed = ctr.in_namespace(_CRI_NAMESPACE, "images", "ls", f"name=={wanted}", doing="ask containerd for the sandbox image")
    rows = [line for line in listed.splitlines()[1:] if line.split()[:1] == [wanted]]
    used = ctr.in_namespace(_CRI_NAMESPACE, "containers", "ls", "-q", doing="ask containerd for the containers of CRI")
    return SandboxImage(wanted, bool(rows), any(_PINNED in row for row in rows), bool(used.strip()))


def read_network(config: EffectiveConfig, architecture: str) -> PodNetwork:
    """Return the files of CNI that CRI reads, and their faults. Raises HostError if they can't be listed."""
    cni = config.cni
    try:
        names = sorted(name for name in os.listdir(cni.conf_dir) if name.endswith(CNI_SUFFIXES))
    except FileNotFoundError:
        names = []
    except OSError as error:
        return PodNetwork(cni.conf_dir, (), (f"{cni.conf_dir} can't be listed: {error.strerror}",))
    read = [os.path.join(cni.conf_dir, name) for name in names[: cni.max_files or None]]
    problems, types = [], ["loopback"] if cni.loopback and read else []
    for path in read:
        problem = file_problem(path)
        if not problem:
            try:
                types += cni_plugins(read_text(path) or "")
            except (ValueError, HostError) as error:
                problem = f"is no CNI configuration ({error})"
        if problem:
            problems.append(f"{path} {problem}")
    for kind in dict.fromkeys(types):
        places = [os.path.join(directory, kind) for directory in cni.bin_dirs]
        place = next((one for one in places if os.path.lexists(one)), None)
        problem = program_problem(place, architecture) if place else f"isn't in {', '.join(cni.bin_dirs)}"
        if problem:
            problems.append(f"the CNI plugin {kind} {problem}")
    return PodNetwork(cni.conf_dir, tuple(read), tuple(problems))


def read_registry_files(config: EffectiveConfig, version: Version) -> tuple[RegistryFile, ...]:
    """Return the hosts.toml files of all registries that CRI reads."""
    found = []
    for directory in config.hosts_dirs(version):
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append(RegistryFile(directory, (f"can't be listed ({error.strerror})",)))
            continue
        paths = (os.path.join(directory, name, "hosts.toml") for name in names)
        found += [_registry_file(path, version) for path in paths if os.path.lexists(path)]
    return tuple(found)


def _registry_file(path: str, version: Version) -> RegistryFile:
    problem = file_problem(path)
    if problem:
        return RegistryFile(path, (problem,))
    try:
        hosts = parse_hosts(read_text(path) or "", os.path.dirname(path), before_2=not version.at_least("2.0.0"))
    except (ValueError, HostError) as error:
        return RegistryFile(path, (f"can't be read ({error})",))
    missing = [f"names {file}, which {problem}" for file in hosts.files for problem in [file_problem(file)] if problem]
    secrets = [*([path] if hosts.credentials else []), *(one for one in hosts.keys if _is_private_key(one))]
    exposed = tuple(one for one in secrets if _is_readable_by_others(one))
    return RegistryFile(path, (*hosts.problems, *missing), exposed)


def _is_readable_by_others(path: str) -> bool:
    place = os.path.realpath(path)
    with naming("look at", place):
        readable = bool(os.stat(place).st_mode & stat.S_IROTH)
        while readable and place != os.path.dirname(place):
            place = os.path.dirname(place)
            readable = bool(os.stat(place).st_mode & stat.S_IXOTH)
        return readable


def _is_private_key(path: str) -> bool:
    """Return whether a file has a private key: a pair may also name a certificate, which is no secret."""
    try:
        return not file_problem(path) and "PRIVATE KEY-----" in (read_text(path) or "")
    except HostError:
        return False
