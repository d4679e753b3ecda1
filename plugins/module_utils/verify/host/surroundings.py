# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's surroundings, read without changing anything."""

from __future__ import annotations

import fcntl
import glob
import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import file_problem, naming
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import listener
from ansible_collections.slipway.node.plugins.module_utils.store import reference
from ansible_collections.slipway.node.plugins.module_utils.verify.cni import CNI_SUFFIXES, cni_plugins
from ansible_collections.slipway.node.plugins.module_utils.verify.host.programs import program_problem
from ansible_collections.slipway.node.plugins.module_utils.verify.registry_files import (
    RegistryFile,
    RegistryHosts,
    docker_files,
    parse_hosts,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    CAPABILITIES,
    CONTROLLERS,
    KUBELET_CONFIG,
    Confinement,
    Kubelet,
    PodNetwork,
    Room,
    SandboxImage,
    parse_filters,
    parse_groups,
    parse_limit,
    parse_number,
    parse_propagation,
    parse_status,
)

# What the kernel adds to the path of an open file that was deleted.
_DELETED = " (deleted)"
# The daemon creates these directories once: the one in which it mounts layers to unpack them (containerd cmd/containerd/command),
# that of downloads (plugins/content/local), and that of a snapshotter's files (plugins/snapshots). The second name is a file or
# directory beside it that exists once the plugin has been used.
_MOUNTS, _DOWNLOADS, _SNAPSHOTS = "tmpmounts", ("io.containerd.content.v1.content/ingest", "blobs"), ("snapshots", "metadata.db")
# Where Go searches certificates of authorities: crypto/x509, root_linux.go.
AUTHORITIES = ("/etc/ssl/certs", "/etc/pki/tls/certs")
# CRI copies the second one for pods without a dns_config, and the kubelet reads it for the others.
POD_FILES = ("/etc/hosts", "/etc/resolv.conf")
# The directories that plugins write to, below the daemon's root and state directory. The last one is that of runc.
_OWN = (
    "io.containerd.*",
    "io.containerd.*/snapshots",
    "io.containerd.*/ingest",
    "io.containerd.*/blobs/*",
    "snapshots",
    "tmpmounts",
    "runc",
)
# FS_IOC_GETFLAGS and FS_IMMUTABLE_FL of linux/fs.h.
_GET_FLAGS, _IMMUTABLE = 0x80086601, 0x10
_CGROUPS, _KERNEL_CONTROLLERS = "/sys/fs/cgroup", "/proc/cgroups"
_CRI_NAMESPACE = "k8s.io"
# The sandboxes of pods: containerd internal/cri/labels.
_PODS = 'labels."io.cri-containerd.kind"==sandbox'
# The first lines of PEM's blocks, without the kind of the key.
_CERTIFICATE, _KEY = "-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----"
_PINNED = "io.cri-containerd.pinned=pinned"


def created_at_start(root: str, snapshotters: Iterable[str], pid: int) -> list[str]:
    """Return the directories that a running daemon has created, and doesn't create again.

    They are below its root and below the directories of snapshotters in use.
    """
    plugins = [(root, *_DOWNLOADS), *((directory, *_SNAPSHOTS) for directory in snapshotters)]
    paths = [(os.path.join(directory, name), beside) for directory, name, beside in plugins]
    started = [path for path, beside in paths if os.path.exists(f"/proc/{pid}/root{os.path.join(os.path.dirname(path), beside)}")]
    return [os.path.join(root, _MOUNTS), *started]


def read_room(
    directories: Iterable[str],
    pid: int | None,
    *,
    with_programs: Collection[str] = (),
    temporary: str = "",
    needed: Collection[str] = (),
) -> tuple[Room, ...]:
    """Return the room of each file system, by its first directory, as the daemon's process sees it. Raises HostError.

    Directories ``with_programs`` have programs that containers run from there. In the ``temporary`` one, which it doesn't create,
    the daemon makes directories to mount on. Those that are ``needed`` it creates when it starts, and only then.
    """
    found: dict[Any, Room] = {}
    own = (one for given in directories for one in (given, *([] if given == temporary else _own_directories(given, pid))))
    for directory in own:
        places = ([f"/proc/{pid}/root{directory}"] if pid else []) + [directory]
        place = next((place for place in places if os.path.isdir(place)), None)
        if place is not None:
            device, room = _room(directory, place, runs_programs=directory in with_programs)
            found.setdefault(device, replace(room, directories_only=directory == temporary))
        elif directory == temporary or (pid and directory in needed):
            found[directory] = Room(directory, 0, 0, 0, 0, missing=True, directories_only=directory == temporary)
    return tuple(found.values())


def _own_directories(directory: str, pid: int | None) -> list[str]:
    """Return the directories of the daemon's plugins in its root or state directory, each of which may be mounted by itself."""
    above = f"/proc/{pid}/root" if pid else ""
    found = [one for pattern in _OWN for one in sorted(glob.glob(f"{above}{glob.escape(directory)}/{pattern}"))]
    return [one[len(above) :] for one in found]


def _is_immutable(place: str) -> bool:
    """Return whether root can't create files in a directory: ``chattr +i``, ioctl_iflags(2). Not all file systems know it."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        flags = bytearray(8)
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        return bool(int.from_bytes(flags[:4], sys.byteorder) & _IMMUTABLE)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _room(directory: str, place: str, *, runs_programs: bool) -> tuple[Any, Room]:
    """Return what tells a file system and its quota from others, and its room."""
    try:
        device = os.stat(place).st_dev
        got = os.statvfs(place)
    except OSError as error:
        raise HostError(f"cannot read {directory}: {error.strerror}") from error
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
        immutable=_is_immutable(place),
    )
    # statvfs(2) shows the project quota of a directory as its size. A mount may be read-only or noexec by itself.
    faults = (room.read_only, room.noexec, runs_programs and room.noexec, room.immutable and directory)
    return (device, room.size, room.inodes, *faults), room


def read_kubelet() -> Kubelet | None:
    """Return the kubelet of the node, None if none has been configured. Raises HostError."""
    text = read_text(KUBELET_CONFIG)
    return None if text is None else Kubelet.parse(text)


def read_confinement(
    pid: int, files: Iterable[str], directories: Iterable[str], needed: Iterable[str] = ()
) -> Confinement | None:
    """Compare the daemon's process with the node: None if it has ended.

    ``files`` and ``directories`` are those of its configuration and of its data, ``needed`` other files and directories that it
    reads, for which a unit may give it others. Raises HostError.
    """
    own, first, limits = (read_text(f"/proc/{one}") for one in (f"{pid}/status", "1/status", f"{pid}/limits"))
    if own is None or first is None or limits is None:
        return None
    (has, no_new), (could, _flag) = parse_status(own), parse_status(first)
    reached, leaves = parse_propagation(*(read_text(f"/proc/{one}/mountinfo") or "" for one in (pid, 1)))
    moved = [path for path in directories if os.path.isdir(path) and _is_elsewhere(path, pid)]
    return Confinement(
        # A node inside a container may lack some itself.
        missing=tuple(name for name, bit in CAPABILITIES.items() if could >> bit & 1 and not has >> bit & 1),
        tasks_left=min((most - now for most, now in _groups(pid, "pids", "pids.max", "pids.current")), default=None),
        memory=min((most for most, _now in _groups(pid, "memory", "memory.max", "memory.current")), default=None)
        or min((most for most, _now in _groups(pid, "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")), default=None),
        file_size=parse_limit(limits, "Max file size"),
        stack=parse_limit(limits, "Max stack size"),
        address_space=parse_limit(limits, "Max address space"),
        cpu_seconds=parse_limit(limits, "Max cpu time"),
        files=parse_limit(limits, "Max open files"),
        processes=parse_limit(limits, "Max processes"),
        no_new_privileges=no_new,
        filtered=parse_filters(own) > parse_filters(first),
        no_mounts_in=not reached,
        no_mounts_out=not leaves,
        filters_addresses=os.path.exists(f"{_CGROUPS}/cgroup.controllers"),
        hidden=(
            *(path for path in files if os.path.isfile(path) and _is_elsewhere(path, pid)),
            *(path for path in needed if _is_hidden(path, pid)),
        ),
        moved=tuple(moved),
        in_memory=tuple(path for path in moved if _is_in_memory(path, pid)),
    )


def read_listener(address: str, pid: int) -> int | None:
    """Return the process at the daemon's socket if it is of another unit; None if it isn't, or if unknown."""
    found = listener(address)
    own, other = (read_text(f"/proc/{one}/cgroup") for one in (pid, found))
    # A unit's main process may have started the daemon.
    return None if found == pid or other is None or other == own else found


def read_cgroups_problem(pid: int) -> str:
    """Return why a process can make no control groups, as runc does; empty if it can. Raises HostError."""
    mounts = (_CGROUPS, *(f"{_CGROUPS}/{name}" for name in ("memory", "devices", "cpu")))
    found = [one for one in mounts if os.path.exists(f"/proc/{pid}/root{one}/cgroup.procs")]
    if not found:
        return f"no control groups are mounted at {_CGROUPS}" if os.path.exists(f"/proc/{pid}") else ""
    with naming("read", found[0]):
        read_only = os.statvfs(f"/proc/{pid}/root{found[0]}").f_flag & os.ST_RDONLY
    return f"{found[0]} is mounted read-only" if read_only else ""


def read_missing_controllers(pid: int) -> tuple[str, ...]:
    """Return the controllers that limits of containers need, and that the kernel lacks or has disabled. Raises HostError."""
    root = f"/proc/{pid}/root{_CGROUPS}"
    # The file is that of version 2 alone, or of the part of it that a node with both has.
    texts = (read_text(f"{place}/cgroup.controllers") or "" for place in (root, f"{root}/unified"))
    # Those of version 1, which a node inside another one may not see: cgroups(7).
    rows = (line.split() for line in (read_text(_KERNEL_CONTROLLERS) or "").splitlines())
    found = {name for text in texts for name in text.split()} | {row[0] for row in rows if row[-1:] == ["1"]}
    there = os.path.isdir(root)
    return tuple(one for one in CONTROLLERS if there and one not in found and not os.path.exists(f"{root}/{one}/cgroup.procs"))


def read_lost_databases(pid: int) -> tuple[str, ...]:
    """Return the databases that a process has open, and that aren't at their paths any more. Raises HostError."""
    directory, found = f"/proc/{pid}/fd", []
    with naming("read", directory):
        descriptors = [os.path.join(directory, name) for name in os.listdir(directory)]
    for descriptor in descriptors:
        try:
            path, opened = os.readlink(descriptor).removesuffix(_DELETED), os.stat(descriptor)
        except FileNotFoundError:
            continue
        if not path.endswith(".db") or not stat.S_ISREG(opened.st_mode):
            continue
        try:
            there = os.stat(f"/proc/{pid}/root{path}")
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
            found.append(path)
    return tuple(sorted(set(found)))


def _groups(pid: int, controller: str, limit: str, usage: str) -> Iterator[tuple[int, int]]:
    """Yield a limit and its usage for the control group of a process and for those above it that are limited."""
    groups = parse_groups(read_text(f"/proc/{pid}/cgroup") or "")
    # cgroups(7): version 2 alone, or version 1 with a hierarchy for each controller.
    for mount, path in ((_CGROUPS, groups.get("")), (f"{_CGROUPS}/{controller}", groups.get(controller))):
        while path:
            most, now = (parse_number(read_text(f"{mount}{path.rstrip('/')}/{name}")) for name in (limit, usage))
            if most is not None and now is not None:
                yield most, now
            path = os.path.dirname(path) if path != "/" else ""


def _is_elsewhere(path: str, pid: int) -> bool:
    """Return whether a process sees nothing at a path of the node, or something else."""
    place = os.path.realpath(path)
    try:
        here, there = os.stat(place), os.stat(f"/proc/{pid}/root{place}")
    except FileNotFoundError:
        return os.path.exists(place) and os.path.exists(f"/proc/{pid}")
    except OSError as error:
        raise HostError(f"cannot read {path} as process {pid} sees it: {error.strerror}") from error
    return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)


def _is_hidden(path: str, pid: int) -> bool:
    """Return whether a process finds nothing at a path where the node has content."""
    place = os.path.realpath(path)
    return _has_content(place) and not _has_content(f"/proc/{pid}/root{place}") and os.path.exists(f"/proc/{pid}/root/")


def _has_content(place: str) -> bool:
    try:
        return bool(os.listdir(place)) if os.path.isdir(place) else os.stat(place).st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostError(f"cannot read {place}: {error.strerror}") from error


def _is_in_memory(path: str, pid: int) -> bool:
    place = f" {os.path.realpath(path)} "
    lines = (read_text(f"/proc/{pid}/mountinfo") or "").splitlines()
    return any(place in line and line.partition(" - ")[2].startswith(("tmpfs ", "ramfs ")) for line in lines)


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
    # Others than CRI also start containers in this namespace, and need no such image.
    used = ctr.in_namespace(_CRI_NAMESPACE, "containers", "ls", "-q", _PODS, doing="ask containerd for the pods of CRI")
    return SandboxImage(wanted, bool(rows), any(_PINNED in row for row in rows), bool(used.strip()))


def read_network(config: EffectiveConfig, architecture: str) -> PodNetwork:
    """Return the files of CNI that CRI reads, and their faults. Raises HostError if they can't be listed."""
    cni = config.cni
    try:
        names = sorted(name for name in os.listdir(cni.conf_dir) if name.endswith(CNI_SUFFIXES))
        # CNI skips directories.
        names = [name for name in names if not os.path.isdir(os.path.join(cni.conf_dir, name))]
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
                types += cni_plugins(read_text(path) or "", several=path.endswith(".conflist"), before_2=config.schema < 3)
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


def read_pod_files() -> tuple[str, ...]:
    """Return what is wrong with the node's files that CRI copies for each pod."""
    return tuple(f"{path} {problem}" for path in POD_FILES for problem in [file_problem(path)] if problem)


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
        found += [one for name in names for one in _registry_files(os.path.join(directory, name), version)]
    return tuple(found)


def _registry_files(directory: str, version: Version) -> Iterator[RegistryFile]:
    """Yield the hosts.toml of a registry, or without one the directory if it has certificates."""
    path = os.path.join(directory, "hosts.toml")
    if os.path.lexists(path):
        yield _registry_file(path, version)
    elif os.path.isdir(directory):
        hosts = docker_files(directory, sorted(os.listdir(directory)))
        if hosts.certificates:
            yield _judged(directory, hosts, ())


def _registry_file(path: str, version: Version) -> RegistryFile:
    problem = file_problem(path)
    if problem:
        return RegistryFile(path, (problem,))
    try:
        hosts = parse_hosts(read_text(path) or "", os.path.dirname(path), before_2=not version.at_least("2.0.0"))
    except (ValueError, HostError) as error:
        return RegistryFile(path, (f"can't be read ({error})",))
    return _judged(path, hosts, (path,) if hosts.credentials else ())


def _judged(path: str, hosts: RegistryHosts, secrets: tuple[str, ...]) -> RegistryFile:
    files = dict.fromkeys((*hosts.certificates, *hosts.keys))
    problems = {file: file_problem(file) for file in files}
    for found, mark, what in ((hosts.keys, _KEY, "private key"), (hosts.certificates, _CERTIFICATE, "certificate")):
        for file in found:
            if not problems[file] and not _contains(file, mark):
                problems[file] = f"has no {what} in PEM format"
    faults = tuple(f"names {file}, which {problem}" for file, problem in problems.items() if problem)
    if files and not faults:
        faults = tuple(_unusable(hosts))
    secrets += tuple(one for one in files if not file_problem(one) and _contains(one, _KEY))
    return RegistryFile(path, (*hosts.problems, *faults), tuple(one for one in secrets if _is_readable_by_others(one)))


def _unusable(hosts: RegistryHosts) -> Iterator[str]:
    """Yield the files in PEM format that a client of TLS can't use: OpenSSL refuses the same ones as Go."""
    import ssl  # noqa: PLC0415 - only registries with files of their own need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        # Go takes short keys, too.
        context.set_ciphers("ALL:@SECLEVEL=0")
    for file in hosts.authorities:
        try:
            context.load_verify_locations(file)
        except (OSError, ValueError):
            yield f"names {file}, which has no certificate that can be read"
    for certificate, key in hosts.pairs:
        try:
            # Without an answer, OpenSSL would ask at a terminal for the password of a key.
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ValueError):
            yield f"names {certificate}, which is no pair with {key}: it is another one's, damaged, or encrypted"


def _is_readable_by_others(path: str) -> bool:
    place = os.path.realpath(path)
    with naming("read", place):
        readable = bool(os.stat(place).st_mode & stat.S_IROTH)
        while readable and place != os.path.dirname(place):
            place = os.path.dirname(place)
            readable = bool(os.stat(place).st_mode & stat.S_IXOTH)
        return readable


def _contains(path: str, mark: str) -> bool:
    """Return whether a file has a mark of PEM: a client's pair may also name a certificate first, which is no secret."""
    try:
        return mark in (read_text(path) or "")
    except HostError:
        return False
