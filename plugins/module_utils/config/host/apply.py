# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply a configuration to the daemon, and roll it back if the daemon doesn't work with it."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.host.migration import DefaultChange, Unpacked
from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import check_kill_mode
from ansible_collections.slipway.node.plugins.module_utils.config.host.stage import ConfigStage
from ansible_collections.slipway.node.plugins.module_utils.config.host.start import check_container_starts
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import Transaction
from ansible_collections.slipway.node.plugins.module_utils.config.request import snapshotters_to_probe
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import error_lines
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.migration import Migration
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.migration import BEFORE


class ConfigRolledBack(HostError):
    """The daemon isn't well on what it was given; ``values`` say whether the old files are back."""


class ConfigApplication:
    """One change of the daemon's configuration: the only place that changes anything.

    ``final`` is what the daemon gets, ``change`` that of its default snapshotter, None if that stays. ``proven``: the daemon is
    well on the files that are there although an earlier run was interrupted. ``lock`` keeps other runs away. Without
    ``rolls_back``, a failure leaves the files as they are: the caller restores them with everything else that it changed.
    """

    def __init__(
        self,
        node: ContainerdHost,
        final: ConfigStage,
        change: DefaultChange | None,
        *,
        proven: bool,
        lock: int,
        rolls_back: bool = True,
    ) -> None:
        self._node = node
        self._final = final
        self._change = change
        self._lock = lock
        self._rolls_back = rolls_back
        beside = change.beside if change is not None else None
        touched = {file.path for stage in (final, beside) if stage is not None for file in stage.changes}
        self._transaction = Transaction(
            node.config_file,
            final.found.record,
            final.record,
            [file for file in final.files if file.path in touched],
            stages=[beside.record] if beside is not None else (),
            proven=proven,
            probes=final.probes,
        )
        # Why no container could be started, if that was to be tried.
        self.untried = ""
        self._since = time.time()
        self._restarted = False

    def apply(self) -> list[Unpacked]:
        """Change the files and the daemon; return the images that were unpacked.

        Raises ConfigRolledBack after restoring the previous configuration. Unpacked layers are kept. Raises HostError or
        ValueError if it doesn't roll back.
        """
        change = self._change
        # No rollback is needed until a file is changed.
        unpacked = [unpack(self._node, change, self._lock)] if change is not None and change.when == BEFORE else []
        self._transaction.begin()
        try:
            if change is not None and change.beside is not None:
                self._start(change.beside)
                unpacked.append(unpack(self._node, change, self._lock))
            self._start(self._final)
            if change is not None:
                # Images that came meanwhile, and all of them where the daemon had to be restarted first.
                unpacked.append(unpack(self._node, change, self._lock))
            if self._final.probes:
                self.untried = check_container_starts(self._node.containerd.renewed())
        except (HostError, ValueError) as error:
            if not self._rolls_back:
                raise
            message, values = self._go_back(str(error))
            raise ConfigRolledBack(message, values=values) from error
        self._transaction.commit()
        return unpacked

    def _start(self, stage: ConfigStage) -> None:
        """Write the files of a stage, restart the daemon if needed, and check that it is healthy."""
        node, unit = self._node, self._node.daemon.unit
        self._transaction.write(None if stage is self._final else stage.changes)
        stage.prove(node)
        if stage.reason is None:
            return
        unit.reload_manager()
        status = unit.status()
        if status.running or not self._rolls_back:
            # Another drop-in of the unit may override the setting. The daemon may have to be stopped again.
            check_kill_mode(node, stage.wanted, status.kill_mode, stage.reason)
        self._restarted = True
        probed = snapshotters_to_probe(stage.wanted, stage.config)
        node.daemon.restart(probed, cri=stage.config.cri_enabled, timeout=stage.wanted.timeout)

    def _go_back(self, message: str) -> tuple[str, dict[str, Any]]:
        """Restore the files, and restart the daemon if it was restarted before; return the message and its values."""
        node, wanted, unit = self._node, self._final.wanted, self._node.daemon.unit
        journal = unit.journal(self._since) if self._restarted else []
        try:
            rolled_back = self._transaction.roll_back()
        except HostError as stuck:
            rolled_back = False
            message += f". Restoring the previous configuration failed: {stuck}; the next run tries again"
        if rolled_back:
            message += ". Restored the previous configuration"
        if rolled_back and wanted.may_restart:
            unit.reload_manager()
        if rolled_back and self._restarted:
            try:
                old = node.read_config()
                node.daemon.restart((), cri=old.cri_enabled, timeout=wanted.timeout)
                message += "; containerd is healthy"
            except HostError as again:
                message += f", but containerd isn't healthy: {again}"
        if journal:
            message += ". Its log before that: " + " | ".join(error_lines(journal))
        return message, {"rolled_back": rolled_back, "restarted": self._restarted, "journal": journal[-20:]}


def unpack(node: ContainerdHost, change: DefaultChange, lock: int) -> Unpacked:
    """Unpack for the new snapshotter, which the daemon has loaded, and bring to disk, what is unpacked for the old one alone.

    Raises HostError, and ValueError if an image can't be unpacked.
    """
    containerd = node.containerd.renewed()
    migration = Migration(containerd, change.old, change.new, containerd.config)
    plan = migration.plan(watch=False)
    return Unpacked(plan, migration.apply(plan, lock))
