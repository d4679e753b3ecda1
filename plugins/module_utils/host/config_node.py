# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's containerd with its configuration: read, tried, and the daemon that is to run on it."""

from __future__ import annotations

import os

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.config_tree import candidate, read_text
from ansible_collections.slipway.node.plugins.module_utils.host.containerd import ContainerdBinary, Ctr, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.host.daemon import RunningDaemon
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.process import machine
from ansible_collections.slipway.node.plugins.module_utils.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import read_record
from ansible_collections.slipway.node.plugins.module_utils.model.config_plan import ConfigPlan, Found
from ansible_collections.slipway.node.plugins.module_utils.model.daemon import Daemon
from ansible_collections.slipway.node.plugins.module_utils.model.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.model.schema import GO_ARCHITECTURES
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version


class Node:
    """The parts of a node that its configuration is made of. ``binary`` is searched for where none is named."""

    def __init__(self, runner: Runner, *, unit: str, address: str, config_file: str, drop_in: str, binary: str | None) -> None:
        service = Unit(runner, unit)
        path = find_containerd(runner, service, binary)
        self.address = address
        self.config_file = config_file
        self.drop_in = drop_in
        self.binary = ContainerdBinary(runner, path)
        self.daemon = RunningDaemon(service, Ctr(runner, address, path), config_file, path)

    def found(self, version: Version) -> Found:
        """The configuration as it is. Raises HostError for what can't be read."""
        return Found(
            version=version,
            architecture=GO_ARCHITECTURES.get(machine(), machine()),
            config_file=self.config_file,
            drop_in=self.drop_in,
            root_text=read_text(self.config_file),
            drop_in_text=read_text(self.drop_in),
            record=read_record(self.config_file),
        )

    def listens_elsewhere(self, daemon: Daemon, config: EffectiveConfig) -> str | None:
        """The socket of the running daemon if it isn't the one that was named."""
        found = (daemon.listens() or config.socket) if daemon.process is not None else None
        return found if found and os.path.realpath(found) != os.path.realpath(self.address) else None

    def is_well(self) -> bool:
        """Whether the daemon runs as it should on the files that are there."""
        try:
            config = self.binary.config(self.config_file)
        except HostError:
            return False
        default = config.cri_snapshotter
        return self.daemon.look().restart_reason([default] if default else [], cri=config.cri_enabled) is None

    def planned_config(self, plan: ConfigPlan) -> EffectiveConfig:
        """What the daemon makes of the files as planned; of those on disk if none is to change."""
        if not plan.changes:
            return self.binary.config(self.config_file)
        texts = {change.path: change.after for change in plan.files}
        with candidate(self.config_file, texts) as places:
            try:
                return self.binary.config(places.get(self.config_file))
            except HostError as error:
                complaint = (error.stderr.strip().splitlines() or [error.message])[-1]
                for path, place in places.items():
                    complaint = complaint.replace(place, path)
                raise HostError(f"containerd refuses these settings: {complaint}") from error


def config_before(node: Node) -> EffectiveConfig | None:
    """What the daemon makes of the files as they are; None if it can't read them."""
    try:
        return node.binary.config(node.config_file)
    except HostError:
        return None
