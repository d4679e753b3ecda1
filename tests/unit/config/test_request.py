# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.request import ConfigRequest, snapshotters_to_probe
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig

PARAMS: dict[str, Any] = {
    "state": "present",
    "enable_cri": False,
    "drop_in_file": "/etc/containerd/conf.d/60-slipway.toml",
    "settings": {"snapshotter": "erofs", "sandbox_image": "pause", "runtimes": [{"name": "kata", "snapshotter": "native"}]},
    "service_directives": {},
    "http_proxy": None,
    "unit": "containerd.service",
    "restart": "auto",
    "unit_enabled": True,
    "timeout": 60,
    "probe": "none",
}
CRI = {"version": 2, "plugins": {"io.containerd.grpc.v1.cri": {"containerd": {"snapshotter": "overlayfs"}}}}


def test_a_new_snapshotter_is_loaded_and_probed_beside_the_old_default() -> None:
    final = ConfigRequest.from_params(PARAMS)
    beside = final.beside("overlayfs", "erofs")
    assert beside.settings.scalars == {"snapshotter": "overlayfs", "sandbox_image": "pause"}
    assert (beside.settings.runtimes, beside.unit) == (final.settings.runtimes, final.unit)
    assert set(snapshotters_to_probe(beside, EffectiveConfig(CRI))) == {"overlayfs", "native", "erofs"}
    assert final.settings.snapshotter == "erofs" and not final.loaded
