# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors that end a module, besides ValueError for its options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

# How the reason begins why a part of the node wasn't read that hangs, and why one wasn't that nobody waited for.
NO_ANSWER = "no answer within"
LATE = "not read within"


class MissingLibrary(RuntimeError):
    """The node lacks a Python library; the text is its name."""


class HostError(Exception):
    """An operation on the node failed.

    ``message`` is a sentence without a final full stop. ``command``, ``exit_code`` and ``stderr`` are of the program that
    failed, if one was run. ``values`` are return values of the module.
    """

    def __init__(
        self,
        message: str,
        *,
        command: list[str] | None = None,
        exit_code: int | None = None,
        stderr: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr
        self.values = dict(values or {})

    def __str__(self) -> str:
        """Return one sentence: the message, the command with its exit code, the last line of stderr."""
        details: list[str] = []
        if self.command is not None:
            command = " ".join(shlex.quote(word) for word in self.command)
            details.append(command if self.exit_code is None else f"{command} exited with {self.exit_code}")
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        if lines:
            details.append(lines[-1])
        return f"{self.message} ({': '.join(details)})" if details else self.message
