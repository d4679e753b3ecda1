# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a node as clusters have them: mirrors, images, a toolbox, two Kata handlers and a proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodes import kata
from nodes.images import busybox, random_layers
from nodes.registry import Registry

IMAGES = 5


def variables(server: Registry, directory: Path) -> dict[str, Any]:
    """All come from the registry, whose files are in the directory, as the archive of Kata is."""
    (directory / "kata").mkdir()
    release = kata.archive(directory / "kata" / "kata-static-3.27.0.tar.zst", "3.27.0")
    handler = {"hypervisor": "qemu", "disable_block_device_use": True}
    return {
        "containerd_registries": [
            server.entry,
            {"name": "docker.io", "mirrors": [{"url": f"http://{server.name}"}]},
            {"name": "registry.k8s.io", "mirrors": [{"url": f"http://{server.name}"}]},
        ],
        "containerd_images": [{"name": server.push(random_layers(4, seed=number))} for number in range(IMAGES)],
        "containerd_http_proxy": {"https": "http://proxy.example:3128", "no_proxy": ["localhost", "127.0.0.0/8"]},
        "toolbox_snapshots": [{"name": "debug", "image": server.push([busybox()]), "plain_http": True}],
        "kata_handlers": [
            {"name": "kata-qemu", "runtime": "go", **handler},
            {"name": "kata-rust", "runtime": "rust", "hypervisor": "qemu"},
        ],
        # The nodes have no KVM.
        "kata_check_hardware": False,
        "verify_skip": ["kata_devices"],
        **release,
    }
