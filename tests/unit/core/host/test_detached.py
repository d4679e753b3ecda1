# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in another process ends even if this process is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.detached import finish
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive


def test_the_result_may_be_of_any_size() -> None:
    assert finish(lambda: b"x" * 300_000, timeout=10, doing="work") == b"x" * 300_000


def test_its_session_is_another_one() -> None:
    assert finish(lambda: str(os.getsid(0)).encode(), timeout=10, doing="work") != str(os.getsid(0)).encode()


def fail() -> bytes:
    raise HostError("the disk is full")


def die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


@pytest.mark.parametrize(
    ("work", "words"),
    [(fail, "cannot work: the disk is full"), (die, "its process ended with status 9"), (lambda: time.sleep(5), "more than 0.2")],
)
def test_a_failure_is_reported(work: Callable[[], bytes], words: str) -> None:
    with pytest.raises(HostError, match=words):
        finish(work, timeout=0.2 if "more" in words else 10, doing="work")


def test_it_ends_after_the_process_that_wants_it_was_killed_and_keeps_its_lock(tmp_path: Path) -> None:
    lock, seen, done = str(tmp_path / "lock"), tmp_path / "seen", tmp_path / "done"

    def work() -> bytes:
        os.kill(os.getppid(), signal.SIGKILL)
        while not seen.exists():
            time.sleep(0.01)
        done.write_text("done")
        return b"nobody reads this"

    pid = os.fork()
    if not pid:
        with exclusive(5, lock):
            finish(work, timeout=10, doing="work")
    os.waitpid(pid, 0)
    with pytest.raises(HostError, match="another run"), exclusive(0.1, lock):
        pass
    assert not done.exists()
    seen.touch()
    with exclusive(60, lock):
        assert done.exists()
