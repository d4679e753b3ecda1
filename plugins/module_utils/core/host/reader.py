# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a node part by part, with a limit for each part: a part that hangs is left out, and the others are read.

A file system whose server is gone answers neither a signal nor, while the request is there, a SIGKILL. So another process reads,
which isn't waited for if it hangs. Another one then goes on with the parts that are left.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE, NO_ANSWER, HostError, MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.host.detached import detach

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_BEGIN, _END, _RESULT, _ERROR, _FAILED = range(5)
_FRAME = struct.Struct("<I")
# A process that was killed and isn't gone by then hangs in the kernel.
_KILL_SECONDS = 1.0
_FIRST_POLL_SECONDS = 0.001
_POLL_SECONDS = 0.02


class Reader:
    """Reads parts by name. ``timeout`` in seconds is the limit of all parts together, ``part_timeout`` that of one.

    It remembers what has been read, and why a part couldn't be.
    """

    def __init__(self, timeout: float, part_timeout: float) -> None:
        self._timeout = timeout
        self._part_timeout = part_timeout
        self._deadline = time.monotonic() + timeout
        self._known: dict[str, tuple[Any, str]] = {}
        self._begun: dict[str, Future[Any]] = {}
        self._tell: Callable[..., None] = lambda *message: None

    def begin(self, reads: Mapping[str, Callable[[], Any]], *, first: Callable[[], Any] = lambda: None) -> None:
        """Begin to read parts at the same time, so that ``read`` only waits for them. ``first`` is done before all of them."""
        # One thread for each: a part that hangs holds up no other.
        pool = ThreadPoolExecutor(len(reads) + 1)
        ready = pool.submit(first)

        def read_when_ready(read: Callable[[], Any]) -> Any:
            wait([ready])
            return read()

        unknown = {name: read for name, read in reads.items() if name not in self._known}
        self._begun.update({name: pool.submit(read_when_ready, read) for name, read in unknown.items()})

    def read(self, name: str, read: Callable[[], Any] | None = None, *, patient: bool = False) -> Any:
        """Return a part. ``read`` None: it was begun. ``patient``: it has no limit of its own.

        Raises HostError if it can't be read, or not in time.
        """
        if name not in self._known:
            if time.monotonic() >= self._deadline:
                raise HostError(self._late)
            self._tell(_BEGIN, name, patient)
            try:
                self._known[name] = (self._begun[name].result() if read is None else read(), "")
            except HostError as error:
                self._known[name] = (None, str(error))
            self._tell(_END, name, self._known[name])
        value, trouble = self._known[name]
        if trouble:
            raise HostError(trouble)
        return value

    @property
    def _late(self) -> str:
        return f"{LATE} {self._timeout:g} seconds (timeout)"

    def follow(self, output: int) -> tuple[int, Any] | None:
        """Return the last message of the process that reads; None if a part hangs, which is known to hang then.

        Raises HostError if the process ends early, or hangs without a part.
        """
        name, patient = "", False
        while True:
            limit = self._deadline - time.monotonic()
            if not patient or not name:
                limit = min(limit, self._part_timeout) if name else self._part_timeout
            try:
                kind, *message = _receive(output, limit)
            except TimeoutError as error:
                if not name:
                    raise HostError(f"cannot read the node: {NO_ANSWER} {self._part_timeout:g} seconds") from error
                late = time.monotonic() >= self._deadline
                self._known[name] = (None, self._late if late else f"{NO_ANSWER} {self._part_timeout:g} seconds")
                return None
            if kind == _BEGIN:
                name, patient = message
            elif kind == _END:
                self._known[message[0]] = message[1]
                name = ""
            else:
                return kind, message[0]

    def work(self, work: Callable[[Reader], Any], target: int) -> None:
        """Run the work in this process, and send each part and the result to the parent."""
        self._tell = lambda *message: _send(target, message)
        try:
            self._tell(_RESULT, work(self))
        except (HostError, MissingLibrary, ValueError) as error:
            self._tell(_ERROR, error)


def read_in_process(work: Callable[[Reader], T], *, timeout: float, part_timeout: float) -> T:
    """Return the result of ``work``, which reads with the reader that it gets, and may be started again.

    Raises HostError, MissingLibrary and ValueError as ``work`` does.
    """
    reader = Reader(timeout, part_timeout)
    while True:
        output, target = os.pipe()
        parent, pid = os.getpid(), os.fork()
        if not pid:
            os.close(output)
            _child(reader, work, target, parent)
        os.close(target)
        outcome = None
        try:
            outcome = reader.follow(output)
        finally:
            os.close(output)
            _end(pid)
        if outcome is None:
            continue
        kind, value = outcome
        if kind == _RESULT:
            found: T = value
            return found
        raise value if kind == _ERROR else RuntimeError(value)


def _child(reader: Reader, work: Callable[[Reader], Any], target: int, parent: int) -> None:
    status = 1
    try:
        detach()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            reader.work(work, target)
        status = 0
    finally:
        if status:
            with suppress(OSError):
                _send(target, (_FAILED, traceback.format_exc()))
        # Nothing of what the parent would do at its end.
        os._exit(status)


def _send(target: int, message: tuple[Any, ...]) -> None:
    content = pickle.dumps(message)
    frame = memoryview(_FRAME.pack(len(content)) + content)
    while frame:
        frame = frame[os.write(target, frame) :]


def _receive(output: int, seconds: float) -> Any:
    until = time.monotonic() + seconds
    (size,) = _FRAME.unpack(_read(output, _FRAME.size, until))
    return pickle.loads(_read(output, size, until))  # noqa: S301 it comes from a process of this module


def _read(output: int, size: int, until: float) -> bytes:
    received = b""
    while len(received) < size:
        if not select.select([output], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(output, size - len(received))
        if not part:
            raise HostError("cannot read the node: the process that reads it was killed")
        received += part
    return received


def _end(pid: int) -> None:
    """End the process with the programs that it has started; one that hangs in the kernel is left alone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    until = time.monotonic() + _KILL_SECONDS
    seconds = _FIRST_POLL_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < until:
        time.sleep(seconds)
        seconds = min(2 * seconds, _POLL_SECONDS)
