# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containerd of a node with its configuration, and the daemon that will run on it."""

from __future__ import annotations

import os

from ansible_collections.slipway.node.plugins.module_utils.config.host.record import read_record
from ansible_collections.slipway.node.plugins.module_utils.config.plan import ConfigPlan, CurrentConfig
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import candidate
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.daemon import RunningDaemon
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text


class ContainerdHost:
    """A node's containerd whose files are to change, so that its configuration is read more than once.

    ``drop_in_file`` is the path of the collection's own file.
    """

    def __init__(self, containerd: Containerd, drop_in_file: str) -> None:
        self.containerd = containerd
        self.runner = containerd.runner
        self.address = containerd.address
        self.config_file = containerd.config_file
        self.drop_in_file = drop_in_file
        self.architecture = containerd.architecture
        self.binary = containerd.program
        self.daemon = RunningDaemon(containerd)

    def found(self, version: Version) -> CurrentConfig:
        """Return the configuration as it is. Raises HostError for what can't be read."""
        return CurrentConfig(
            version=version,
            architecture=self.architecture,
            config_file=self.config_file,
            drop_in_file=self.drop_in_file,
            root_text=read_text(self.config_file),
            drop_in_text=read_text(self.drop_in_file),
            record=read_record(self.config_file),
        )

    def read_config(self) -> EffectiveConfig:
        """Read the effective configuration of the files as they are now. Raises HostError if the daemon can't read them."""
        return self.binary.config(self.config_file)

    def try_read_config(self) -> EffectiveConfig | None:
        """Read the effective configuration; None if the daemon can't read the files."""
        try:
            return self.read_config()
        except HostError:
            return None

    def proven_config(self, record: Record, current: EffectiveConfig | None) -> EffectiveConfig | None:
        """Return what the daemon made of the files before the change that an interrupted run began; else ``current``."""
        if not record.pending:
            return current
        with candidate(self.config_file, {self.config_file: read_text(self.config_file), **record.pending}) as places:
            try:
                return self.binary.config(places.get(self.config_file))
            except HostError:
                return current

    def listens_elsewhere(self, daemon: Daemon, config: EffectiveConfig) -> str | None:
        """Return the socket of the running daemon if it isn't the one that was named."""
        found = (daemon.listens() or config.socket) if daemon.process is not None else None
        return found if found and os.path.realpath(found) != os.path.realpath(self.address) else None

    def is_well(self) -> bool:
        """Return whether the daemon runs as it should on the files that are there."""
        try:
            config = self.read_config()
        except HostError:
            return False
        default = config.cri_snapshotter
        return self.daemon.read_state().restart_reason([default] if default else [], cri=config.cri_enabled) is None

    def planned_config(self, plan: ConfigPlan) -> EffectiveConfig:
        """Return the effective configuration of the planned files; if none is to change, that of the client."""
        if not plan.changes:
            return self.containerd.config
        texts = {change.path: change.after for change in plan.files}
        with candidate(self.config_file, texts) as places:
            try:
                return self.binary.config(places.get(self.config_file))
            except HostError as error:
                complaint = (error.stderr.strip().splitlines() or [error.message])[-1]
                for path, place in places.items():
                    complaint = complaint.replace(place, path)
                raise HostError(f"containerd refuses these settings: {complaint}") from error
