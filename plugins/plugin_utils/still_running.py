# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of output during a task that takes minutes, for which Ansible itself prints nothing before its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# The variable that says how often, and its default.
VARIABLE = "slipway_progress_seconds"
SECONDS = 60


class Displays(Protocol):
    """Displays a line, as Ansible's Display.display does."""

    def __call__(self, msg: str, *, stderr: bool) -> None: ...


@contextmanager
def still_running(display: Displays, subject: str, seconds: float) -> Iterator[None]:
    """Display the subject and the time that has passed, every ``seconds``, until the block ends; 0: never.

    Only the controller's clock is read: another connection to the node could disturb the one that the task uses. The lines go
    to the standard error, as callbacks may write one document for the whole run to the standard output.
    """
    ended, started = threading.Event(), time.monotonic()

    def run() -> None:
        while not ended.wait(seconds):
            display(f"{subject} is still running after {time.monotonic() - started:.0f} seconds", stderr=True)

    thread = threading.Thread(target=run, daemon=True)
    if seconds > 0:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if seconds > 0:
            thread.join()
