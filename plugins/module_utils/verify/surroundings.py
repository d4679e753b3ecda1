# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemon's surroundings as they were read: disks, its unit, the kubelet, the network of pods, and registries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import directives
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import assignments

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
NULL = "/dev/null"
# Without these controllers, runc starts no container with a limit, and no kubelet works.
CONTROLLERS = ("memory", "pids")
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
    that may use, ``file_size``, ``stack``, ``address_space`` (bytes), ``cpu_seconds``, ``files`` and ``processes`` are limits of
    its own, which containers inherit: None for no limit. ``filtered``: there are system calls that it can't use.
    ``filters_addresses``: systemd can filter its packets.
    ``no_mounts_in``, ``no_mounts_out``: it doesn't see what is mounted on the node later, and the node not what it mounts.
    ``hidden`` are files that it doesn't see, or sees as others, ``moved`` directories for which the same is true, ``in_memory``
    those of them that are in memory.
    """

    missing: tuple[str, ...] = ()
    tasks_left: int | None = None
    memory: int | None = None
    file_size: int | None = None
    files: int | None = None
    processes: int | None = None
    stack: int | None = None
    address_space: int | None = None
    cpu_seconds: int | None = None
    no_new_privileges: bool = False
    filtered: bool = False
    filters_addresses: bool = False
    no_mounts_in: bool = False
    no_mounts_out: bool = False
    hidden: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    in_memory: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelLimits:
    """What the kernel's limits leave: namespaces by kind, tasks of the node, keys of root, mounts of the daemon's namespace.

    None, and a kind that is missing, stand for no limit that could be reached soon.
    """

    namespaces: Mapping[str, int] = field(default_factory=dict)
    tasks: int | None = None
    keys: int | None = None
    mounts: int | None = None


@dataclass(frozen=True)
class PodNetwork:
    """The network of pods: how many files of configuration there are, and what is wrong with those that CRI reads."""

    directory: str
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()


# A daemon with fewer files can't start a container.
FEWEST_FILES = 1024
# Directives with which systemd filters system calls. The processes of containers inherit the filter (systemd.exec(5)).
FILTERS = (
    "LockPersonality",
    "PrivateDevices",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallFilter",
)
_ON = ("1", "yes", "true", "on", "y", "t")
_OFF = ("0", "no", "false", "off", "n", "f")
# The namespaces that containers have, by their names in /proc/PID/ns.
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
# With a higher limit it isn't worth counting those in use.
FEW_NAMESPACES = 4096


def _denies(needed: Iterable[str]) -> Callable[[Sequence[str]], bool]:
    """Return whether values of a list of systemd.exec(5) deny one of the names that containers need, as systemd merges them."""

    def denies(values: Sequence[str]) -> bool:
        denied = frozenset(needed) if values else frozenset()
        for number, value in enumerate(values):
            if value.lower() in _OFF:
                denied = frozenset()
            elif value.lower() in (*_ON, "none"):
                denied = frozenset(needed)
            elif value.startswith("~"):
                denied = (denied if number else frozenset()) | frozenset(value[1:].split()).intersection(needed)
            else:
                denied -= frozenset(value.split())
        return bool(denied)

    return denies


def _is(*wanted: str) -> Callable[[Sequence[str]], bool]:
    """Return whether the last value of a directive is one of these."""
    return lambda values: values[-1].lower() in wanted


# With each of these the daemon runs, and starts no container or reaches no registry. Measured with containerd 1.7.24 and 2.3.7.
_HARMFUL: Mapping[str, Callable[[Sequence[str]], bool]] = {
    "PrivateDevices": _is(*_ON),
    "PrivateNetwork": _is(*_ON),
    "PrivateUsers": _is(*_ON),
    "ProtectControlGroups": _is(*_ON, "strict"),
    # Pods have names of their own, and images programs with these bits.
    "ProtectHostname": _is(*_ON),
    "RestrictSUIDSGID": _is(*_ON),
    # runc talks to the kernel with netlink, and processes of containers inherit the filter.
    "RestrictAddressFamilies": _denies(("AF_UNIX", "AF_INET", "AF_NETLINK")),
    "RestrictNamespaces": _denies(NAMESPACES),
    "SecureBits": lambda values: any("noroot" in value for value in values),
}
# Addresses with which no registry is reached but one of the node itself.
_OWN_ADDRESSES = ("localhost", "link-local", "multicast")
_LISTS = ("RestrictAddressFamilies", "RestrictNamespaces", "SecureBits")
# Directives that give the daemon another view of files than the node's.
_VIEWS = re.compile(
    r"(Bind|BindReadOnly|Inaccessible|ReadOnly|NoExec)Paths|TemporaryFileSystem|Root(Directory|Image)|MountImages|\w+Images"
)
# The files of packages, which an administrator can't correct, and which other versions of systemd read.
_PACKAGES = ("/usr/lib/", "/lib/")


def denied_addresses(files: Iterable[Source]) -> str:
    """Return where the unit's files deny the daemon all addresses but those of the node, for a message; empty if they don't.

    systemd prefers what is allowed: systemd.resource-control(5).
    """
    found: dict[str, list[str]] = {"IPAddressAllow": [], "IPAddressDeny": []}
    place = ""
    for file in files:
        for key, value in directives(file.text):
            if key in found:
                found[key] = [*found[key], *value.split()] if value else []
                place = f"{key}={value} in {file.path}" if key == "IPAddressDeny" else place
    all_denied = "any" in found["IPAddressDeny"] or {"0.0.0.0/0", "::/0"}.issubset(found["IPAddressDeny"])
    beyond = [one for one in found["IPAddressAllow"] if one not in _OWN_ADDRESSES and not one.startswith(("127.", "::1"))]
    return place if all_denied and not beyond else ""


def harmful_directives(files: Sequence[Source]) -> list[str]:
    """Return the directives of the unit with which containers don't work, and their files. The last assignment counts."""
    found: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for file in files:
        for key, value in directives(file.text):
            # Without a value, systemd resets lists, and ignores a switch.
            if key in _HARMFUL and (value or key in _LISTS):
                found[key] = [*found.get(key, []), value] if value else []
                places[key] = f"{key}={value} in {file.path}"
    return [places[key] for key, values in found.items() if values and _HARMFUL[key](values)]


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


def parse_filters(text: str) -> int:
    """Return the number of filters of system calls from ``/proc/PID/status``; before Linux 5.9, 1 for any."""
    number, mode = (re.search(rf"^{name}:\s*(\d+)$", text, re.MULTILINE) for name in ("Seccomp_filters", "Seccomp"))
    return int(number[1]) if number else int(mode is not None and mode[1] == "2")


def parse_propagation(own: str, first: str) -> tuple[bool, bool]:
    """Return whether the node's later mounts reach a process, and whether its own reach the node.

    Compares the mounts at ``/`` in ``/proc/PID/mountinfo`` of the process and of the node's first one (proc(5)). A node whose
    own mounts aren't shared shares none with a process.
    """
    mine, nodes = _peers(own), _peers(first)
    group = nodes.get("shared")
    return not group or group in (mine.get("shared"), mine.get("master")), not group or group == mine.get("shared")


def _peers(mountinfo: str) -> dict[str, str]:
    """Return the peer groups of the last mount at ``/``."""
    roots = [line.partition(" - ")[0].split() for line in mountinfo.splitlines() if line.split()[4:5] == ["/"]]
    return dict(tag.split(":", 1) for tag in roots[-1][6:] if ":" in tag) if roots else {}


def parse_limit(text: str, name: str) -> int | None:
    """Return a soft limit from ``/proc/PID/limits``, None for none."""
    found = re.search(rf"^{name}\s+(\d+|unlimited)", text, re.MULTILINE)
    return int(found[1]) if found and found[1].isdigit() else None


def parse_number(text: str | None) -> int | None:
    """Return the number in a file of a control group, None for none (``max``, or 2^63 less a page) or no file."""
    word = (text or "").strip()
    return int(word) if word.isdigit() and int(word) < 2**62 else None


def parse_tasks(loadavg: str, limits: Sequence[int]) -> int | None:
    """Return how many tasks the lowest limit leaves, from the number of all tasks in ``/proc/loadavg``: proc_loadavg(5)."""
    found = re.search(r" \d+/(\d+) ", loadavg)
    return min(limits) - int(found[1]) if found and limits else None


def parse_keys(key_users: str) -> int | None:
    """Return how many keys root may still have, from ``/proc/key-users``: keyrings(7). runc makes one for each container."""
    found = re.search(r"^\s*0:\s+\d+\s+\d+/\d+\s+(\d+)/(\d+)\s", key_users, re.MULTILINE)
    return int(found[2]) - int(found[1]) if found else None


def parse_groups(text: str) -> dict[str, str]:
    """Return the control group of a process by controller, from ``/proc/PID/cgroup``; that of version 2 under an empty name."""
    rows = (line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2)
    return {name: path for _number, names, path in rows for name in names.split(",")}


def directives_of(files: Iterable[Source], *keys: str) -> str:
    """Return where the unit's files set these directives, for a message; empty if none does. The last assignment counts."""
    found = {key: f"{key}={value} in {file.path}" for file in files for key, value in directives(file.text) if key in keys}
    return ", ".join(found.values())


def switched_on(files: Iterable[Source], key: str) -> str:
    """Return where the unit's files switch this directive on, for a message; empty if they don't. The last assignment counts."""
    found = [(value, file.path) for file in files for name, value in directives(file.text) if name == key and value]
    return f"{key}={found[-1][0]} in {found[-1][1]}" if found and found[-1][0].lower() in _ON else ""


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


def has_conditions(files: Iterable[Source]) -> bool:
    """Return whether the unit's files have conditions with which systemd may not start it: systemd.unit(5)."""
    keys = (one.key for file in files for one in assignments(file.text) if one.section == "Unit")
    return any(key.startswith(("Condition", "Assert")) for key in keys)


def unpackaged(files: Iterable[str]) -> tuple[str, ...]:
    """Return the files of a unit that no package brought."""
    return tuple(path for path in files if not path.startswith(_PACKAGES))


def ignored_lines(said: str, files: Iterable[str]) -> tuple[str, ...]:
    """Return what ``systemd-analyze verify`` says of lines in a unit's files, but those of packages, that systemd ignores."""
    wanted = tuple(f"{path}:" for path in unpackaged(files))
    lines = (line.strip() for line in said.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line.startswith(wanted) and ("ignor" in line or "Unknown" in line)))
