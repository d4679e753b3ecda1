# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containerd's configuration is to be, and what a run may do for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.model.settings import Settings, absolute_path, plain_name
from ansible_collections.slipway.node.plugins.module_utils.model.unit import Service, unit_name


@dataclass(frozen=True)
class Wanted:
    """The parameters, checked."""

    present: bool
    drop_in: str
    settings: Settings
    loaded: tuple[str, ...]
    service: Service
    unit: str
    apply: bool
    enabled: bool
    force_restart: bool
    timeout: float

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Wanted:
        if not 0 < params["timeout"] < float("inf"):
            raise ValueError("timeout has to be a number of seconds that is more than 0")
        return cls(
            present=params["state"] == "present",
            drop_in=absolute_path("drop_in", params["drop_in"]),
            settings=Settings.from_params({one.name: params[one.name] for one in fields(Settings)}),
            loaded=tuple(plain_name("load_snapshotters", name) for name in params["load_snapshotters"]),
            service=Service.from_params(params["service"], params["proxy"] or {}),
            unit=unit_name(params["unit"]),
            apply=params["apply"],
            enabled=params["enabled"],
            force_restart=params["force_restart"],
            timeout=params["timeout"],
        )


def probed(wanted: Wanted, config: EffectiveConfig) -> list[str]:
    """The snapshotters that have to be ok: those asked for, and CRI's default where CRI is on."""
    names = list(dict.fromkeys((*wanted.settings.chosen_snapshotters(), *wanted.loaded))) if wanted.present else []
    default = config.cri_snapshotter
    if default and default not in names:
        names.append(default)
    return names
