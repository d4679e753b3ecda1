# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the daemon's surroundings: disks, the limits of its unit, its plugins and its messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path, overridden_directives
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    REPAIR,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings import (
    FILTERS,
    Confinement,
    Room,
    denied_addresses,
    directives_of,
    harmful_directives,
    switched_on,
    views_of,
)

# A file system with less room counts as full: a container needs a few files and some megabytes to start.
FULL_BYTES = 16 * 1024 * 1024
FULL_INODES = 100
# Percent of free space or inodes below which a file system will soon be full.
LOW_PERCENT = 5
# A daemon with fewer files can't serve a few containers.
FEWEST_FILES = 1024
# A shim has about a dozen threads, and runc as many while a container starts.
FEWEST_TASKS = 32
# Blobs of layers are larger.
LEAST_FILE_BYTES = 1024**3
# runc crashes with 16 KiB, and works with 64 KiB.
LEAST_STACK_BYTES = 64 * 1024
# The daemon alone takes about 50 MB. With 40 MB it is killed while it imports an image.
LEAST_MEMORY_BYTES = 64 * 1024 * 1024
# The processes of containers that don't run as root count by user, on the whole node.
FEWEST_PROCESSES = 1024
# The largest messages that ctr sends, a megabyte of an image and its name, and those of the transfer service's streams.
# Measured with containerd 1.7.24 and 2.3.7.
LOCAL_MESSAGE_BYTES = 1024 * 1024 + 512
STREAM_MESSAGE_BYTES = 65536
# Without each of these CRI or ctr starts no container, or pulls no image. Measured with containerd 1.7.24 and 2.3.7.
_REQUIRED = (
    "containers-service",
    "content-service",
    "diff-service",
    "images-service",
    "namespaces-service",
    "snapshots-service",
    "tasks-service",
)
REQUIRED_PLUGINS = (
    *(f"io.containerd.service.v1.{name}" for name in _REQUIRED),
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.gc.v1.scheduler",
    "io.containerd.event.v1.exchange",
    "io.containerd.runtime.v2.task",
    "io.containerd.runtime.v2.shim",
    "io.containerd.shim.v1.manager",
    "io.containerd.differ.v1.walking",
)
# Plugins for clients such as ctr and this collection. CRI doesn't need them, so they may be disabled on purpose.
REQUIRED_BY_CLIENTS = (
    *(f"io.containerd.grpc.v1.{name.partition('-')[0]}" for name in _REQUIRED),
    "io.containerd.grpc.v1.leases",
)
REQUIRED_BY_CRI = (
    "io.containerd.sandbox.store.v1.local",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
)
# The plugins of CRI. A failure of an earlier one is the cause of failures of later ones.
CRI_PLUGINS = ("io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri")
# CRI of 1.x doesn't use it.
TRANSFER = "io.containerd.transfer.v1.local"


@dataclass(frozen=True)
class _Limit:
    """A limit in ``Confinement`` by its field's name, the least value that is enough, and the directives that set it."""

    name: str
    least: float
    sentence: str
    directives: tuple[str, ...]


# With lower limits no container works.
_NEEDED = (
    _Limit("tasks_left", FEWEST_TASKS, "{} tasks left for the daemon and its shims", ("TasksMax",)),
    _Limit("cpu_seconds", inf, "at most {} seconds of CPU time for each process, also in containers", ("LimitCPU",)),
    _Limit("stack", LEAST_STACK_BYTES, "a stack of at most {} bytes for each process", ("LimitSTACK",)),
    _Limit("file_size", LEAST_FILE_BYTES, "files of at most {} bytes", ("LimitFSIZE",)),
    _Limit(
        "memory",
        LEAST_MEMORY_BYTES,
        "at most {} bytes of memory for the daemon and its shims",
        ("MemoryMax", "MemoryHigh", "MemoryLimit"),
    ),
    _Limit("files", FEWEST_FILES, "at most {} open files", ("LimitNOFILE",)),
)
# With lower limits some programs in containers don't work.
_WANTED = (
    _Limit("address_space", inf, "each process, also in containers, can address at most {} bytes", ("LimitAS",)),
    _Limit("processes", FEWEST_PROCESSES, "each user other than root can have {} processes in all containers", ("LimitNPROC",)),
)


@check
def storage_space(state: NodeState, expectation: Expectation) -> Finding:
    """The file systems of the daemon's directories can be written to, and have room and inodes."""
    expected = f"writable, with more than {LOW_PERCENT} % of space and inodes free"
    if state.room is None:
        return unread(expected, state, "config", "room", "version")
    full = {fault: remedy for room in state.room for fault, remedy in _full(room)}
    if full:
        return fail(expected, "; ".join(full), ", then ".join(dict.fromkeys(full.values())))
    low = [fault for room in state.room for fault in _low(room)]
    if low:
        return warn(expected, "; ".join(low), "free space on the file system, or enlarge it")
    return ok(expected, {room.directory: f"{_percent(*_usable(room))} % free" for room in state.room})


def _full(room: Room) -> Iterator[tuple[str, str]]:
    """Return each fault with its remedy."""
    if room.missing:
        yield f"{room.directory} isn't there", _creation(room)
    if room.read_only:
        yield f"{room.directory} is on a read-only file system", f"mount the file system of {room.directory} writable"
    if room.immutable:
        yield f"{room.directory} is immutable", f"run 'chattr -i {room.directory}'"
    if room.noexec and room.runs_programs:
        fault = f"{room.directory} is on a file system that is mounted noexec, so no container of it can run a program"
        yield fault, f"mount the file system of {room.directory} without noexec"
    if room.free < min(FULL_BYTES, room.size // 100) and not room.directories_only:
        yield f"{room.directory} is on a full file system", f"free space in the file system of {room.directory}, or enlarge it"
    if room.inodes and room.inodes_free < min(FULL_INODES, room.inodes // 100):
        fault = f"{room.directory} is on a file system without free inodes"
        yield fault, f"delete files in the file system of {room.directory}, or enlarge it"


def _creation(room: Room) -> str:
    """Return how a missing directory is created."""
    if room.directories_only:
        return "create it, or correct TMPDIR in the unit of containerd, and restart the unit"
    if room.directory.endswith("/ingest"):
        # The daemon creates it when it first needs it, and not again.
        return f"run 'mkdir {room.directory}'"
    restart = "unmount what may hide it, and restart the unit"
    # A snapshotter creates the directory without the files of the images that it has.
    return f"{restart}, then {REPAIR}" if room.directory.endswith("/snapshots") else restart


def _usable(room: Room) -> tuple[int, int]:
    """Return the bytes that users other than root can still write, and all that they could."""
    if room.available is None:
        return room.free, room.size
    return room.available, room.size - room.free + room.available


def _low(room: Room) -> Iterator[str]:
    for (free, size), what in ((_usable(room), "space"), ((room.inodes_free, room.inodes), "inodes")):
        if size and _percent(free, size) < LOW_PERCENT:
            yield f"{room.directory} is on a file system with {_percent(free, size)} % of its {what} free"


def _percent(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 100


@check
def unit_directives(state: NodeState, expectation: Expectation) -> Finding:
    """systemd reads every line of the unit's files, none is overridden that the inventory asks for, and containers can start."""
    expected = "systemd applies every directive of the unit, and none keeps containers from working"
    if state.unit_files is None or "ignored_directives" in state.trouble:
        return unread(expected, state, "unit_files", "ignored_directives", "daemon")
    harmful = [*harmful_directives(state.unit_files), *_obstacles(state)]
    if harmful:
        remedy = f"remove the directives, run 'systemctl daemon-reload', and restart {state.unit}"
        return fail(expected, f"containers don't work with {'; '.join(harmful)}", remedy)
    own = drop_in_path(state.unit)
    text = next((one.text for one in state.unit_files if one.path == own), "")
    overridden = overridden_directives(state.unit_files, own, text)
    if overridden:
        remedy = f"remove the directives from the named file, which systemd reads later, then {CONFIGURE}"
        return fail(expected, "; ".join(overridden), remedy)
    ignored = [line for line in state.ignored_directives if line.startswith(f"{own}:")]
    if ignored:
        return fail(expected, "; ".join(ignored), f"correct containerd_service_directives, then {CONFIGURE}")
    mild = [*state.ignored_directives, *_limits(state)]
    if mild:
        remedy = f"correct or remove the named lines, run 'systemctl daemon-reload', and restart {state.unit}"
        return warn(expected, "; ".join(mild), remedy)
    return ok(expected, f"{len(state.unit_files)} files")


def _obstacles(state: NodeState) -> Iterator[str]:
    """Yield the restrictions with which the daemon can't start containers, with the directives that may be the cause."""
    found, files = state.confinement, state.unit_files or ()
    if found is None:
        return
    if found.missing:
        yield f"a daemon without {', '.join(found.missing)}{_set_by(directives_of(files, 'CapabilityBoundingSet'))}"
    yield from _lower(found, _NEEDED, files)
    if found.no_mounts_in:
        yield f"mounts of the node, such as volumes, that don't reach containers{_set_by(directives_of(files, 'MountFlags'))}"
    if found.hidden:
        yield f"a configuration that the daemon doesn't see: {', '.join(found.hidden)}{_set_by(views_of(files, found.hidden))}"
    if found.in_memory:
        where = ", ".join(found.in_memory)
        yield f"directories of the daemon that are in memory for it alone: {where}{_set_by(views_of(files, found.in_memory))}"


def _limits(state: NodeState) -> Iterator[str]:
    """Yield the restrictions that limit containers or the collection, but let containers start."""
    found, files = state.confinement, state.unit_files or ()
    if found is None:
        return
    moved = [path for path in found.moved if path not in found.in_memory]
    if moved:
        yield f"the daemon sees other directories than the node: {', '.join(moved)}{_set_by(views_of(files, moved))}"
    if found.no_mounts_out:
        source = _set_by(directives_of(files, "MountFlags", "PrivateMounts"))
        yield f"mounts of containers, such as those of storage drivers, don't reach the node{source}"
    if found.no_new_privileges:
        source = _set_by(directives_of(files, "NoNewPrivileges"))
        yield f"no process of a container can gain privileges, such as with sudo{source}"
    if found.filtered:
        yield f"system calls are filtered, also in containers{_set_by(directives_of(files, *FILTERS))}"
    denied = denied_addresses(files) if found.filters_addresses else ""
    if denied:
        yield f"the daemon reaches no registry but those of the node itself ({denied})"
    compiling = switched_on(files, "MemoryDenyWriteExecute")
    if compiling:
        yield f"no process of a container can make memory executable, as Java and Node.js do ({compiling})"
    yield from _lower(found, _WANTED, files)


def _lower(found: Confinement, limits: Iterable[_Limit], files: Sequence[Source]) -> Iterator[str]:
    """Yield each limit of the daemon's process that is too low."""
    for limit in limits:
        value = getattr(found, limit.name)
        if value is not None and value < limit.least:
            yield f"{limit.sentence.format(value)}{_set_by(directives_of(files, *limit.directives))}"


def _set_by(found: str) -> str:
    return f" ({found})" if found else ""


@check
def required_plugins(state: NodeState, expectation: Expectation) -> Finding:
    """No plugin that containers need is disabled, or has failed."""
    expected = "every plugin that containers need is loaded"
    if state.config is None or state.version is None:
        return unread(expected, state, "config", "version")
    required = required_by(state.config, state.version)
    disabled = [name for name in state.config.disabled_plugins if name in required]
    if disabled:
        return fail(expected, f"disabled: {', '.join(disabled)}", "remove them from disabled_plugins, and restart the daemon")
    failed = {name: state.plugin_reasons.get(name, "") for name in failed_plugins(state.daemon, (*REQUIRED_PLUGINS, TRANSFER))}
    if failed:
        found = {name: f"error: {reason}" if reason else "error" for name, reason in failed.items()}
        return fail(expected, found, f"correct the table of the plugin in {state.config_file}, and restart the daemon")
    for_clients = [name for name in state.config.disabled_plugins if name in REQUIRED_BY_CLIENTS]
    if for_clients:
        remedy = "remove them from disabled_plugins, and restart the daemon: ctr and slipway.node need them"
        said = f"disabled, so that clients of the daemon's own API don't work: {', '.join(for_clients)}"
        return (warn if state.config.cri_enabled else fail)(expected, said, remedy)
    return ok(expected, "none")


# The limit of messages in each direction, and what fails below STREAM_MESSAGE_BYTES and below LOCAL_MESSAGE_BYTES.
_MESSAGES = (
    ("max_recv_message_size", "no image can be imported", "'ctr images' with --local fails"),
    ("max_send_message_size", "images can't be listed or exported", "'ctr content get' fails"),
)


@check
def message_size(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon takes and sends messages as large as those of its clients and services."""
    expected = f"at least {LOCAL_MESSAGE_BYTES} bytes"
    if state.config is None or state.version is None:
        return unread(expected, state, "config", "version")
    sizes = {name: state.config.message_bytes(name) for name, _all, _some in _MESSAGES}
    small = {name: size for name, size in sizes.items() if size is not None and size < LOCAL_MESSAGE_BYTES}
    if not small:
        return ok(expected, {name: size or "the default" for name, size in sizes.items()})
    # From 2.0 on clients send content in small pieces, unless they unpack it themselves.
    mild = state.version.at_least("2.0.0") and all(size >= STREAM_MESSAGE_BYTES for size in small.values())
    said = [f"{name} is {small[name]}: {some if mild else every}" for name, every, some in _MESSAGES if name in small]
    remedy = f"remove {' and '.join(small)} from {state.config_file} or from the file that it imports, and restart the daemon"
    return (warn if mild else fail)(expected, "; ".join(said), remedy)


def required_by(config: EffectiveConfig, version: Version) -> tuple[str, ...]:
    """Return the plugins that containers need, as TYPE.ID."""
    if not config.cri_enabled:
        return REQUIRED_PLUGINS
    cri = (*REQUIRED_BY_CRI, TRANSFER) if version.at_least("2.0.0") else REQUIRED_BY_CRI
    return (*REQUIRED_PLUGINS, *cri)


def failed_plugins(daemon: Daemon | None, names: Collection[str]) -> list[str]:
    """Return those of the named plugins that the daemon could not load."""
    plugins = (daemon.plugins if daemon is not None else None) or ()
    return [f"{one.type}.{one.id}" for one in plugins if one.status == "error" and f"{one.type}.{one.id}" in names]
