# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is spread over processes has the same results in the same order, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host import workers
from ansible_collections.slipway.node.plugins.module_utils.core.host.workers import spread


def count(number: int) -> Iterator[bytes]:
    for message in range(number):
        yield b"%d of %d" % (message, number)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("processes", [1, 2, 3, 50])
@pytest.mark.parametrize("jobs", [0, 1, 2, 40])
def test_each_job_is_done_once(processes: int, jobs: int) -> None:
    before = children()
    with spread([partial(count, number) for number in range(jobs)], processes) as results:
        assert [list(results.of(number)) for number in range(jobs)] == [list(count(number)) for number in range(jobs)]
    assert children() == before


def test_processes_work_at_the_same_time_and_not_in_this_one() -> None:
    """Each waits for the other."""
    pipes = [os.pipe(), os.pipe()]

    def meet(number: int) -> Iterator[bytes]:
        os.write(pipes[number][1], b"x")
        os.read(pipes[1 - number][0], 1)
        yield str(os.getpid()).encode()

    with spread([partial(meet, 0), partial(meet, 1)], 2) as results:
        pids = {next(iter(results.of(number))) for number in range(2)}
    assert len(pids) == 2 and str(os.getpid()).encode() not in pids


def test_one_that_is_far_ahead_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """And messages may be of any size."""
    monkeypatch.setattr(workers, "_AHEAD_BYTES", 1 << 16)
    noise = os.urandom(1 << 20)
    most = 0

    def slow() -> Iterator[bytes]:
        time.sleep(0.5)
        yield noise

    def quick() -> Iterator[bytes]:
        for _number in range(20):
            yield noise

    with spread([slow, quick, quick], 2) as results:
        for number, messages in enumerate((1, 20, 20)):
            for message in results.of(number):
                assert message == noise
                most = max(most, results._ahead)  # type: ignore[attr-defined]
                messages -= 1
            assert messages == 0
    # What was on the way when there was enough.
    assert most < 3 << 20


def test_failures_are_told() -> None:
    def fail() -> Iterator[bytes]:
        yield b"begun"
        raise HostError("cannot read /x: No such file")

    before = children()
    with spread([fail, fail], 2) as results, pytest.raises(HostError, match="cannot read /x: No such file"):
        list(results.of(0))
    assert children() == before


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("late", [False, True])
def test_a_process_that_is_killed_is_noticed(processes: int, late: bool) -> None:
    def killed() -> Iterator[bytes]:
        if late:
            yield b"begun"
        os.kill(os.getpid(), signal.SIGKILL)
        yield b"never"

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    before = children()
    with (
        spread([killed, endless, endless], processes) as results,
        pytest.raises(HostError, match="a process that reads layers was killed"),
    ):
        list(results.of(0))
    assert children() == before


def test_a_bug_in_a_job_does_not_go_on_as_the_parent_would() -> None:
    def broken() -> Iterator[bytes]:
        yield b"begun"
        raise KeyError

    with spread([broken, broken], 2) as results, pytest.raises(HostError, match="a process that reads layers was killed"):
        list(results.of(0))


def test_without_processes_this_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    opened = len(os.listdir("/proc/self/fd"))
    with spread([partial(count, 3), partial(count, 2)], 2) as results:
        assert [list(results.of(0)), list(results.of(1))] == [list(count(3)), list(count(2))]
    assert len(os.listdir("/proc/self/fd")) == opened


def test_no_descriptor_is_left() -> None:
    opened = len(os.listdir("/proc/self/fd"))
    for _number in range(3):
        with spread([partial(count, 3), partial(count, 2)], 2) as results:
            list(results.of(0))
    assert len(os.listdir("/proc/self/fd")) == opened


def test_processes_do_not_outlive_this_one() -> None:
    script = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from ansible_collections.slipway.node.plugins.module_utils.core.host.workers import spread
def job():
    yield b"%d" % __import__("os").getpid()
    time.sleep(600)
with spread([job, job], 2) as results:
    print(next(iter(results.of(0))).decode(), next(iter(results.of(1))).decode(), flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_running(pid) for pid in pids):
        time.sleep(0.01)
    assert len(pids) == 2 and not any(is_running(pid) for pid in pids)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
