# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A configuration that is given to the daemon and proven, or taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.host.restart import check_kill_mode
from ansible_collections.slipway.node.plugins.module_utils.config.host.transaction import Transaction
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest, snapshotters_to_probe
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import telling
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError


class ConfigRolledBack(HostError):
    """The daemon isn't well on what it was given; ``values`` say whether the old files are back."""


def apply(
    node: ContainerdHost,
    wanted: ConfigRequest,
    transaction: Transaction,
    config: EffectiveConfig,
    reason: str | None,
    prove: Callable[[EffectiveConfig], None],
) -> None:
    """The only place that changes anything. Raises ConfigRolledBack after going back to what was there.

    ``prove`` raises ValueError if what the daemon makes of the written files isn't what was asked for.
    """
    since, restarted = time.time(), False
    transaction.begin()
    try:
        transaction.write()
        prove(node.read_config())
        if reason is not None:
            node.daemon.unit.reload_manager()
            status = node.daemon.unit.status()
            if status.running:
                # Another drop-in of the unit may have the last word.
                check_kill_mode(node, wanted, status.kill_mode, reason)
            restarted = True
            node.daemon.restart(snapshotters_to_probe(wanted, config), cri=config.cri_enabled, timeout=wanted.timeout)
    except (HostError, ValueError) as error:
        message, values = go_back(node, wanted, transaction, str(error), since, restarted)
        raise ConfigRolledBack(message, values=values) from error
    transaction.commit()


def go_back(
    node: ContainerdHost, wanted: ConfigRequest, transaction: Transaction, message: str, since: float, restarted: bool
) -> tuple[str, dict[str, Any]]:
    """Put the old files back, and the daemon on them if it was restarted; returns the message and its facts."""
    journal = node.daemon.unit.journal(since) if restarted else []
    try:
        rolled_back = transaction.roll_back()
    except HostError as stuck:
        rolled_back = False
        message += f". Going back failed: {stuck}; the next run tries again"
    if rolled_back:
        message += ". The old files are back"
    if rolled_back and wanted.may_restart:
        node.daemon.unit.reload_manager()
    if rolled_back and restarted:
        try:
            old = node.read_config()
            node.daemon.restart((), cri=old.cri_enabled, timeout=wanted.timeout)
            message += " and the daemon is well on them"
        except HostError as again:
            message += f", and the daemon isn't well on them either: {again}"
    if journal:
        message += ". It had logged: " + " | ".join(telling(journal))
    return message, {"rolled_back": rolled_back, "restarted": restarted, "journal": journal[-20:]}
