# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A systemd unit as ``systemctl show`` describes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

UNIT_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "NRestarts",
    "KillMode",
    "UnitFileState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "Result",
    "ExecStart",
    "ExecMainStartTimestamp",
)
_PROGRAM = re.compile(r"path=(\S+)")


@dataclass(frozen=True)
class Assignment:
    """One line KEY=VALUE of a unit's file, with the name of its section."""

    section: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


def assignments(text: str) -> list[Assignment]:
    """Return the assignments of a unit's file in order: systemd.syntax(7)."""
    section, found = "", []
    for line in map(str.strip, re.sub(r"\\\n", " ", text).splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and line[0] not in "#;":
            key, _equals, value = line.partition("=")
            found.append(Assignment(section, key.strip(), value.strip()))
    return found


_STARTED = re.compile(r"(\S+\.[a-z]+)/start\b")


def boot_complaints(name: str, conditions: str, transaction: str) -> tuple[str, ...]:
    """Return why systemd may not start a unit at boot: conditions that fail, ordering cycles, and missing units.

    ``conditions`` is what ``systemd-analyze condition`` prints, ``transaction`` what ``systemd-analyze verify`` says of boot.
    """
    lines, prefix = conditions.splitlines(), f"{name}: "
    # One of several with a | is enough.
    failing = {"Conditions failed.", "Asserts failed."}.intersection(lines)
    failed = [line[len(prefix) :] for line in lines if failing and line.startswith(prefix) and line.endswith(" failed.")]
    return tuple(one.rstrip(".") for one in failed) + tuple(_cycles(name, transaction))


def _cycles(name: str, transaction: str) -> Iterator[str]:
    """Yield a sentence for each ordering cycle of a unit, with its other units."""
    cycles: list[list[str]] = []
    for line in transaction.splitlines():
        if "Found ordering cycle" in line:
            cycles.append([])
        if cycles and ("ordering cycle" in line or "Found dependency on" in line) and "deleted to break" not in line:
            cycles[-1] += _STARTED.findall(line)
    for others in dict.fromkeys(tuple(sorted({*units} - {name})) for units in cycles if name in units):
        yield f"it is part of an ordering cycle with {', '.join(others) or 'itself'}, which systemd breaks by leaving out a unit"


def missing_requirements(name: str, transaction: str) -> tuple[str, ...]:
    """Return the units without which systemd can't start a unit, and that ``systemd-analyze verify`` does not find."""
    found = re.findall(rf"Failed to create {re.escape(name)}/start: Unit (\S+) not found", transaction)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class UnitStatus:
    """A unit in ``systemctl show``; the main PID is 0 when it doesn't run, ``program`` the program of ExecStart.

    ``started`` is when the main process was started, by the clock as it was then, in whole seconds since the epoch.
    """

    loaded: bool
    active: str
    sub: str
    pid: int
    restarts: int
    kill_mode: str
    enabled: str
    files: tuple[str, ...]
    needs_reload: bool
    result: str
    program: str = ""
    started: float | None = None

    @property
    def running(self) -> bool:
        return self.active == "active" and self.pid > 0

    @property
    def crashed(self) -> bool:
        """Whether it has ended by itself since it was last started by hand; systemd counts it when it starts it again."""
        return self.restarts > 0 or self.result not in ("", "success")

    @property
    def masked(self) -> bool:
        """Whether systemd will not start it, now or at boot."""
        return self.enabled.startswith("masked")

    @classmethod
    def parse(cls, stdout: str) -> UnitStatus:
        """Parse the KEY=VALUE lines of ``systemctl show``."""
        values = dict(line.split("=", 1) for line in stdout.splitlines() if "=" in line)
        files = [values.get("FragmentPath", ""), *values.get("DropInPaths", "").split()]
        program = _PROGRAM.search(values.get("ExecStart", ""))
        return cls(
            loaded=values.get("LoadState") == "loaded",
            active=values.get("ActiveState", "unknown"),
            sub=values.get("SubState", "unknown"),
            pid=int(values.get("MainPID") or 0),
            restarts=int(values.get("NRestarts") or 0),
            kill_mode=values.get("KillMode", ""),
            enabled=values.get("UnitFileState", ""),
            files=tuple(path for path in files if path),
            needs_reload=values.get("NeedDaemonReload") == "yes",
            result=values.get("Result", ""),
            program=program[1] if program else "",
            started=_moment(values.get("ExecMainStartTimestamp", "")),
        )


def _moment(text: str) -> float | None:
    """Parse a time of systemd such as "Sun 2026-11-29 15:36:38 UTC"; None for no time, and for another time zone."""
    try:
        return datetime.strptime(f"{text.partition(' ')[2]}+0000", "%Y-%m-%d %H:%M:%S UTC%z").timestamp()
    except ValueError:
        return None
