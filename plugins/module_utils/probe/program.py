# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the probe's image: static, and it ends at once with an exit code of its own."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

# No runtime and no client ends with it: only the program itself does.
EXIT_CODE = 86

_LOAD_ADDRESS = 0x400000
_ELF_HEADER_BYTES, _PROGRAM_HEADER_BYTES = 64, 56
_PAGE_BYTES = 0x10000


@dataclass(frozen=True)
class _Machine:
    """``code`` calls exit(EXIT_CODE), in hexadecimal as it is in memory; ``number`` and ``flags`` are those of its ELF files."""

    number: int
    code: str
    flags: int = 0
    byte_order: str = "<"


# By the name that Go has for it, as containerd is released.
_MACHINES: Mapping[str, _Machine] = {
    # mov eax, 60; mov edi, 86; syscall
    "amd64": _Machine(62, "b83c000000 bf56000000 0f05"),
    # mov x0, 86; mov x8, 93; svc 0
    "arm64": _Machine(183, "c00a80d2 a80b80d2 010000d4"),
    # li r0, 1; li r3, 86; sc
    "ppc64le": _Machine(21, "01000038 56006038 02000044", flags=2),
    # li a0, 86; li a7, 93; ecall
    "riscv64": _Machine(243, "13056005 9308d005 73000000"),
    # lghi r2, 86; svc 1
    "s390x": _Machine(22, "a7290056 0a01", byte_order=">"),
}
ARCHITECTURES = tuple(_MACHINES)


def program(architecture: str) -> bytes:
    """Return the program for an architecture. Raises ValueError for an unknown one."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise ValueError(f"the probe has no program for {architecture}: it has one for {', '.join(ARCHITECTURES)}")
    code = bytes.fromhex(machine.code)
    start = _ELF_HEADER_BYTES + _PROGRAM_HEADER_BYTES
    size = start + len(code)
    # man 5 elf: ELFCLASS64, ELFDATA2LSB or ELFDATA2MSB, EV_CURRENT; ET_EXEC with one segment, PT_LOAD, readable and executable.
    identity = b"\x7fELF" + bytes((2, 1 if machine.byte_order == "<" else 2, 1)) + bytes(9)
    header = struct.pack(
        machine.byte_order + "HHIQQQIHHHHHH",
        *(2, machine.number, 1, _LOAD_ADDRESS + start, _ELF_HEADER_BYTES, 0, machine.flags),
        *(_ELF_HEADER_BYTES, _PROGRAM_HEADER_BYTES, 1, 0, 0, 0),
    )
    segment = struct.pack(machine.byte_order + "IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, _PAGE_BYTES)
    return identity + header + segment + code
