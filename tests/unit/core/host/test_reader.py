# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts that hang are left out, and all other parts are read."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE, NO_ANSWER, HostError, MissingLibrary
from ansible_collections.slipway.node.plugins.module_utils.core.host.reader import Reader, read_in_process

# Longer than any part that doesn't hang takes on a busy machine.
PART = 1.5


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """Who opens it waits forever."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def parts(reads: dict[str, Callable[[], Any]], **options: bool) -> Callable[[Reader], dict[str, Any]]:
    """Read them all, or say why not."""

    def work(reader: Reader) -> dict[str, Any]:
        found = {}
        for name, read in reads.items():
            try:
                found[name] = reader.read(name, read, **options)
            except HostError as error:
                found[name] = str(error)
        return found

    return work


def full() -> None:
    raise HostError("the disk is full")


def test_parts_are_read_in_another_process() -> None:
    found = read_in_process(parts({"pid": os.getpid, "big": lambda: "x" * 300_000, "bad": full}), timeout=60, part_timeout=60)
    assert found["pid"] != os.getpid()
    assert (len(found["big"]), found["bad"]) == (300_000, "the disk is full")


def test_a_part_that_hangs_is_left_out(fifo: str) -> None:
    reads = {"one": lambda: 1, "hung": lambda: Path(fifo).read_text(), "two": lambda: 2, "more": lambda: Path(fifo).read_text()}
    found = read_in_process(parts(reads), timeout=60, part_timeout=PART)
    assert found == {"one": 1, "hung": f"{NO_ANSWER} {PART} seconds", "two": 2, "more": f"{NO_ANSWER} {PART} seconds"}


def test_no_part_is_read_twice(fifo: str, tmp_path: Path) -> None:
    def count() -> None:
        with (tmp_path / "count").open("a") as stream:
            stream.write("x")

    read_in_process(parts({"count": count, "hung": lambda: Path(fifo).read_text()}), timeout=60, part_timeout=PART)
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize("patient", [False, True])
def test_what_has_been_read_by_the_deadline_is_returned(fifo: str, patient: bool) -> None:
    reads = {"one": lambda: 1, "hung": lambda: Path(fifo).read_text(), "two": lambda: 2}
    found = read_in_process(parts(reads, patient=patient), timeout=PART, part_timeout=60)
    assert found == {"one": 1, "hung": f"{LATE} {PART} seconds (timeout)", "two": f"{LATE} {PART} seconds (timeout)"}


def test_programs_that_hang_are_killed(tmp_path: Path) -> None:
    def start() -> None:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        (tmp_path / "pid").write_text(str(pid))
        os.waitpid(pid, 0)

    read_in_process(parts({"program": start}), timeout=60, part_timeout=PART)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    # A process that was killed ends when it is scheduled the next time.
    deadline = time.monotonic() + 60
    while is_running(status) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(status)


def is_running(status: Path) -> bool:
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begun(reads: dict[str, Callable[[], Any]], **options: Callable[[], Any]) -> Callable[[Reader], dict[str, Any]]:
    """Begin all of them, and then read them, or say why not."""

    def work(reader: Reader) -> dict[str, Any]:
        reader.begin(reads, **options)
        found = {}
        for name in reads:
            try:
                found[name] = reader.read(name)
            except HostError as error:
                found[name] = str(error)
        return found

    return work


def test_parts_that_are_begun_are_read_at_the_same_time() -> None:
    both = threading.Barrier(2)
    found = read_in_process(begun({"one": both.wait, "two": both.wait, "bad": full}), timeout=60, part_timeout=60)
    assert (sorted((found["one"], found["two"])), found["bad"]) == ([0, 1], "the disk is full")


def test_what_is_needed_first_is_done_once_and_before_the_parts() -> None:
    done: list[int] = []
    reads = {"one": lambda: len(done), "two": lambda: len(done)}
    found = read_in_process(begun(reads, first=lambda: done.append(1)), timeout=60, part_timeout=60)
    assert found == {"one": 1, "two": 1}


def test_a_part_that_is_begun_and_hangs_is_left_out_and_not_begun_again(fifo: str, tmp_path: Path) -> None:
    def hang() -> None:
        with (tmp_path / "count").open("a") as stream:
            stream.write("x")
        Path(fifo).read_text()

    found = read_in_process(begun({"hung": hang, "one": lambda: 1}), timeout=60, part_timeout=5)
    assert found == {"hung": f"{NO_ANSWER} 5 seconds", "one": 1}
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize("error", [HostError("full", exit_code=3), ValueError("wrong"), MissingLibrary("tomlkit")])
def test_errors_are_the_same_as_without_it(error: Exception) -> None:
    def work(reader: Reader) -> None:
        raise error

    with pytest.raises(type(error), match=str(error.args[0])):
        read_in_process(work, timeout=60, part_timeout=60)


def test_an_unexpected_error_names_its_place() -> None:
    def work(reader: Reader) -> None:
        raise KeyError("lost")

    with pytest.raises(RuntimeError, match=r"test_reader.*(?s:.*)lost"):
        read_in_process(work, timeout=60, part_timeout=60)


def test_a_process_that_is_killed_is_an_error() -> None:
    with pytest.raises(HostError, match="was killed"):
        read_in_process(lambda reader: os.kill(os.getpid(), signal.SIGKILL), timeout=60, part_timeout=60)
