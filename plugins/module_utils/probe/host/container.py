# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a container of the probe's image through containerd with each handler, and remove it.

All objects of the probe are in a containerd namespace of its own. Objects that are already there were left by a probe that was
killed together with its detached process, or whose runtime hung.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import Output, run_program
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import shim_processes
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers
from ansible_collections.slipway.node.plugins.module_utils.probe.host.archive import IMAGE, archive
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import (
    FAILED,
    NAME,
    NOT_TRIED,
    Outcome,
    Report,
    Trial,
    complaint,
    outcome_of_run,
)

# A guest of Kata's needs seconds to start, without hardware support more of them.
RUN_SECONDS = 60.0
ASK_SECONDS = 20.0
# A daemon that is restarted is away for less.
_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.1
# In the daemon's root and state: containerd core/runtime/v2.
_TASKS = "io.containerd.runtime.v2.task"


class ContainerProbe:
    """``config`` is the daemon's effective configuration, ``architecture`` the node's by Go's name."""

    def __init__(self, ctr: Ctr, config: EffectiveConfig, architecture: str) -> None:
        self._ctr = ctr
        self._config = config
        self._architecture = architecture

    def run(self, trials: Sequence[Trial]) -> Report:
        """Start a container with each handler. Raises HostError if containerd can't be asked for one."""
        self._sweep(trials)
        left = ""
        try:
            outcomes = self._outcomes(trials)
        finally:
            try:
                left = self._sweep(trials)
            except HostError as error:
                left = str(error)
        return Report(outcomes, left)

    def _outcomes(self, trials: Sequence[Trial]) -> tuple[Outcome, ...]:
        tried = [trial.handler for trial in trials if trial.outcome is None]
        trouble = self._import() if tried else ""
        if trouble:
            return tuple(trial.outcome or Outcome(trial.handler, FAILED, trouble) for trial in trials)
        return tuple(trial.outcome or self._start(trial) for trial in trials)

    def _import(self) -> str:
        """Bring the image; return why containerd can't take it, or an empty text."""
        try:
            content = archive(self._architecture)
        except ValueError as error:
            raise HostError(str(error)) from error

        def feed(stream: IO[bytes]) -> None:
            stream.write(content)

        # Each run unpacks it for its own snapshotter.
        argv = self._ctr.command("--namespace", NAME, "images", "import", "--no-unpack", "-")
        done = run_program(argv, timeout=ASK_SECONDS, feed=feed, server=self._ctr.address, patience=_PATIENCE_SECONDS)
        return "" if done.code == 0 else f"cannot import the probe's image: {complaint(done.stderr)}"

    def _start(self, trial: Trial) -> Outcome:
        # Without shares, runc doesn't need the cpu controller, which a node inside a container may lack.
        arguments = ("run", "--rm", "--null-io", "--cpu-shares", "0", *trial.arguments, IMAGE, NAME)
        try:
            done = self._ask(*arguments, timeout=RUN_SECONDS)
        except HostError as error:
            state = FAILED if answers(self._ctr.address) else NOT_TRIED
            outcome = Outcome(trial.handler, state, str(error))
        else:
            outcome = outcome_of_run(trial.handler, done.code, done.stderr)
        if outcome.reason:
            with suppress(HostError):
                self._remove_containers()
        return outcome

    def _sweep(self, trials: Iterable[Trial]) -> str:
        """Remove everything of a probe; return what couldn't be removed, or an empty text."""
        left = ""
        listed = self._ask("namespaces", "ls", "-q")
        if listed.code != 0:
            raise HostError(f"cannot list the namespaces of containerd: {complaint(listed.stderr)}")
        if NAME in listed.stdout.decode().split():
            self._remove_containers()
            images = self._listed("images")
            if images:
                self._ask("images", "rm", *images)
            for lease in self._listed("leases"):
                self._ask("leases", "rm", lease)
            # Garbage collection takes away the snapshots and the content, also of what was created under a lease that is gone.
            self._ask("leases", "create", "--id", NAME)
            self._ask("leases", "rm", "--sync", NAME)
            removed = self._ask("namespaces", "rm", NAME)
            left = "" if removed.code == 0 else f"the namespace {NAME} of containerd: {complaint(removed.stderr)}"
        self._remove_directories(trials)
        return left

    def _remove_containers(self) -> None:
        for task in self._listed("tasks"):
            self._ask("tasks", "rm", "--force", task)
        self._kill_shims()
        for container in self._listed("containers"):
            self._ask("containers", "rm", container)

    def _kill_shims(self) -> None:
        """Kill the shims that are left, which hang or whose tasks the daemon no longer lists. The daemon cleans up after them."""
        for pid in self._shims():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        bundle = f"{self._config.state}/{_TASKS}/{NAME}/{NAME}"
        deadline = time.monotonic() + ASK_SECONDS
        while (self._shims() or os.path.exists(bundle)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _shims(self) -> list[int]:
        return [pid for pid, name in shim_processes(self._ctr.address).items() if name.startswith(f"{NAME}/")]

    def _remove_directories(self, trials: Iterable[Trial]) -> None:
        """Remove the directories of the namespace, which are empty once its last container is gone."""
        places = [f"{parent}/{_TASKS}" for parent in (self._config.state, self._config.root) if parent]
        for place in dict.fromkeys([*places, *(trial.runc_root for trial in trials)]):
            with suppress(OSError):
                os.rmdir(f"{place}/{NAME}")

    def _listed(self, kind: str) -> list[str]:
        return self._ask(kind, "ls", "-q").stdout.decode().split()

    def _ask(self, *arguments: str, timeout: float = ASK_SECONDS) -> Output:
        argv = self._ctr.command("--namespace", NAME, *arguments)
        return run_program(argv, timeout=timeout, server=self._ctr.address, patience=_PATIENCE_SECONDS)
