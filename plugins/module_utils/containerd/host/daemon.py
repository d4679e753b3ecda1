# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running daemon: read its state, restart it, and wait until it is healthy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import import_directories, read_sources
from ansible_collections.slipway.node.plugins.module_utils.containerd.imports import proxy_addresses
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import change_time, read_process
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers
from ansible_collections.slipway.node.plugins.module_utils.core.process import changed_since

# How long a daemon that answers has to stay the same process to be called stable.
SETTLE_SECONDS = 1.5
# The same for one that has crashed before: it may take a while to crash again.
CRASHED_SETTLE_SECONDS = 10
_POLL_SECONDS = 0.2
# Where an administrator or another tool adds drop-ins (systemd.unit(5)).
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system")


class RunningDaemon:
    """One systemd unit, its configuration file and its socket."""

    def __init__(self, containerd: Containerd) -> None:
        binary = containerd.program.path
        self.unit = containerd.unit
        self.ctr = containerd.ctr
        self._config_file = containerd.config_file
        self._binary = os.path.realpath(binary) if binary else None

    def read_state(self) -> Daemon:
        """Read the daemon's state. Raises HostError if it can't be read."""
        status = self.unit.status()
        if status.loaded and self.ctr.path is None:
            self.ctr.plugins()
        process = read_process(status.pid) if status.running else None
        if process is None:
            return Daemon(status, None, None, (), self._binary)
        sources = read_sources(self._config_file)
        # A directory changes when a file is removed from it, or added, which systemd may not have read.
        drop_ins = [os.path.dirname(path) for path in status.files if os.path.dirname(path).endswith(f"/{self.unit.name}.d")]
        drop_ins += [f"{directory}/{self.unit.name}.d" for directory in _UNIT_DIRECTORIES]
        inputs = [*(source.path for source in sources), *import_directories(sources), *status.files, *dict.fromkeys(drop_ins)]
        times = {path: changed for path in inputs if (changed := change_time(path)) is not None}
        newer, undated = changed_since(times, process.started_then(status.started), time.time())
        age = time.time() - process.started
        return Daemon(status, process, self._plugins(sources), newer, self._binary, age, undated)

    def _plugins(self, sources: Iterable[Source]) -> tuple[Plugin, ...] | None:
        """Try the sockets of proxy plugins: the daemon calls such a plugin ok even if no service answers."""
        try:
            plugins = self.ctr.plugins()
        except HostError:
            return None
        proxies = proxy_addresses(sources)
        return tuple(
            replace(plugin, status=f"unreachable at {proxies[plugin.id]}")
            if plugin.is_snapshotter and plugin.id in proxies and not answers(proxies[plugin.id])
            else plugin
            for plugin in plugins
        )

    def restart(self, snapshotters: Sequence[str], *, cri: bool, timeout: float) -> Daemon:
        """Start it again and prove that it is well: up, answering, plugins ok, the same process a moment later.

        ``timeout`` in seconds. Raises HostError that says what is wrong.
        """
        settle = CRASHED_SETTLE_SECONDS if self.unit.status().crashed else SETTLE_SECONDS
        self.unit.restart()
        deadline = time.monotonic() + timeout
        while True:
            daemon = self.read_state()
            problem = daemon.liveness_problem()
            if daemon.unit.restarts:
                raise HostError(f"{self.unit.name} crashes and is started again and again: {problem or 'it was up for a moment'}")
            if problem is None:
                break
            if time.monotonic() > deadline:
                raise HostError(f"{self.unit.name} isn't up after {timeout:g} seconds: {problem}")
            time.sleep(_POLL_SECONDS)
        trouble = daemon.plugin_problem(snapshotters, cri=cri)
        if trouble:
            raise HostError(trouble + self._reason(trouble, snapshotters))
        return self._settled(daemon, settle)

    def _reason(self, trouble: str, snapshotters: Iterable[str]) -> str:
        """Return the daemon's own words about a snapshotter that isn't ok."""
        name = next((name for name in snapshotters if f"the snapshotter {name} is" in trouble), None)
        said = self.ctr.plugin_reason(name) if name else ""
        return f": {said}" if said else ""

    def _settled(self, daemon: Daemon, seconds: float) -> Daemon:
        time.sleep(seconds)
        later = self.read_state()
        problem = later.liveness_problem()
        if problem or later.unit.pid != daemon.unit.pid:
            what = problem or "it is another process now"
            raise HostError(f"{self.unit.name} was up for less than {seconds:g} seconds: {what}")
        if later.reads() != self._config_file:
            raise HostError(
                f"the daemon reads {later.reads()}, not {self._config_file}: name that file with config_file, or correct the unit"
            )
        runs = later.process.executable if later.process else None
        if self._binary and runs != self._binary:
            raise HostError(f"{self.unit.name} runs {runs}, not {self._binary}: name that one with binary, or correct the unit")
        return later
