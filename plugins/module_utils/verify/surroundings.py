# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's surroundings as they were read: disks, its unit, the kubelet, the network of pods, and registries."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import directives
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
# The files of CNI that CRI reads: github.com/containerd/go-cni, opts.go.
CNI_SUFFIXES = (".conf", ".conflist", ".json")
# containerd core/remotes/docker/config/hosts.go.
_CAPABILITIES = ("pull", "resolve", "push", "referrers")
_CGROUP_DRIVER = re.compile(r"^cgroupDriver:\s*[\"']?([a-z]+)", re.MULTILINE)

_LOG_DIR = re.compile(r"^podLogsDir:\s*[\"']?(/[^\s\"']*)", re.MULTILINE)


@dataclass(frozen=True)
class Room:
    """The file system of a directory: sizes in bytes, ``inodes`` 0 where the file system has no fixed number.

    ``free`` is for root, which may use the reserved blocks, ``available`` for others. ``runs_programs``: containers run programs
    of this very mount, so ``noexec`` matters. ``missing``: the directory isn't there, and the daemon doesn't create it.
    ``directories_only``: the daemon writes no file there. ``immutable``: the directory has the flag of ``chattr +i``.
    """

    directory: str
    size: int
    free: int
    inodes: int
    inodes_free: int
    read_only: bool = False
    available: int | None = None
    noexec: bool = False
    runs_programs: bool = False
    missing: bool = False
    directories_only: bool = False
    immutable: bool = False


@dataclass(frozen=True)
class SandboxImage:
    """The image that CRI starts pods with. ``used``: the namespace of CRI has containers."""

    name: str
    present: bool
    pinned: bool
    used: bool


@dataclass(frozen=True)
class Kubelet:
    """A kubelet that has been configured. The driver is None where its file leaves it to the kubelet."""

    cgroup_driver: str | None
    log_dir: str = "/var/log/pods"

    @classmethod
    def parse(cls, text: str) -> Kubelet:
        """Parse the file that kubeadm and the kubelet's own documentation call config.yaml."""
        found, logs = _CGROUP_DRIVER.search(text), _LOG_DIR.search(text)
        return cls(found[1] if found else None, logs[1] if logs else cls.log_dir)


@dataclass(frozen=True)
class Confinement:
    """The restrictions of the daemon's process, compared with the node's first process, and its different view of files.

    ``missing`` are capabilities. ``tasks_left`` is how many tasks its control group may still start, ``memory`` how many bytes
    that may use, ``file_size`` (bytes), ``files`` and ``processes`` are limits of its own: None for no limit. ``hidden`` are
    files that it doesn't see, or sees as others, ``moved`` directories for which the same is true, ``in_memory`` those of them
    that are in memory.
    """

    missing: tuple[str, ...] = ()
    tasks_left: int | None = None
    memory: int | None = None
    file_size: int | None = None
    files: int | None = None
    processes: int | None = None
    no_new_privileges: bool = False
    hidden: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    in_memory: tuple[str, ...] = ()


@dataclass(frozen=True)
class PodNetwork:
    """The network of pods: how many files of configuration there are, and what is wrong with those that CRI reads."""

    directory: str
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegistryFile:
    """A hosts.toml and what is wrong with it; ``exposed`` are files with secrets that every user can read."""

    path: str
    problems: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()


def cni_plugins(text: str) -> tuple[str, ...]:
    """Return the types of the plugins that a CNI configuration names. Raises ValueError if CRI can't use it."""
    tree = json.loads(text)
    if not isinstance(tree, Mapping):
        raise ValueError("it is no object")
    plugins = tree.get("plugins", [tree]) if "plugins" in tree else [tree]
    if not isinstance(plugins, list) or not plugins or not all(isinstance(one, Mapping) for one in plugins):
        raise ValueError("it has no list of plugins")
    types: list[str] = []
    for plugin in plugins:
        ipam = plugin.get("ipam")
        for table in (plugin, ipam if isinstance(ipam, Mapping) else {}):
            kind = table.get("type")
            if table is plugin and not kind:
                raise ValueError("a plugin has no type")
            if kind:
                types.append(str(kind))
    return tuple(dict.fromkeys(types))


@dataclass(frozen=True)
class RegistryHosts:
    """A hosts.toml: the files that it names, whether it has credentials, and what containerd refuses in it."""

    files: tuple[str, ...]
    keys: tuple[str, ...] = ()
    credentials: bool = False
    problems: tuple[str, ...] = field(default=())


def parse_hosts(text: str, directory: str, *, before_2: bool) -> RegistryHosts:
    """Parse a hosts.toml. Raises ValueError if it is no TOML. Paths are relative to its ``directory``.

    ``before_2``: containerd 1.x reads it, which drops files that 2.x reads.
    """
    tree = toml.parse(text)
    hosts = tree.get("host", {})
    hosts = hosts if isinstance(hosts, Mapping) else {}
    tables: list[Mapping[str, Any]] = [tree, *(table for table in hosts.values() if isinstance(table, Mapping))]
    problems = [problem for table in tables for problem in _host_problems(table)]
    # containerd 1.x sorts the hosts by their places in the text, and finds none with a bracket in its name.
    if before_2 and any("[" in name for name in hosts):
        problems.append("has a mirror with an IPv6 address, with which containerd 1.x reads nothing of the file")
    if before_2 and tree and not hosts:
        problems.append("has no table of a host, without which containerd 1.x reads nothing of the file")
    clients = [posixpath.join(directory, path) for table in tables for path in _texts(table.get("client"))]
    files = [posixpath.join(directory, path) for table in tables for path in _texts(table.get("ca"))]
    return RegistryHosts(
        files=tuple(dict.fromkeys([*files, *clients])),
        keys=tuple(dict.fromkeys(clients)),
        credentials=any(_has_credentials(table) for table in tables),
        problems=tuple(problems),
    )


def _host_problems(table: Mapping[str, Any]) -> Iterator[str]:
    for one in table.get("capabilities") or ():
        if one not in _CAPABILITIES:
            yield f"has the unknown capability {one!r}"
    for key in ("ca", "client"):
        if not isinstance(table.get(key, ""), (str, list)):
            yield f"has a {key} that is neither a path nor a list of paths"


def _has_credentials(table: Mapping[str, Any]) -> bool:
    header = table.get("header", {})
    return isinstance(header, Mapping) and any("auth" in name.lower() or "token" in name.lower() for name in header)


def _texts(value: Any) -> Iterator[str]:
    """Return the paths in a text, a list, or a list of pairs."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


# A daemon with fewer files can't start a container.
FEWEST_FILES = 1024
_ON = ("1", "yes", "true", "on", "y", "t")
_OFF = ("0", "no", "false", "off", "n", "f")
_NAMESPACES = frozenset({"cgroup", "ipc", "mnt", "net", "pid", "uts"})


def _restricts_namespaces(value: str) -> bool:
    """Return whether a value of RestrictNamespaces= denies a kind that containers have."""
    if value.lower() in ("", *_OFF):
        return False
    kinds = frozenset(value.lstrip("~").split())
    denied = _NAMESPACES & kinds if value.startswith("~") else _NAMESPACES - kinds
    return bool(denied)


# With each of these the daemon runs, and starts no container or reaches no registry. Measured with containerd 1.7.24 and 2.3.7.
_HARMFUL: Mapping[str, Callable[[str], bool]] = {
    "PrivateDevices": lambda value: value.lower() in _ON,
    "PrivateNetwork": lambda value: value.lower() in _ON,
    "PrivateUsers": lambda value: value.lower() in _ON,
    "ProtectControlGroups": lambda value: value.lower() in _ON,
    "RestrictNamespaces": _restricts_namespaces,
    "SecureBits": lambda value: "noroot" in value,
}
# Directives that give the daemon another view of files than the node's.
_VIEWS = re.compile(
    r"(Bind|BindReadOnly|Inaccessible|ReadOnly|NoExec)Paths|TemporaryFileSystem|Root(Directory|Image)|MountImages|\w+Images"
)
# The files of packages, which an administrator can't correct, and which other versions of systemd read.
_PACKAGES = ("/usr/lib/", "/lib/")


def harmful_directives(files: Sequence[Source]) -> list[str]:
    """Return the directives of the unit with which containers don't work, and their files. The last assignment counts."""
    found: dict[str, str] = {}
    for file in files:
        for key, value in directives(file.text):
            if key in _HARMFUL:
                found.pop(key, None)
                if _HARMFUL[key](value):
                    found[key] = f"{key}={value} in {file.path}"
    return list(found.values())


# The bits of capabilities(7) that containers have by default (containerd pkg/oci, defaultUnixCaps), and those that runc needs.
CAPABILITIES: Mapping[str, int] = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
    "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}


def parse_status(text: str) -> tuple[int, bool]:
    """Return the bounding set of capabilities and the flag no_new_privs from ``/proc/PID/status``."""
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(values.get("CapBnd", "0").strip(), 16), values.get("NoNewPrivs", "").strip() == "1"


def parse_limit(text: str, name: str) -> int | None:
    """Return a soft limit from ``/proc/PID/limits``, None for none."""
    found = re.search(rf"^{name}\s+(\d+|unlimited)", text, re.MULTILINE)
    return int(found[1]) if found and found[1].isdigit() else None


def parse_number(text: str | None) -> int | None:
    """Return the number in a file of a control group, None for none (``max``, or 2^63 less a page) or no file."""
    word = (text or "").strip()
    return int(word) if word.isdigit() and int(word) < 2**62 else None


def parse_groups(text: str) -> dict[str, str]:
    """Return the control group of a process by controller, from ``/proc/PID/cgroup``; that of version 2 under an empty name."""
    rows = (line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2)
    return {name: path for _number, names, path in rows for name in names.split(",")}


def directives_of(files: Iterable[Source], *keys: str) -> str:
    """Return where the unit's files set these directives, for a message; empty if none does. The last assignment counts."""
    found = {key: f"{key}={value} in {file.path}" for file in files for key, value in directives(file.text) if key in keys}
    return ", ".join(found.values())


def views_of(files: Iterable[Source], paths: Iterable[str]) -> str:
    """Return which directives of the unit hide these paths, for a message; empty if none names them or what is above them."""
    above = {path[:end] for path in paths for end, letter in enumerate(f"{path}/") if letter == "/" and end}
    found = [
        f"{key}={value} in {file.path}"
        for file in files
        for key, value in directives(file.text)
        if _VIEWS.fullmatch(key) and above.intersection(part for word in value.split() for part in word.lstrip("-+").split(":"))
    ]
    return ", ".join(found)


def ignored_lines(said: str, files: Iterable[str]) -> tuple[str, ...]:
    """Return what ``systemd-analyze verify`` says of lines in a unit's files, but those of packages, that systemd ignores."""
    wanted = tuple(f"{path}:" for path in files if not path.startswith(_PACKAGES))
    lines = (line.strip() for line in said.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line.startswith(wanted) and ("ignor" in line or "Unknown" in line)))
