# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running daemon as values: its unit, its process, its plugins, and what is wrong with them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.core.process import Process
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus

# Kill modes under which a restart stops the daemon alone, and its shims go on. Under "none" not even
# the daemon is stopped; under "mixed" the shims are killed with the rest of the control group.
SPARING_KILL_MODES = ("process",)
# After a crash the daemon has to run for so many seconds before it counts as up.
CRASHED_SECONDS = 60
_PLUGIN = re.compile(r"^(?=Type: )", re.MULTILINE)
_PLUGIN_ID = re.compile(r"^ID: +(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Plugin:
    """A row of ``ctr plugins ls``: type, id, status (ok, skip, error)."""

    type: str
    id: str
    status: str

    @property
    def is_cri(self) -> bool:
        return self.type == "io.containerd.cri.v1" or (self.type, self.id) == ("io.containerd.grpc.v1", "cri")

    @property
    def is_snapshotter(self) -> bool:
        return self.type == "io.containerd.snapshotter.v1"


def parse_plugins(stdout: str) -> tuple[Plugin, ...]:
    """Parse the table of ``ctr plugins ls``."""
    rows = (line.split() for line in stdout.splitlines()[1:])
    return tuple(Plugin(row[0], row[1], row[-1]) for row in rows if len(row) >= 3)


def parse_details(stdout: str) -> dict[str, str]:
    """Return by id the part about the plugins of this id from what ``ctr plugins ls --detailed`` prints."""
    found: dict[str, str] = {}
    for block in _PLUGIN.split(stdout):
        name = _PLUGIN_ID.search(block)
        if name is not None:
            found[name[1]] = found.get(name[1], "") + block
    return found


@dataclass(frozen=True)
class Daemon:
    """``plugins`` is None where the socket doesn't answer; ``newer`` are files changed since the start.

    ``undated`` are files that changed at a time that is still to come: the clock was set back, maybe before the start.
    ``age`` is how many seconds the process has been running.
    """

    unit: UnitStatus
    process: Process | None
    plugins: tuple[Plugin, ...] | None
    newer: tuple[str, ...] = ()
    binary: str | None = None
    age: float | None = None
    undated: tuple[str, ...] = ()

    def reads(self, default: str = "/etc/containerd/config.toml") -> str:
        """Return the configuration file that the running daemon was told to read."""
        told = self.process.option("-c", "--c", "-config", "--config") if self.process else None
        return posixpath.normpath(told or default)

    def listens(self) -> str | None:
        """Return the socket that the running daemon was told to make, None if its configuration says which."""
        return self.process.option("-a", "--a", "-address", "--address") if self.process else None

    def liveness_problem(self) -> str | None:
        """Return why the daemon can't be said to run, or None."""
        if not self.unit.running or self.process is None:
            return f"the unit is {self.unit.active} ({self.unit.sub}, last result {self.unit.result or 'unknown'})"
        if self.plugins is None:
            return "the daemon doesn't answer on its socket"
        return None

    def plugin_problem(self, snapshotters: Sequence[str], *, cri: bool) -> str | None:
        """Return the first plugin that is needed and not ok, or None."""
        plugins = self.plugins or ()
        states = {plugin.id: plugin.status for plugin in plugins if plugin.is_snapshotter}
        for name in snapshotters:
            if states.get(name) != "ok":
                return f"the snapshotter {name} is {'in state ' + states[name] if name in states else 'not loaded'}"
        if cri:
            bad = [plugin for plugin in plugins if plugin.is_cri and plugin.status != "ok"]
            if bad:
                return f"the CRI plugin ({bad[0].type}.{bad[0].id}) is in state {bad[0].status}"
            if not any(plugin.is_cri for plugin in plugins):
                return "the CRI plugin isn't loaded"
        return None

    def restart_reason(self, snapshotters: Sequence[str], *, cri: bool) -> str | None:
        """Return why the daemon has to be started again although no file is to be changed, or None."""
        problem = self.liveness_problem()
        if problem:
            return problem
        if self.newer:
            return f"{self.newer[0]} was changed after the daemon started"
        if self.process and self.binary and self.process.executable != self.binary:
            return f"the daemon doesn't run {self.binary} as it is on disk"
        if self.unit.restarts and self.age is not None and self.age < CRASHED_SECONDS:
            return "the daemon crashed a moment ago"
        return self.plugin_problem(snapshotters, cri=cri)


def error_lines(journal: list[str]) -> list[str]:
    """Return the lines of a journal that say what went wrong; its last ones if none does."""
    signs = ("level=error", "level=fatal", "failed to load", "containerd: ")
    return ([line for line in journal if any(sign in line for sign in signs)] or journal)[-4:]
