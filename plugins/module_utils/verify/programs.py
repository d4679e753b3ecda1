# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs that a handler's containers need, and whether the kernel can run them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Bytes of a file that show its type. A script's first line is shorter (execve(2)).
HEAD_BYTES = 4096
# The media types of layers that are neither encrypted nor of another project.
_OCI, _DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
PLAIN_LAYERS = frozenset({_OCI, f"{_OCI}+gzip", f"{_OCI}+zstd", _DOCKER, f"{_DOCKER}.gzip"})
_ELF = b"\x7fELF"
# e_machine in the header of ELF (elf.h), by Go's name of the architecture. The second one is the 32-bit architecture that the
# kernel may run as well.
_MACHINES: dict[str, tuple[int, ...]] = {
    "amd64": (62, 3),
    "arm64": (183, 40),
    "arm/v7": (40,),
    "ppc64le": (21,),
    "s390x": (22,),
    "riscv64": (243,),
}


@dataclass(frozen=True)
class Program:
    """A program with the name by which it is searched, and its path. ``problem`` is why it can't be run."""

    name: str
    path: str | None
    problem: str = ""

    def sentence(self) -> str:
        """Return the fault in one sentence, empty if there is none."""
        if self.path is None:
            return f"{self.name} {self.problem or 'is not on the PATH of the daemon'}"
        return f"{self.path} {self.problem}" if self.problem else ""


def head_problem(head: bytes, architecture: str) -> str:
    """Return why the kernel can't run a file that begins like this; empty if it can, or for a script."""
    if not head:
        return "is empty"
    if head.startswith(b"#!"):
        return "" if interpreter(head) else "is a script that names no interpreter"
    if not head.startswith(_ELF) or len(head) < 20:
        return "is neither a program nor a script"
    machine = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
    known = _MACHINES.get(architecture)
    if known is not None and machine not in known:
        return f"is a program for another architecture than {architecture}"
    return ""


def answer_problem(code: int, said: str, option: str) -> str:
    """Return why the answer of a program to a request for its version shows damage or another program; empty if it doesn't."""
    if code:
        last = (said.strip().splitlines() or ["nothing"])[-1]
        return f"can't be run: with {option} it ends with {code}, and says {last}"
    return "" if re.search(r"\d\.\d", said) else f"is damaged, or another program: with {option} it prints no version"


def spec_needs(text: str) -> tuple[str, ...]:
    """Return the programs of the hooks in an OCI specification. Raises ValueError if runc can't start a container from it."""
    tree = json.loads(text)
    if not isinstance(tree, Mapping):
        raise ValueError("it is no object")
    if not any(mount.get("destination") == "/proc" for mount in tree.get("mounts") or ()):
        raise ValueError("it mounts no /proc: write it again with 'ctr oci spec'")
    hooks = tree.get("hooks") or {}
    return tuple(hook["path"] for several in hooks.values() for hook in several or () if hook.get("path"))


def interpreter(head: bytes) -> str:
    """Return the interpreter that a script names in its first line; empty if it names none, or is no script."""
    words = head[2:].split(b"\n", 1)[0].split() if head.startswith(b"#!") else []
    return words[0].decode(errors="surrogateescape") if words else ""
