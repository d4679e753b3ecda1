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

from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import assignments

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
    ``directories_only``: the daemon writes no file there.
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


def directives(text: str) -> list[tuple[str, str]]:
    """Return the assignments of the section [Service] of a unit's file, in order."""
    return [(one.key, one.value) for one in assignments(text) if one.section == "Service"]


# A daemon with fewer files can't start a container.
FEWEST_FILES = 1024
_ON = ("1", "yes", "true", "on", "y", "t")
# With each of these the daemon runs, and starts no container or reaches no registry. Measured with containerd 2.3.7.
_HARMFUL: Mapping[str, Callable[[str], bool]] = {
    "PrivateDevices": lambda value: value.lower() in _ON,
    "PrivateNetwork": lambda value: value.lower() in _ON,
    "PrivateUsers": lambda value: value.lower() in _ON,
    "ProtectControlGroups": lambda value: value.lower() in _ON,
    "RestrictNamespaces": lambda value: value.lower() in _ON,
    "CapabilityBoundingSet": lambda value: bool(value) and value.startswith("~") is ("CAP_SYS_ADMIN" in value),
    "LimitNOFILE": lambda value: value.partition(":")[0].isdigit() and int(value.partition(":")[0]) < FEWEST_FILES,
}
# The files of packages, which an administrator can't correct, and which other versions of systemd read.
_PACKAGES = ("/usr/lib/", "/lib/")
# Later lines of these add to earlier ones.
_LISTS = ("Environment", "EnvironmentFile", "ExecStartPre", "ExecStartPost")


def overridden_directives(files: Sequence[Source], own: str) -> list[str]:
    """Return which directives of the file ``own`` a later file of the unit sets to another value."""
    names = [one.path for one in files]
    if own not in names:
        return []
    ours = dict(directives(files[names.index(own)].text))
    found: dict[str, str] = {}
    for file in files[names.index(own) + 1 :]:
        for key, value in directives(file.text):
            if key in ours and key not in _LISTS:
                found.pop(key, None)
                if value != ours[key]:
                    found[key] = f"{key}={ours[key]} of {own} is overridden by {key}={value} in {file.path}"
    return list(found.values())


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


def environment_file(files: Sequence[Source], own: str, names: Iterable[str]) -> str | None:
    """Return the file of the unit, read after the file ``own``, that sets one of these variables; None if there is none."""
    paths = [one.path for one in files]
    later = files[paths.index(own) + 1 :] if own in paths else ()
    setting = re.compile(rf"(?:^|[\s\"'])(?:{'|'.join(map(re.escape, names))})=")
    for file in reversed(later):
        if any(key == "Environment" and setting.search(value) for key, value in directives(file.text)):
            return file.path
    return None


def ignored_lines(said: str, files: Iterable[str]) -> tuple[str, ...]:
    """Return what ``systemd-analyze verify`` says of lines in a unit's files, but those of packages, that systemd ignores."""
    wanted = tuple(f"{path}:" for path in files if not path.startswith(_PACKAGES))
    lines = (line.strip() for line in said.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line.startswith(wanted) and ("ignor" in line or "Unknown" in line)))
