# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision to restart the daemon, and the reasons to refuse a restart."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.config.host.node import ContainerdHost
from ansible_collections.slipway.node.plugins.module_utils.config.mismatches import handler_without_snapshotter
from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest, snapshotters_to_probe
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import SPARING_KILL_MODES, Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import running_shims


def restart_decision(
    node: ContainerdHost,
    wanted: ConfigRequest,
    changes: Sequence[FileChange],
    config: EffectiveConfig,
    daemon: Daemon,
    *,
    pending: bool,
) -> tuple[str | None, bool]:
    """Return why the daemon has to be restarted (None: it needn't), and whether its unit has to be enabled.

    Nothing is started where there is nothing to take back, unless an earlier run was cut short (``pending``).
    Raises ValueError if it can't be done without harm.
    """
    check_file_is_read(node, daemon)
    elsewhere = node.listens_elsewhere(daemon, config)
    if elsewhere:
        raise ValueError(f"the daemon listens at {elsewhere}, not at {node.address}: name that socket with address")
    if wanted.present and wanted.unit_enabled and daemon.unit.masked:
        raise ValueError(f"{wanted.unit} is masked, so it isn't started at boot: run 'systemctl unmask {wanted.unit}'")
    reason = f"{changes[0].path} changes" if changes else None
    if reason and wanted.present and daemon.plugins is not None:
        check_snapshotters(node, wanted, daemon.plugins, config)
    if wanted.present or daemon.unit.running or pending:
        reason = reason or daemon.restart_reason(snapshotters_to_probe(wanted, config), cri=config.cri_enabled)
    if reason:
        check_restart(node, wanted, daemon, config, reason)
    enable = wanted.present and wanted.unit_enabled and daemon.unit.enabled in ("disabled", "enabled-runtime")
    return reason, enable


def check_file_is_read(node: ContainerdHost, daemon: Daemon) -> None:
    """Raise ValueError if the running daemon was started with another configuration file."""
    if daemon.process is not None and daemon.reads() != node.config_file:
        raise ValueError(
            f"the running daemon reads {daemon.reads()}, not {node.config_file}: "
            "name that file with config_file, or repair the unit"
        )


def check_snapshotters(node: ContainerdHost, wanted: ConfigRequest, plugins: Sequence[Plugin], config: EffectiveConfig) -> None:
    """Raise ValueError for a handler whose snapshotter will not be ok after a restart either."""
    states = {plugin.id: plugin.status for plugin in plugins if plugin.is_snapshotter}
    if all(one.snapshotter is None or states.get(one.snapshotter) == "ok" for one in wanted.settings.runtimes):
        return
    trouble = handler_without_snapshotter(wanted.settings, states, node.read_config(), config)
    if trouble:
        raise ValueError(trouble)


def check_restart(node: ContainerdHost, wanted: ConfigRequest, daemon: Daemon, config: EffectiveConfig, reason: str) -> None:
    """Raise ValueError if starting the daemon again would cost running containers."""
    if daemon.unit.masked:
        raise ValueError(f"{wanted.unit} is masked, so systemd doesn't start it: run 'systemctl unmask {wanted.unit}'")
    if not daemon.unit.loaded:
        raise ValueError(
            f"there is no unit {wanted.unit} on the node: name the daemon's service with unit, or set restart to never"
        )
    if not daemon.unit.running:
        return
    check_kill_mode(node, wanted, wanted.service.directives.get("KillMode", daemon.unit.kill_mode), reason)
    running = running_shims(node.address)
    if wanted.force_restart or not running:
        return
    current = node.read_config()
    for key, old, new in (("root", current.root, config.root), ("state", current.state, config.state)):
        if old != new:
            raise ValueError(
                f"a new {key} ({old} to {new}) would make the daemon lose track of containers, "
                f"{named(running)}: drain the node, or set restart to force"
            )


def check_kill_mode(node: ContainerdHost, wanted: ConfigRequest, mode: str, reason: str) -> None:
    """Raise ValueError if a restart under this KillMode would cost running containers, or fail."""
    if mode == "none":
        raise ValueError(
            f"a restart ({reason}) would leave the old daemon running and the new one waiting for its database, "
            f"because {wanted.unit} has KillMode=none: set KillMode=process in the unit"
        )
    if wanted.force_restart or mode in SPARING_KILL_MODES:
        return
    running = running_shims(node.address)
    if running:
        raise ValueError(
            f"a restart ({reason}) would kill containers, {named(running)}, because {wanted.unit} has KillMode={mode}: "
            "set KillMode=process (service_directives takes it), drain the node, or set restart to force"
        )


def named(running: Sequence[str]) -> str:
    """Return the number of containers, and the names of the first ones."""
    return f"{len(running)} running ({', '.join(running[:3])}{', …' if len(running) > 3 else ''})"
