# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run programs in parallel, with a deadline, or with a password, which AnsibleModule.run_command can't do."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import open_null
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import answers

# ctr warns of deprecated settings on stderr; what a program prints is parsed, so it speaks C's language.
ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "C", "TZ": "UTC", "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"}
# ctr reads one line of at most this many bytes: bufio's default buffer.
SECRET_BYTES = 4000
# A daemon that is restarted is away for less.
PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Output:
    """The result of a program; ``stdout`` as bytes, since digests are computed from it."""

    code: int
    stdout: bytes
    stderr: str


def run_program(
    argv: Sequence[str],
    *,
    timeout: float,
    secret: str | None = None,
    feed: Callable[[IO[bytes]], None] | None = None,
    inherit: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    server: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Output:
    """Run it to its end, with nothing on its standard input unless ``secret`` or ``feed`` is given.

    ``secret`` is what it reads when it asks for a password at its terminal, so that no one sees it among its
    arguments. ``feed`` writes its standard input. ``inherit`` are descriptors that stay open in it. ``environment`` are
    variables in addition to those of this process. ``server`` is the address that it talks to. Raises HostError if it can't
    be started, takes more than ``timeout`` seconds, or nobody has answered there for ``patience`` seconds; it is killed then.
    """
    with _standard_input(secret, feed) as stdin:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {}), **ENVIRONMENT},
                pass_fds=tuple(inherit),
            )
        except OSError as error:
            raise HostError(f"cannot run {argv[0]}: {error.strerror or error}") from error
        feeder = None
        if feed is not None and process.stdin is not None:
            # Else communicate would close it.
            stream, process.stdin = process.stdin, None
            feeder = _Feeder(stream, feed)
        try:
            stdout, stderr = _communicate(process, timeout, server, patience)
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{argv[0]} took more than {timeout:g} seconds") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if feeder is not None:
            feeder.end()
    return Output(process.returncode, stdout, stderr.decode(errors="replace"))


def _communicate(process: subprocess.Popen[bytes], timeout: float, server: str | None, patience: float) -> tuple[bytes, bytes]:
    """Read the output. ctr 1.6 retries a stopped daemon until it is killed."""
    if server is None:
        return process.communicate(timeout=timeout)
    started = heard = time.monotonic()
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now - started >= timeout:
                raise
        if answers(server):
            heard = now
        elif now - heard >= patience:
            raise HostError(f"containerd has not answered at {server} for {patience:g} seconds: see why it stopped, and start it")


class _Feeder:
    """Writes a program's standard input while its output is read: each could fill up and wait for the other."""

    def __init__(self, stream: IO[bytes], feed: Callable[[IO[bytes]], None]) -> None:
        self._stream = stream
        self._feed = feed
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._stream:
                self._feed(self._stream)
        except BrokenPipeError:
            pass  # it has ended early, and says why
        except (OSError, HostError, ValueError) as error:
            self._trouble = error

    def end(self) -> None:
        """Raise what went wrong while reading what it was to be fed with."""
        self._thread.join()
        if self._trouble is not None:
            raise HostError(str(self._trouble)) from self._trouble


@contextmanager
def _standard_input(secret: str | None, feed: Callable[[IO[bytes]], None] | None) -> Iterator[int]:
    if feed is not None:
        yield subprocess.PIPE
    elif secret is None:
        null = open_null()
        try:
            yield null
        finally:
            os.close(null)
    else:
        with _terminal(secret) as terminal:
            yield terminal


@contextmanager
def _terminal(secret: str) -> Iterator[int]:
    """Open a terminal at which the secret has been typed; bytes arrive unchanged, without echo."""
    master, slave = pty.openpty()
    try:
        attributes = termios.tcgetattr(slave)
        attributes[0] &= ~(termios.ICRNL | termios.INLCR | termios.IXON | termios.ISTRIP)
        attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        os.write(master, secret.encode() + b"\n")
        yield slave
    finally:
        os.close(slave)
        os.close(master)
