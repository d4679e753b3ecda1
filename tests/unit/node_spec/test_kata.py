# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import parse_handlers
from ansible_collections.slipway.node.plugins.module_utils.node_spec.kata import kata_handlers, kernel_modules

DEFAULTS = "/opt/kata/share/defaults/kata-containers"
QEMU: dict[str, Any] = {"name": "kata-qemu", "runtime": "go", "hypervisor": "qemu"}


def completed(*entries: Any, **options: Any) -> dict[str, list[dict[str, Any]]]:
    defaults = {"config_dir": "/etc/kata-containers", "snapshotter": "overlayfs", "version": ""}
    handlers, runtimes = kata_handlers(list(entries), **{**defaults, **options})
    return {"handlers": handlers, "runtimes": runtimes}


def test_both_sides_of_a_handler() -> None:
    found = completed({**QEMU, "disable_block_device_use": True, "block_device_aio": None}, version="3.26.0")
    handler = {
        "name": "kata-qemu",
        "runtime": "go",
        "hypervisor": "qemu",
        "base_config": f"{DEFAULTS}/configuration-qemu.toml",
        "snapshotter": "overlayfs",
        "version": "3.26.0",
        "disable_block_device_use": True,
    }
    assert found["handlers"] == [handler]
    assert found["runtimes"] == [
        {
            "name": "kata-qemu",
            "type": "io.containerd.kata.v2",
            "path": "/opt/kata/bin/containerd-shim-kata-v2",
            "config_path": "/etc/kata-containers/kata-qemu/configuration.toml",
            "snapshotter": "overlayfs",
            "privileged_without_host_devices": True,
            "pod_annotations": ["io.katacontainers.*"],
        }
    ]
    assert parse_handlers(found["handlers"])[0].base_config == handler["base_config"]
    assert Settings.from_params({"runtimes": found["runtimes"]}).runtimes[0].name == "kata-qemu"


def test_what_an_entry_says_wins() -> None:
    own = {
        "snapshotter": "devmapper",
        "version": "3.20.0",
        "base_config": "/usr/share/kata/x.toml",
        "type": "io.containerd.kata-x.v2",
        "runtime_path": "/usr/bin/shim",
        "pod_annotations": [],
        "privileged_without_host_devices": False,
    }
    found = completed({**QEMU, **own}, snapshotter="native", version="3.26.0")
    (handler,), (runtime,) = found["handlers"], found["runtimes"]
    assert (handler["snapshotter"], handler["version"], handler["base_config"]) == (
        "devmapper",
        "3.20.0",
        "/usr/share/kata/x.toml",
    )
    assert (runtime["type"], runtime["path"], runtime["snapshotter"]) == ("io.containerd.kata-x.v2", "/usr/bin/shim", "devmapper")
    assert (runtime["pod_annotations"], runtime["privileged_without_host_devices"]) == ([], False)
    assert completed(QEMU, snapshotter="native")["runtimes"][0]["snapshotter"] == "native"


@pytest.mark.parametrize(
    ("hypervisor", "file"), [("qemu", "configuration-qemu-runtime-rs.toml"), ("dragonball", "configuration-dragonball.toml")]
)
def test_the_rust_runtime_has_its_own_files(hypervisor: str, file: str) -> None:
    found = completed({"name": "kata", "runtime": "rust", "hypervisor": hypervisor})
    assert found["handlers"][0]["base_config"] == f"{DEFAULTS}/runtime-rs/{file}"
    assert found["runtimes"][0]["path"] == "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("kata", "kata_handlers has to be a list"),
        ({}, "kata_handlers has to be a list"),
        (["kata"], r"kata_handlers\[0\]: it has to be a dictionary"),
        ([QEMU, {**QEMU, "runtime": None}], r"kata_handlers\[1\]: it needs runtime"),
        ([{**QEMU, "name": "../x"}], "handlers.name"),
        ([{**QEMU, "runtime": "rust", "hypervisor": "clh"}], "it needs base_config"),
    ],
)
def test_nonsense_is_named(entries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kata_handlers(entries, config_dir="/etc/kata-containers", snapshotter="overlayfs", version="")


def test_the_thin_pool_module_is_loaded_only_for_handlers_that_use_it() -> None:
    assert kernel_modules(completed(QEMU)["handlers"]) == ["vhost", "vhost_net", "vhost_vsock"]
    assert kernel_modules(completed({**QEMU, "snapshotter": "devmapper"})["handlers"])[-1] == "dm_thin_pool"
