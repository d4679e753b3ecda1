# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A systemd unit: its state, and starting it again."""

from __future__ import annotations

import os
import time

from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import (
    UNIT_PROPERTIES,
    UnitStatus,
    boot_complaints,
    missing_requirements,
)

# journald reads what a daemon writes when it gets round to it, and the last words come last.
_JOURNAL_LOOKS = 6
_ANALYZE_SECONDS = 20.0
# The inverse properties of Requires=, Requisite=, BindsTo= and PartOf=.
_STOPPED_WITH = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf")
_JOURNAL_SECONDS = 0.2

# Where systemd finds units, those of the administrator first.
_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_MULTI_USER = "multi-user.target"
_STARTED_BY = ("WantedBy", "RequiredBy", "UpheldBy", "TriggeredBy")


class Unit:
    """Raises HostError where systemd refuses."""

    def __init__(self, runner: Runner, name: str) -> None:
        self._runner = runner
        self.name = name

    def status(self) -> UnitStatus:
        arguments = [f"--property={','.join(UNIT_PROPERTIES)}", "--", self.name]
        return UnitStatus.parse(self._runner.run("systemctl", "show", *arguments, doing=f"ask systemd about {self.name}"))

    def program(self) -> str | None:
        """Return the command that systemd would run now; None if it doesn't know the unit, or has to reload it first."""
        status = self.status()
        place = f"/etc/systemd/system/{self.name}"
        if status.needs_reload or (os.path.exists(place) and place not in status.files):
            return None
        return status.program or None

    def default_target(self) -> str:
        """Return the target that systemd starts at boot, as far as no option of the kernel names another one."""
        links = (os.path.join(directory, "default.target") for directory in _DIRECTORIES)
        return next((os.path.basename(os.path.realpath(link)) for link in links if os.path.islink(link)), _MULTI_USER)

    def starts_at_boot(self) -> bool:
        """Return whether the default target, or a unit that it starts, starts this one. Raises HostError."""
        target = self.default_target()
        usual = {target, _MULTI_USER} if target == "graphical.target" else {target}
        if any(os.path.lexists(f"{_DIRECTORIES[0]}/{name}.wants/{self.name}") for name in usual):
            return True
        seen: set[str] = set()
        names = {self.name}
        while names and target not in names:
            seen |= names
            arguments = [f"--property={','.join(_STARTED_BY)}", "--", *sorted(names)]
            shown = self._runner.run("systemctl", "show", *arguments, doing=f"ask systemd what starts {self.name}")
            names = {name for line in shown.splitlines() for name in line.partition("=")[2].split()} - seen
        return bool(names)

    def analysis(self) -> str:
        """Return what systemd says of its files and of its start at boot; empty on a node without systemd-analyze."""
        program = self._runner.find("systemd-analyze")
        if program is None:
            return ""
        done = self._runner.try_run(program, "verify", "--man=no", self.default_target(), self.name, timeout=_ANALYZE_SECONDS)
        return done.stderr + done.stdout

    def boot_complaints(self, analysis: str, *, conditional: bool) -> tuple[str, ...]:
        """Return why systemd may not start it at boot, from its ``analysis``. ``conditional``: its files have conditions."""
        program, conditions = self._runner.find("systemd-analyze"), ""
        if conditional and program is not None:
            # Since systemd 250; an older one prints nothing of the kind.
            done = self._runner.try_run(program, "condition", f"--unit={self.name}", timeout=_ANALYZE_SECONDS)
            conditions = done.stderr + done.stdout
        # Units that generators make, such as those of fstab(5), aren't part of the analysis.
        missing = [one for one in missing_requirements(self.name, analysis) if not self.another(one).status().loaded]
        return (
            *boot_complaints(self.name, conditions, analysis),
            *(f"it needs {one}, which is not installed" for one in missing),
        )

    def reload_manager(self) -> None:
        self._runner.run("systemctl", "daemon-reload", doing="reload systemd")

    def restart(self) -> None:
        """Start it again, also when it has failed too often to be started (its start limit)."""
        self._runner.try_run("systemctl", "reset-failed", "--", self.name)
        self._runner.run("systemctl", "restart", "--", self.name, doing=f"restart {self.name}")

    def enable(self) -> None:
        self._runner.run("systemctl", "enable", "--", self.name, doing=f"enable {self.name}")

    def disable(self) -> None:
        self._runner.run("systemctl", "disable", "--", self.name, doing=f"disable {self.name}")

    def start(self) -> bool:
        """Start it, also when it has failed too often; whether systemd says that it has started."""
        self._runner.try_run("systemctl", "reset-failed", "--", self.name)
        return self._runner.try_run("systemctl", "start", "--", self.name).code == 0

    def stop(self) -> bool:
        """Stop it; whether systemd says that it has stopped."""
        return self._runner.try_run("systemctl", "stop", "--", self.name).code == 0

    def another(self, name: str) -> Unit:
        """Return another unit of the node."""
        return Unit(self._runner, name)

    def forget_failures(self) -> None:
        """Reset the failures of the unit, and their number."""
        self._runner.try_run("systemctl", "reset-failed", "--", self.name)

    def stopped_with(self) -> tuple[str, ...]:
        """Return the active units that systemd stops when it stops this one: systemd.unit(5)."""
        arguments = [*(f"--property={name}" for name in _STOPPED_WITH), "--", self.name]
        shown = self._runner.run("systemctl", "show", *arguments, doing=f"ask systemd about {self.name}")
        names = dict.fromkeys(name for line in shown.splitlines() for name in line.partition("=")[2].split())
        return tuple(name for name in names if self._runner.try_run("systemctl", "is-active", "--quiet", "--", name).code == 0)

    def journal(self, since: float, lines: int = 100) -> list[str]:
        """Return the last lines that the unit logged since a moment (seconds since the epoch), oldest first.

        Empty if there is no journal. Returns when no more lines come.
        """
        logged = self._logged(since, lines)
        for _look in range(_JOURNAL_LOOKS):
            time.sleep(_JOURNAL_SECONDS)
            before, logged = logged, self._logged(since, lines)
            if logged == before:
                break
        return logged

    def _logged(self, since: float, lines: int) -> list[str]:
        options = ("--since", f"@{since:.6f}", "--lines", str(lines), "--no-pager", "--output", "cat")
        result = self._runner.try_run("journalctl", "--unit", self.name, *options)
        return result.stdout.splitlines() if result.code == 0 else []
