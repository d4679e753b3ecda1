# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one way in which programs are run on the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import ENVIRONMENT, run_program


class Programs(Protocol):
    """Finds and runs programs: an AnsibleModule, or PlainPrograms on a node without Ansible."""

    def run_command(
        self, args: list[str], *, environ_update: dict[str, str], handle_exceptions: bool
    ) -> tuple[int, str, str]: ...

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None: ...


@dataclass(frozen=True)
class Result:
    """The result of a program: exit code and both streams, as text."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Runner:
    """Runs programs by list of arguments, never through a shell.

    ``timeout`` in seconds is the limit of each program that is given none; without one, it may take any time.
    """

    def __init__(self, programs: Programs, timeout: float | None = None) -> None:
        self._programs = programs
        self._timeout = timeout

    def find(self, program: str) -> str | None:
        """Return the path of a program in PATH or the usual system directories; None if it isn't there."""
        return self._programs.get_bin_path(program, required=False, opt_dirs=["/usr/local/bin", "/usr/local/sbin"])

    def try_run(self, *command: str, timeout: float | None = None) -> Result:
        """Run a program; a failure is no error. Raises HostError if there is no such program, or it can't be run.

        With ``timeout``, HostError is also raised if it takes more seconds than that; it is killed then.
        """
        timeout = timeout if timeout is not None else self._timeout
        if timeout is not None:
            output = run_program(command, timeout=timeout)
            return Result(command, output.code, output.stdout.decode(errors="surrogateescape"), output.stderr)
        try:
            # Left to itself, run_command ends the module, also in the middle of a change.
            code, stdout, stderr = self._programs.run_command(list(command), environ_update=ENVIRONMENT, handle_exceptions=False)
        except OSError as error:
            raise HostError(f"cannot run {command[0]}: {error.strerror or error}") from error
        return Result(command, code, stdout, stderr)

    def run(self, *command: str, doing: str, timeout: float | None = None) -> str:
        """Run it and return its output. Raises HostError ("cannot DOING …") if it fails. ``timeout`` as in ``try_run``."""
        result = self.try_run(*command, timeout=timeout)
        if result.code != 0:
            complaint = result.stderr.strip() or result.stdout.strip()
            raise HostError(f"cannot {doing}", command=list(command), exit_code=result.code, stderr=complaint)
        return result.stdout
