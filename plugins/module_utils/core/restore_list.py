# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that the restore script of an upgrade reads: the list of a generation, and the journal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STATE_DIRECTORY = "/var/lib/slipway-node"
GENERATIONS = f"{STATE_DIRECTORY}/generations"
JOURNAL = f"{STATE_DIRECTORY}/upgrading"
# In a directory that is empty after a boot: there while a run is at work.
AT_WORK = "/run/slipway-upgrading"

FILE, LINK, ABSENT, PACKAGES, DATABASE = "file", "link", "absent", "packages", "database"

# The steps of an upgrade, in their order. In the first and in the last two there is nothing to restore.
KEEPING, KEPT, SWITCHING, STARTED, RESTORED, COMMITTED = "keeping", "kept", "switching", "started", "restored", "committed"
STEPS = (KEEPING, KEPT, SWITCHING, STARTED, RESTORED, COMMITTED)
SETTLED = (RESTORED, COMMITTED)

# The script splits lines at tabs.
_UNSAFE = re.compile(r"[\t\n\r\0]")


@dataclass(frozen=True)
class Kept:
    """An object of a generation. ``path`` is its place on the node, ``copy`` that in the generation's directory.

    A file has ``mode`` (0o7777), ``uid`` and ``gid``, a link its ``target``. ABSENT: there was nothing at ``path``.
    PACKAGES: ``copy`` is a directory with the archives of packages.
    """

    kind: str
    path: str = ""
    copy: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    target: str = ""

    def line(self) -> str:
        """Return the object's line. Raises ValueError for a path that a line can't hold."""
        fields = {
            FILE: (f"{self.mode:04o}", str(self.uid), str(self.gid), self.copy, self.path),
            LINK: (self.target, self.path),
            ABSENT: (self.path,),
            PACKAGES: (self.copy,),
            DATABASE: (self.copy, self.path),
        }[self.kind]
        wrong = next((field for field in fields if not field or _UNSAFE.search(field)), None)
        if wrong is not None:
            raise ValueError(f"the path {wrong!r} can't be kept: rename it, so that it has no tab and no newline")
        return "\t".join((self.kind, *fields))

    @classmethod
    def from_line(cls, line: str) -> Kept:
        """Parse a line. Raises ValueError."""
        kind, *fields = line.split("\t")
        try:
            if kind == FILE:
                mode, uid, gid, copy, path = fields
                return cls(kind, path, copy, int(mode, 8), int(uid), int(gid))
            if kind == LINK:
                target, path = fields
                return cls(kind, path, target=target)
            if kind == DATABASE:
                copy, path = fields
                return cls(kind, path, copy)
            [only] = fields
            return {ABSENT: cls(kind, only), PACKAGES: cls(kind, copy=only)}[kind]
        except (ValueError, KeyError) as error:
            raise ValueError(f"the line {line!r} of the list is damaged") from error


def list_text(objects: Iterable[Kept]) -> str:
    """Return the list of a generation. Raises ValueError for a path that it can't hold."""
    return "".join(f"{one.line()}\n" for one in objects)


def parse_list(text: str) -> tuple[Kept, ...]:
    """Parse the list of a generation. Raises ValueError."""
    return tuple(Kept.from_line(line) for line in text.splitlines() if line)


@dataclass(frozen=True)
class Journal:
    """An upgrade that has begun: the generation to go back to, the step, and whether its databases go back too."""

    generation: int
    step: str
    databases: bool = False

    def to_text(self) -> str:
        """Return the journal as lines KEY=VALUE."""
        return f"GENERATION={self.generation}\nSTEP={self.step}\nDATABASES={'restore' if self.databases else 'keep'}\n"

    @classmethod
    def from_text(cls, text: str) -> Journal:
        """Parse a journal. Raises ValueError."""
        values: Mapping[str, str] = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        generation, step = values.get("GENERATION", ""), values.get("STEP", "")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", generation) or step not in STEPS:
            raise ValueError("it is damaged")
        return cls(int(generation), step, values.get("DATABASES") == "restore")


def interrupted(text: str | None) -> str:
    """Return why no run may change the node while there is this journal; empty if one may."""
    try:
        settled = text is None or Journal.from_text(text).step in SETTLED
    except ValueError:
        settled = False
    return "" if settled else "an upgrade of this node was interrupted: run slipway.node.upgrade first, which takes it back"
