# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a pod without containers through CRI with each handler, and remove it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import Output, run_program
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers
from ansible_collections.slipway.node.plugins.module_utils.probe.host.container import ASK_SECONDS, RUN_SECONDS
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import (
    FAILED,
    NAME,
    NOT_TRIED,
    STARTED,
    Outcome,
    Report,
    Trial,
    complaint,
    sandbox,
)


class PodProbe:
    """``crictl`` is the path of that program, ``address`` the daemon's socket."""

    def __init__(self, crictl: str, address: str) -> None:
        self._crictl = crictl
        self._address = address

    def run(self, trials: Sequence[Trial]) -> Report:
        """Start a pod with each handler. Raises HostError if CRI can't be asked for one."""
        self._sweep()
        left = ""
        try:
            outcomes = tuple(self._start(trial) for trial in trials)
        finally:
            try:
                left = self._sweep()
            except HostError as error:
                left = str(error)
        return Report(outcomes, left)

    def _start(self, trial: Trial) -> Outcome:
        if trial.outcome is not None:
            return trial.outcome

        def feed(stream: IO[bytes]) -> None:
            stream.write(sandbox(trial.handler))

        argv = self._command("runp", "--runtime", trial.handler, "/dev/stdin", seconds=RUN_SECONDS)
        try:
            done = run_program(argv, timeout=RUN_SECONDS + ASK_SECONDS, feed=feed)
        except HostError as error:
            return Outcome(trial.handler, FAILED if answers(self._address) else NOT_TRIED, str(error))
        return Outcome(trial.handler, STARTED) if done.code == 0 else Outcome(trial.handler, FAILED, complaint(done.stderr))

    def _sweep(self) -> str:
        """Remove the pods of a probe; return what couldn't be removed, or an empty text."""
        for pod in self._pods():
            # The kubelet removes pods that it doesn't know, so it may be faster.
            self._ask("stopp", pod)
            self._ask("rmp", "--force", pod)
        left = self._pods()
        return f"pods of CRI: {', '.join(left)}" if left else ""

    def _pods(self) -> list[str]:
        done = self._ask("pods", "--namespace", NAME, "--quiet")
        if done.code != 0:
            raise HostError(f"cannot list the pods of CRI: {complaint(done.stderr)}")
        return done.stdout.decode().split()

    def _ask(self, *arguments: str) -> Output:
        return run_program(self._command(*arguments, seconds=ASK_SECONDS), timeout=2 * ASK_SECONDS)

    def _command(self, *arguments: str, seconds: float) -> list[str]:
        return [self._crictl, "--runtime-endpoint", f"unix://{self._address}", "--timeout", f"{seconds:g}s", *arguments]
