# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's change to another version as a whole: proven, or taken back by the restore script.

There is one way back, for a step that fails, for a run that was killed, and for a power cut: the script of the generation that
was kept before anything was changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import error_lines
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import (
    COMMITTED,
    DATABASE,
    JOURNAL,
    KEEPING,
    KEPT,
    RESTORED,
    SETTLED,
    STARTED,
    SWITCHING,
    Journal,
)
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import Report
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import Manifest, to_drop
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.proof import (
    Warn,
    check_answers,
    check_containers,
    check_default_handler,
    check_handlers,
    check_version,
    check_well,
    prove,
    running_containers,
    try_handlers,
    unadopted,
)


@dataclass(frozen=True)
class Change:
    """A change that is to be made as a whole.

    ``paths`` are all files and links that it may change, ``databases`` those of the daemon. ``keep_packages`` puts the archives
    of the installed packages into a directory; None if no package changes. ``databases_go_back``: the version of before can't
    open databases that the other one has written. ``switch`` puts programs in place while the daemon is stopped. ``start``
    makes systemd read its units again, starts the daemon and returns the client for it. Without ``strict``, the daemon of
    before may be broken. ``ends`` are containers that the version of after ends, as NAMESPACE/ID. ``target`` is the generation
    to which the node goes back: it stays.
    """

    manifest: Manifest
    paths: tuple[str, ...]
    databases: tuple[str, ...]
    databases_go_back: bool
    keep_packages: Callable[[str], None] | None
    switch: Callable[[], None]
    start: Callable[[], Containerd]
    strict: bool = True
    ends: tuple[str, ...] = ()
    target: int | None = None


@dataclass(frozen=True)
class Recovery:
    """An interrupted change that was taken back, or found to be complete: its generation, step and versions."""

    generation: int
    step: str
    version: str
    to_version: str

    def to_dict(self) -> dict[str, object]:
        """Return it as the module returns it."""
        return {"generation": self.generation, "step": self.step, "version": self.version, "to_version": self.to_version}


@dataclass(frozen=True)
class Before:
    """The containers that run before a change by NAMESPACE/ID, the handlers that work (None: unknown), and what is wrong."""

    running: dict[str, int]
    report: Report | None
    problem: str = ""


@dataclass(frozen=True)
class Proof:
    """What is wrong with the version of before, empty if it is proven. ``daemon``: the daemon itself is healthy."""

    problem: str = ""
    daemon: bool = True


class Transaction:
    """``installed`` is the client for the daemon as it is now. ``lock`` keeps other runs away. ``probes``: start containers."""

    def __init__(self, installed: Containerd, *, lock: int, timeout: float, probes: bool, warn: Warn) -> None:
        self._installed = installed
        self._unit = installed.unit
        self._lock = lock
        self._timeout = timeout
        self._probes = probes
        self._warn = warn

    def apply(self, change: Change, keep: int) -> int:
        """Make the change, and drop old generations so that ``keep`` stay; return how many containers run on.

        Raises HostError after going back; its values say whether the node is as before.
        """
        before = self._before(change)
        manifest = replace(change.manifest, healthy=not before.problem)
        change = replace(change, manifest=manifest)
        since = time.time()
        store.install_script(self._installed.runner, self._unit.name)
        with store.at_work():
            self._keep(change)
            try:
                self._stop()
                store.keep_databases(manifest.number, change.databases)
                store.write_journal(Journal(manifest.number, SWITCHING, change.databases_go_back))
                change.switch()
                client = change.start()
                store.write_journal(Journal(manifest.number, STARTED, change.databases_go_back))
                if before.report is not None:
                    check_handlers(client.renewed(), before.report, self._warn)
                elif before.problem and self._probes:
                    # Another handler may not have worked for long.
                    check_default_handler(client.renewed())
                found = check_containers(client.renewed(), before.running, change.ends)
                store.keep_sums(manifest.number, change.paths)
                store.write_journal(Journal(manifest.number, COMMITTED))
            except (HostError, ValueError) as error:
                raise self._taken_back(manifest, str(error), since) from error
            self._start_others(manifest)
            self._end(keep, change.target)
        if found.ended:
            self._warn(f"containers ended during the upgrade: {', '.join(found.ended)}")
        return len(found.kept)

    def _before(self, change: Change) -> Before:
        """Return the containers that run and the handlers that work before the change."""
        running: dict[str, int] = {}
        try:
            if not change.strict:
                check_answers(self._installed)
            running = running_containers(self._installed)
            if not change.strict:
                check_well(self._installed)
            return Before(running, try_handlers(self._installed, self._warn) if self._probes else None)
        except HostError as error:
            if change.strict:
                raise
            self._warn(f"containerd {change.manifest.version} isn't healthy before the change: {error}")
            return Before(running, None, str(error))

    def _keep(self, change: Change) -> None:
        """Keep the generation. Nothing else is changed, and if it fails, nothing is left of it."""
        number = change.manifest.number
        store.write_journal(Journal(number, KEEPING))
        try:
            if change.keep_packages is not None:
                change.keep_packages(store.package_directory(number))
            store.keep_generation(change.manifest, change.paths, packages=change.keep_packages is not None)
            store.check_room(change.databases)
            store.write_journal(Journal(number, KEPT))
        except (HostError, ValueError):
            self._give_up(number)
            raise

    def _give_up(self, number: int) -> None:
        """Remove a generation that the node is at, with the journal."""
        store.remove_generation(number)
        store.remove_journal()

    def _end(self, keep: int, target: int | None) -> None:
        try:
            drop_old(keep, target)
        except HostError as error:
            # The node is well.
            self._warn(f"old generations can't be removed: {error}")
        store.remove_journal()

    def _stop(self) -> None:
        if not self._unit.stop():
            raise HostError(f"cannot stop {self._unit.name}: see 'systemctl status {self._unit.name}'")
        self._unit.forget_failures()

    def _start_others(self, manifest: Manifest) -> None:
        """Start the units that systemd stopped together with the daemon."""
        for name in manifest.units:
            if not self._unit.another(name).start():
                self._warn(f"{name} was stopped together with {self._unit.name} and doesn't start again: start it")

    def _taken_back(self, manifest: Manifest, why: str, since: float) -> HostError:
        """Go back after a failed step; return the error that says so."""
        ended = self._ends(manifest)
        self._unit.stop()
        log = self._log(since)
        databases, problem = self._go_back(manifest)
        message = f"containerd {manifest.to_version} was taken back: {why}"
        if log:
            message += ". The daemon's log before that: " + " | ".join(error_lines(log))
        message += ". " + self._outcome(manifest, problem)
        if ended:
            message += f". It ended containers that {manifest.to_version} had started meanwhile: {', '.join(ended)}"
        if not problem:
            self._give_up(manifest.number)
        values = {
            "rolled_back": not problem and manifest.healthy,
            "restarted": True,
            "databases": databases,
            "generation": manifest.number if problem else None,
            "version": manifest.version,
            "to_version": manifest.to_version,
            "journal": log[-20:],
        }
        return HostError(message, values=values)

    def _log(self, since: float) -> list[str]:
        try:
            return self._unit.journal(since)
        except HostError:
            return []

    def _ends(self, manifest: Manifest) -> list[str]:
        """Return the containers that the version of before ends when it starts: the other one has started them meanwhile."""
        try:
            return unadopted(self._installed.renewed(), Version.parse(manifest.version))
        except HostError:
            return []

    def _outcome(self, manifest: Manifest, problem: str) -> str:
        if not problem and not manifest.healthy:
            return (
                f"The node has the files of containerd {manifest.version} again, which wasn't healthy before either: "
                "name another generation, or repair the node"
            )
        if not problem:
            return f"The node is back on containerd {manifest.version}, which is healthy"
        return (
            f"The node is NOT proven: going back to containerd {manifest.version} (generation {manifest.number}) ended with: "
            f"{problem}. Read 'journalctl -u {self._unit.name}', remove the cause, and run this module with state=recovered"
        )

    def _go_back(self, manifest: Manifest) -> tuple[str, str]:
        """Restore the generation of the journal and prove the daemon; return what became of databases, and what is wrong."""
        journal = store.read_journal()
        databases = "restored" if journal is not None and journal.databases else "kept"
        try:
            proof = self._restored(manifest)
            copied = any(one.kind == DATABASE for one in store.objects_of(manifest.number))
            if not proof.daemon and databases == "kept" and copied:
                # It was healthy before: maybe it doesn't read what the other version has written.
                store.write_journal(Journal(manifest.number, STARTED, databases=True))
                databases = "restored"
                proof = self._restored(manifest)
            problem = proof.problem
        except HostError as error:
            problem = str(error)
        return databases, problem

    def _restored(self, manifest: Manifest) -> Proof:
        """Run the script and start the daemon; return whether it is proven."""
        self._unit.stop()
        store.restore(None, self._lock)
        return self._proven(manifest)

    def _proven(self, manifest: Manifest) -> Proof:
        """Remove what the script leaves, and prove the daemon."""
        daemon = False
        try:
            store.remove_temporary(manifest.number)
            store.remove_new_directories(manifest)
            self._unit.reload_manager()
            self._unit.forget_failures()
            client = self._installed.renewed()
            prove(client, self._timeout)
            daemon = True
            check_version(client, manifest.version)
            if self._probes:
                check_default_handler(client.renewed())
        except HostError as error:
            if manifest.healthy:
                return Proof(str(error), daemon)
            # Nothing could prove it, and the next run has to be able to go to another generation.
            self._warn(f"containerd {manifest.version} isn't healthy, as before the change: {error}")
        self._start_others(manifest)
        return Proof()

    def recover(self) -> Recovery | None:
        """Take back a change that a killed run or a power cut left; None if there is none.

        Raises HostError if the node isn't proven after that.
        """
        journal = store.read_journal()
        with store.at_work():
            # A run that was killed before it wrote the journal has left the mark of its work.
            return self._recovered(journal) if journal is not None else None

    def _recovered(self, journal: Journal) -> Recovery:
        found = recovery_of(journal)
        if journal.step == KEEPING:
            self._give_up(journal.generation)
            return found
        if journal.step in SETTLED and not store.exists(journal.generation):
            # After the step RESTORED, it was removed when the version of before was proven.
            store.remove_journal()
            return found
        manifest = store.read_manifest(journal.generation)
        store.check_unit(manifest, self._unit.name)
        if journal.step == COMMITTED:
            self._start_others(manifest)
            store.remove_journal()
            return found
        store.install_script(self._installed.runner, self._unit.name)
        ended = self._ends(manifest)
        databases, problem = "restored" if journal.databases else "kept", ""
        again = journal.step != RESTORED
        if not again:
            used = store.databases_used(journal.generation)
            problem = self._proven(manifest).problem
            # Copies of databases would take back what the daemon has done since.
            again = bool(problem) and not used
        if again:
            # The script doesn't act on the step RESTORED.
            store.write_journal(Journal(journal.generation, STARTED, journal.databases))
            databases, problem = self._go_back(manifest)
        if problem:
            taken = f"an interrupted upgrade to containerd {manifest.to_version} was taken back"
            values = {"rolled_back": False, "restarted": True, "databases": databases, "recovered": found.to_dict()}
            raise HostError(f"{taken}. {self._outcome(manifest, problem)}", values=values)
        if ended:
            self._warn(
                f"containers ended that {manifest.to_version} had started before the upgrade was interrupted: {', '.join(ended)}"
            )
        self._give_up(journal.generation)
        return found


def recovery_of(journal: Journal) -> Recovery:
    """Return the interrupted change of a journal. Raises HostError if its generation can't be read."""
    exists = store.exists(journal.generation)
    if journal.step == KEEPING or (journal.step in SETTLED and not exists):
        return Recovery(journal.generation, journal.step, "", "")
    if not exists:
        raise HostError(
            f"an upgrade was interrupted, and generation {journal.generation} with the previous files is missing: "
            f"remove {JOURNAL}, repair containerd by hand, and run slipway.node.provision"
        )
    manifest = store.read_manifest(journal.generation)
    return Recovery(journal.generation, journal.step, manifest.version, manifest.to_version)


def drop_old(keep: int, target: int | None) -> None:
    """Drop the oldest generations, so that ``keep`` stay. ``target``, and one from which a process runs, stay too."""
    used = store.in_use() | ({target} if target is not None else set())
    for number in to_drop(store.numbers(), keep, used):
        store.remove_generation(number)
