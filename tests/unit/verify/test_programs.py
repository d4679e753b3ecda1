# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.slipway.node.plugins.module_utils.verify.programs import (
    Program,
    answer_problem,
    head_problem,
    interpreter,
)

AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00"
S390X = b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16"


@pytest.mark.parametrize(
    ("head", "architecture", "words"),
    [
        (AMD64, "amd64", ""),
        (S390X, "s390x", ""),
        (AMD64, "sparc64", ""),
        (b"#!/bin/sh\n", "amd64", ""),
        (b"#! /usr/bin/env bash\n", "amd64", ""),
        (b"", "amd64", "is empty"),
        (b"\0\0\0\0", "amd64", "neither a program nor a script"),
        (b"echo runs\n", "amd64", "neither a program nor a script"),
        (AMD64, "arm64", "for another architecture than arm64"),
        (S390X, "amd64", "for another architecture than amd64"),
        (b"\x7fELF", "amd64", "neither a program nor a script"),
        (b"#!\n", "amd64", "names no interpreter"),
    ],
)
def test_a_files_head_says_whether_the_kernel_runs_it(head: bytes, architecture: str, words: str) -> None:
    problem = head_problem(head, architecture)
    assert words in problem
    assert bool(problem) is bool(words)


def test_a_32_bit_program_may_run_on_a_64_bit_kernel() -> None:
    i386 = b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00"
    assert head_problem(i386, "amd64") == ""


def test_the_interpreter_is_the_first_word_of_a_script() -> None:
    assert interpreter(b"#! /usr/bin/env bash\nexit\n") == "/usr/bin/env"
    assert interpreter(AMD64) == ""


def test_a_program_is_named_with_its_fault() -> None:
    assert Program("runc", None).sentence() == "runc is not on the PATH of the daemon"
    assert Program("runc", "/bin/runc", "is empty").sentence() == "/bin/runc is empty"
    assert Program("runc", "/bin/runc").sentence() == ""


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (0, "runc version 1.1.15\n", ""),
        (0, "containerd-shim-runc-v2:\n  Version:  2.3.7\n", ""),
        (0, "runsc version release-20260101.0\n", ""),
        (0, "", "with -v it prints no version"),
        (0, "garbage\n", "is damaged, or another program"),
        (127, "runc: cannot open shared object file\n", "it ends with 127, and says runc: cannot open"),
        (-11, "", "it ends with -11, and says nothing"),
    ],
)
def test_a_program_that_runs_tells_its_version(code: int, said: str, words: str) -> None:
    problem = answer_problem(code, said, "-v")
    assert words in problem
    assert bool(problem) is bool(words)
