# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import run_program

# What ctr does: take the terminal that it stands on, and read a line there.
ASKS = """
import os, sys, termios
attributes = termios.tcgetattr(0)
attributes[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, attributes)
print("Password: ", flush=True)
sys.stdout.buffer.write(os.read(0, 5000))
"""


@pytest.mark.parametrize("secret", ["plain", "p4ss w$rd:'\"\\\\", "ünïcödé", "x" * 4000, "a\x03b\x04c"])
def test_a_secret_arrives_as_it_is_and_shows_nowhere_else(secret: str) -> None:
    output = run_program([sys.executable, "-c", ASKS], timeout=20, secret=secret)
    assert output.code == 0, output
    assert output.stdout == f"Password: \n{secret}\n".encode()


@pytest.mark.parametrize("null", [os.devnull, "/dev/missing"])
def test_without_a_secret_there_is_nothing_to_read(null: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "devnull", null)
    output = run_program([sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"], timeout=20)
    assert (output.code, output.stdout, output.stderr) == (0, b"0\n", "")


def test_a_program_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(HostError, match=r"took more than 0.2 seconds"):
        run_program(["sleep", "60"], timeout=0.2)
    assert time.monotonic() - started < 30


def test_a_program_whose_server_is_gone_is_ended(tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    with pytest.raises(HostError, match=f"not answered at {address} for 0 seconds"):
        run_program(["sleep", "60"], timeout=50, server=address, patience=0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen(9)
        output = run_program(["sh", "-c", "echo one; sleep 2; echo two"], timeout=50, server=address, patience=0)
    assert output.stdout == b"one\ntwo\n"


def test_a_program_that_is_not_there_is_an_error_of_the_node() -> None:
    with pytest.raises(HostError, match="cannot run /nowhere/ctr: No such file"):
        run_program(["/nowhere/ctr"], timeout=1)


CHATTY = "import sys; sys.stdout.write('x' * 1000000); sys.stdout.flush(); print(len(sys.stdin.buffer.read()))"


def test_a_fed_program_may_talk_before_it_has_eaten() -> None:
    def feed(stream: IO[bytes]) -> None:
        for _ in range(100):
            stream.write(bytes(100_000))

    assert run_program([sys.executable, "-c", CHATTY], timeout=60, feed=feed).stdout.endswith(b"x10000000\n")


def too_much(stream: IO[bytes]) -> None:
    stream.write(bytes(10_000_000))


def test_a_fed_program_may_end_early() -> None:
    output = run_program(["sh", "-c", "echo no >&2; exit 3"], timeout=20, feed=too_much)
    assert (output.code, output.stderr) == (3, "no\n")


def test_what_goes_wrong_while_feeding_is_not_lost() -> None:
    def feed(stream: IO[bytes]) -> None:
        raise HostError("the archive is damaged")

    with pytest.raises(HostError, match="the archive is damaged"):
        run_program(["cat"], timeout=20, feed=feed)


def test_a_descriptor_stays_open_in_the_program(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert run_program(["test", "-e", f"/proc/self/fd/{descriptor}"], timeout=20).code == 1
        assert run_program(["test", "-e", f"/proc/self/fd/{descriptor}"], timeout=20, inherit=[descriptor]).code == 0
    finally:
        os.close(descriptor)
