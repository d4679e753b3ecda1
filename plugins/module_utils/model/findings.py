# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check of a node gets, and what it says.

To add a check, write a function with the decorator ``@check(ID)`` at its place in checks.py, image_checks.py, toolbox_checks.py,
kata_checks.py or pool_checks.py. It gets what was read and what is expected, and returns one Finding by ``ok``, ``fail``,
``warn`` or ``unknown``, or None if it doesn't apply; what can't be told is ``unknown``, never None. What it needs is read in
host/node_state.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model import reference
from ansible_collections.slipway.node.plugins.module_utils.model.daemon import Daemon
from ansible_collections.slipway.node.plugins.module_utils.model.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.model.files import Source
from ansible_collections.slipway.node.plugins.module_utils.model.kata_handler import Handler
from ansible_collections.slipway.node.plugins.module_utils.model.kata_state import KataState
from ansible_collections.slipway.node.plugins.module_utils.model.layers import KERNEL_LAYERS, Headroom
from ansible_collections.slipway.node.plugins.module_utils.model.mounts import Mount
from ansible_collections.slipway.node.plugins.module_utils.model.pulls import Pull
from ansible_collections.slipway.node.plugins.module_utils.model.settings import Settings, one_line, plain_name
from ansible_collections.slipway.node.plugins.module_utils.model.shutdown import Shutdown
from ansible_collections.slipway.node.plugins.module_utils.model.thin_pool import PoolState
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox_state import ExpectedToolbox, Toolboxes
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version

CONFIGURE = "run the playbook slipway.node.provision on this node"
REPAIR = "run the playbook slipway.node.repair on this node"
# What is said of everything that only the daemon knows, where it runs but doesn't answer, or doesn't run.
DEAF = "the daemon doesn't answer"
# How closely images are compared with their layers is for the way to say in which the boot before ended.
AUTO = "auto"


@dataclass(frozen=True)
class ExpectedImage:
    """An image that should be there. None: the daemon's own snapshotter, the node's own platform."""

    name: str
    namespace: str
    snapshotter: str | None = None
    platform: str | None = None

    @classmethod
    def several(cls, entries: Iterable[Mapping[str, Any]]) -> tuple[ExpectedImage, ...]:
        """From the module's option ``images``, each image once. Raises ValueError that names the option."""
        found = []
        for entry in entries:
            namespace = plain_name("images.namespace", entry["namespace"])
            if entry["snapshotter"] is not None:
                plain_name("images.snapshotter", entry["snapshotter"])
            if entry["platform"] is not None:
                one_line("images.platform", entry["platform"])
            for name in entry["name"]:
                try:
                    spelled_out = str(reference.parse(name))
                except ValueError as error:
                    raise ValueError(f"images.name: {error}") from error
                found.append(cls(spelled_out, namespace, entry["snapshotter"], entry["platform"]))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class FoundImage:
    """An expected image as the node has it, for one snapshotter.

    ``problem`` says what is wrong with it, ``trouble`` what couldn't be told; both are empty if it is as it should be.
    ``synced``: it is known to have been brought to disk.
    """

    name: str
    namespace: str
    problem: str = ""
    trouble: str = ""
    synced: bool = True


@dataclass(frozen=True)
class JudgedImage:
    """An image that was compared with its layers: how it is damaged, and what couldn't be told; both empty if it is intact.

    ``snapshotter`` is the one that it is unpacked for, empty if that is the daemon's default.
    """

    name: str
    namespace: str
    damage: str = ""
    unknown: str = ""
    snapshotter: str = ""

    def __str__(self) -> str:
        of = f" ({self.snapshotter})" if self.snapshotter else ""
        return f"{self.name} in {self.namespace}{of}"


@dataclass(frozen=True)
class StrandedImage:
    """An image that is unpacked for no snapshotter that pods use, but for these."""

    name: str
    snapshotters: tuple[str, ...]


@dataclass(frozen=True)
class NodeState:
    """What was read from the node. None stands for what couldn't be; ``trouble`` says why, by name.

    ``mounts`` are the file systems of the directories with images, by directory, ``boot`` the kernel's id of this boot.
    ``judged`` are images that were compared with their layers, ``compared`` how closely (``none``: not at all).
    ``plugin_reasons`` say by name why the daemon hasn't a snapshotter, ``snapshotter_needs`` what the node lacks for one.
    ``stranded`` are images of CRI's that no snapshotter in use has.
    """

    config_file: str
    unit: str
    now: float
    architecture: str = "amd64"
    version: Version | None = None
    daemon: Daemon | None = None
    sources: tuple[Source, ...] = ()
    missing_imports: tuple[str, ...] = ()
    dump: EffectiveConfig | None = None
    known_plugins: frozenset[str] | None = None
    pending: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    images: tuple[FoundImage, ...] | None = None
    headroom: Headroom | None = None
    pulls: tuple[Pull, ...] | None = None
    boot: str | None = None
    mounts: Mapping[str, Mount] | None = None
    shutdown: Shutdown | None = None
    compared: str = "none"
    judged: tuple[JudgedImage, ...] | None = None
    uuid_trouble: str | None = None
    toolboxes: Toolboxes | None = None
    kata: KataState | None = None
    plugin_reasons: Mapping[str, str] = field(default_factory=dict)
    snapshotter_needs: Mapping[str, str] | None = None
    stranded: tuple[StrandedImage, ...] | None = None
    thin_pool: PoolState | None = None
    trouble: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One check's result; ``expected`` and ``found`` are for people and programs to read."""

    id: str
    status: str
    expected: Any
    found: Any
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Expectation:
    """What the node should be: the settings, the proxy variables of the daemon's environment, the images, and the toolboxes.

    ``toolboxes`` None: which there should be isn't said. ``layers_min`` is how many layers an image must be able to have,
    ``integrity`` how closely images are compared with theirs, ``kata`` the handlers of Kata. ``pool_warn`` and ``pool_fail`` are
    from how much use on, in percent, a thin pool is warned of and fails.
    """

    settings: Settings = field(default_factory=Settings)
    environment: Mapping[str, str] = field(default_factory=dict)
    images: tuple[ExpectedImage, ...] = ()
    layers_min: int = 128
    integrity: str = AUTO
    toolboxes: tuple[ExpectedToolbox, ...] | None = None
    kata: tuple[Handler, ...] = ()
    pool_warn: int = 80
    pool_fail: int = 95

    def __post_init__(self) -> None:
        if not 0 <= self.layers_min <= KERNEL_LAYERS:
            raise ValueError(f"layers_min has to be between 0 and {KERNEL_LAYERS}, the kernel's limit, not {self.layers_min}")
        if not 1 <= self.pool_warn <= self.pool_fail <= 100:
            raise ValueError(f"pool_warn and pool_fail have to be 1 to 100 in this order, not {self.pool_warn}, {self.pool_fail}")


Check = Callable[[NodeState, Expectation], "Finding | None"]


def registering(checks: dict[str, Check]) -> Callable[[str], Callable[[Check], Check]]:
    """A decorator that puts a check under its id; they run in the order of their file."""

    def check(name: str) -> Callable[[Check], Check]:
        def register(function: Check) -> Check:
            checks[name] = function
            return function

        return register

    return check


def ok(name: str, expected: Any, found: Any) -> Finding:
    """As it should be."""
    return Finding(name, "ok", expected, found)


def fail(name: str, expected: Any, found: Any, remedy: str) -> Finding:
    """Not as it should be; ``remedy`` says what to do about it."""
    return Finding(name, "fail", expected, found, remedy)


def warn(name: str, expected: Any, found: Any, remedy: str) -> Finding:
    """As it should be by the letter, but something threatens it."""
    return Finding(name, "warn", expected, found, remedy)


def unknown(name: str, expected: Any, why: str, remedy: str) -> Finding:
    """It couldn't be told; ``why`` says so."""
    return Finding(name, "unknown", expected, why, remedy)


def unread(name: str, expected: Any, state: NodeState, *parts: str) -> Finding:
    """For a check that needs parts of the node which couldn't be read: ``unknown``, with the reason."""
    why = next((state.trouble[part] for part in parts if part in state.trouble), "not read")
    remedy = "see that containerd is installed, and run this as root"
    if why == DEAF:
        remedy = "start the daemon"
    elif why == state.trouble.get("dump"):
        remedy = f"mend {state.config_file}, or {CONFIGURE}"
    return unknown(name, expected, why, remedy)


def not_running(name: str, expected: Any, state: NodeState) -> Finding:
    """For a check of the running daemon where there is none."""
    if state.daemon is None:
        return unread(name, expected, state, "daemon")
    why = "the daemon doesn't run" if state.daemon.unit.loaded else f"there is no unit {state.unit}"
    return unknown(name, expected, why, "start the daemon")
