# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work spread over the cores, by processes that are forked off, have all that this one has, and don't outlive it.

Jobs are begun in their order, each by a free worker, and their messages are to be read in that order too. What comes early
is kept, but not without limit: a process that is far ahead has to wait.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError

Job = Callable[[], Iterator[bytes]]

# More would take more memory than they are worth.
_MOST_PROCESSES = 4
_PR_SET_PDEATHSIG = 1
_BEGIN, _MESSAGE, _END, _FAILED = range(4)
# Number of the job, what this is, and how many bytes follow.
_FRAME = struct.Struct("<IBI")
_TICKET = struct.Struct("<I")
_READ_BYTES = 1 << 16
_AHEAD_BYTES = 8 << 20
_ENDED = "a process that reads layers was killed: check whether the node is short of memory"


def cores() -> int:
    """Return the number of processes to share work between: the usable cores, up to a maximum."""
    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


class Results:
    """Runs each job when its messages are asked for, in this process."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def of(self, number: int) -> Iterator[bytes]:
        """Yield the messages of a job; read all of them before those of the next job."""
        return self._jobs[number]()


@contextmanager
def spread(jobs: Sequence[Job], processes: int) -> Iterator[Results]:
    """Run jobs in other processes, or in this one if it can't start or doesn't need others. Yields their results.

    Reading their messages raises HostError where a job does, or a process ends too early.
    """
    processes = min(processes, len(jobs))
    pool = _start(jobs, processes) if processes > 1 else None
    if pool is None:
        yield Results(jobs)
        return
    try:
        yield pool
    finally:
        pool.end()


@dataclass
class _Process:
    """``output`` is where its messages come from, None if it has ended; ``job`` is what it is known to work on, else -1."""

    pid: int
    output: int | None
    job: int = -1
    received: bytearray = field(default_factory=bytearray)

    def end(self) -> int:
        """Wait for it; returns its status."""
        if self.output is not None:
            os.close(self.output)
            self.output = None
        return os.waitpid(self.pid, 0)[1]


class _Pool(Results):
    def __init__(self, jobs: Sequence[Job], processes: Sequence[_Process]) -> None:
        super().__init__(jobs)
        self._processes = processes
        self._waiting: dict[int, deque[tuple[int, bytes]]] = {}
        self._ahead = 0

    def of(self, number: int) -> Iterator[bytes]:
        frames = self._waiting.setdefault(number, deque())
        while True:
            while not frames:
                self._receive(number)
            kind, content = frames.popleft()
            self._ahead -= len(content)
            if kind == _END:
                del self._waiting[number]
                return
            text = zlib.decompress(content)
            if kind == _FAILED:
                raise HostError(text.decode())
            yield text

    def end(self) -> None:
        for process in self._processes:
            if process.output is not None:
                os.kill(process.pid, signal.SIGKILL)
                process.end()

    def _receive(self, wanted: int) -> None:
        """Read more messages; while many are buffered, only from workers whose job is wanted, or may come to it."""
        full = self._ahead > _AHEAD_BYTES
        heard = {one.output: one for one in self._processes if one.output is not None and not (full and one.job > wanted)}
        poll = select.poll()
        for output in heard:
            poll.register(output, select.POLLIN)
        if not heard:
            raise HostError(_ENDED)
        for output, _event in poll.poll():
            process = heard[output]
            received = os.read(output, _READ_BYTES)
            process.received += received
            self._sort(process)
            if not received and process.end() != 0:
                raise HostError(_ENDED)

    def _sort(self, process: _Process) -> None:
        at = 0
        while len(process.received) >= at + _FRAME.size:
            number, kind, size = _FRAME.unpack_from(process.received, at)
            end = at + _FRAME.size + size
            process.job = number
            if len(process.received) < end:
                break
            if kind != _BEGIN:
                content = bytes(process.received[at + _FRAME.size : end])
                self._waiting.setdefault(number, deque()).append((kind, content))
                self._ahead += size
            at = end
            if kind == _END:
                process.job = -1
        del process.received[:at]


def _start(jobs: Sequence[Job], count: int) -> _Pool | None:
    """Start the processes; return None if no other processes can be started."""
    # Holds one ticket with the number of the next job: the worker that takes it puts back that of the next but one.
    tickets = os.pipe()
    os.write(tickets[1], _TICKET.pack(0))
    processes: list[_Process] = []
    gc.freeze()
    try:
        with suppress(OSError):
            while len(processes) < count:
                processes.append(_fork(jobs, tickets))
    finally:
        gc.unfreeze()
        for descriptor in tickets:
            os.close(descriptor)
    return _Pool(jobs, processes) if processes else None


def _fork(jobs: Sequence[Job], tickets: tuple[int, int]) -> _Process:
    output, target = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(output)
        os.close(target)
        raise
    if pid:
        os.close(target)
        return _Process(pid, output)
    status = 1
    try:
        os.close(output)
        # What this process shares with its parent must not be held any longer than by that one.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _work(jobs, tickets, target)
            status = 0
    finally:
        # Nothing of what the parent would do at its end.
        os._exit(status)


def _work(jobs: Sequence[Job], tickets: tuple[int, int], target: int) -> None:
    while True:
        (number,) = _TICKET.unpack(os.read(tickets[0], _TICKET.size))
        os.write(tickets[1], _TICKET.pack(number + 1))
        if number >= len(jobs):
            return
        # The parent has to know what is being worked on.
        _send(target, number, _BEGIN, b"")
        try:
            for message in jobs[number]():
                _send(target, number, _MESSAGE, zlib.compress(message, 1))
        except HostError as error:
            _send(target, number, _FAILED, zlib.compress(str(error).encode()))
        _send(target, number, _END, b"")


def _send(target: int, number: int, kind: int, content: bytes) -> None:
    frame = memoryview(_FRAME.pack(number, kind, len(content)) + content)
    while frame:
        frame = frame[os.write(target, frame) :]
