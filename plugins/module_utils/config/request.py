# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parameters of containerd_config: the wanted configuration, and what a run may do for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import Service
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, at_least, unit_name

AUTO, NEVER, FORCE = "auto", "never", "force"
# When a container is started with the default handler: not at all, after a change of the daemon, or in every run.
NONE, CHANGED, ALWAYS = "none", "changed", "always"


@dataclass(frozen=True)
class ConfigRequest:
    """The parameters of containerd_config, checked. ``loaded`` are snapshotters that the daemon has to load though unused."""

    present: bool
    enable_cri: bool
    drop_in_file: str
    settings: Settings
    service: Service
    unit: str
    restart: str
    unit_enabled: bool
    timeout: int
    probe: str = NONE
    loaded: tuple[str, ...] = ()

    @property
    def may_restart(self) -> bool:
        """Return whether the daemon may be restarted, and so probed."""
        return self.restart != NEVER

    @property
    def force_restart(self) -> bool:
        """Return whether the daemon may be restarted although this kills running containers."""
        return self.restart == FORCE

    def beside(self, old: str, new: str) -> ConfigRequest:
        """Return the request that loads a snapshotter while the old one still is the default."""
        return replace(self, settings=self.settings.with_snapshotter(old), loaded=(new,))

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> ConfigRequest:
        """Check module parameters. Raises ValueError that names the option."""
        return cls(
            present=params["state"] == "present",
            enable_cri=params["enable_cri"],
            drop_in_file=absolute_path("drop_in_file", params["drop_in_file"]),
            settings=Settings.from_params(params["settings"]),
            service=Service.from_params(params["service_directives"], params["http_proxy"] or {}),
            unit=unit_name(params["unit"]),
            restart=params["restart"],
            unit_enabled=params["unit_enabled"],
            timeout=at_least(1)("timeout", params["timeout"]),
            probe=params["probe"],
        )


def snapshotters_to_probe(wanted: ConfigRequest, config: EffectiveConfig) -> list[str]:
    """Name the snapshotters that have to be ok: those asked for, and CRI's default where CRI is on."""
    names = list(dict.fromkeys((*wanted.settings.chosen_snapshotters(), *wanted.loaded))) if wanted.present else []
    default = config.cri_snapshotter
    if default and default not in names:
        names.append(default)
    return names
