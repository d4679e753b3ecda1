# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kata handlers of an inventory, completed for kata_config and for containerd_config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.kata.directory import MAIN
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import handler_name
from ansible_collections.slipway.node.plugins.module_utils.kata.options import RUST

VARIABLE = "kata_handlers"
# Files of a release refer to each other below this directory.
INSTALL_ROOT = "/opt/kata"
# Keys that only containerd_config takes.
_CONTAINERD = ("type", "runtime_path", "pod_annotations", "privileged_without_host_devices")
# Files of the Rust runtime whose names are the same in all releases.
_RUST_FILES = {"qemu": "configuration-qemu-runtime-rs.toml", "dragonball": "configuration-dragonball.toml"}


def kata_handlers(
    entries: Any, *, config_dir: str, snapshotter: str, version: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the handlers for kata_config and the runtimes for containerd_config.

    ``snapshotter`` and ``version`` apply to handlers that name none. Raises ValueError that names the element at fault.
    """
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise ValueError(f"{VARIABLE} has to be a list of dictionaries, each with name, runtime and hypervisor")
    handlers: list[dict[str, Any]] = []
    runtimes: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        try:
            handler = _completed(entry, snapshotter, version)
        except ValueError as error:
            raise ValueError(f"{VARIABLE}[{number}]: {error}") from error
        runtimes.append(_runtime(handler, config_dir))
        handlers.append(_handler(handler))
    return handlers, runtimes


def kernel_modules(handlers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the modules that the handlers need."""
    thin = any(handler["snapshotter"] == "devmapper" for handler in handlers)
    return ["vhost", "vhost_net", "vhost_vsock"] + (["dm_thin_pool"] if thin else [])


def _completed(entry: Any, snapshotter: str, version: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("it has to be a dictionary, such as {name: kata-qemu, runtime: go, hypervisor: qemu}")
    given = {key: value for key, value in entry.items() if value is not None}
    for key in ("name", "runtime", "hypervisor"):
        if not isinstance(given.get(key), str):
            raise ValueError(f"it needs {key}, a string")
    handler_name(given["name"])
    completed = {"snapshotter": snapshotter, **({"version": version} if version else {}), **given}
    return {**completed, "base_config": given.get("base_config") or f"{INSTALL_ROOT}/{_release_file(given)}"}


def _release_file(entry: Mapping[str, Any]) -> str:
    """Return the path below the release's directory. Raises ValueError if it differs between releases."""
    directory, hypervisor = "share/defaults/kata-containers", entry["hypervisor"]
    if entry["runtime"] != RUST:
        return f"{directory}/configuration-{hypervisor}.toml"
    if hypervisor not in _RUST_FILES:
        raise ValueError(
            f"it needs base_config, because the name of the Rust runtime's file for {hypervisor} differs between releases: "
            f"see {directory}/runtime-rs in yours"
        )
    return f"{directory}/runtime-rs/{_RUST_FILES[hypervisor]}"


def _handler(handler: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in handler.items() if key not in _CONTAINERD}


def _runtime(handler: Mapping[str, Any], config_dir: str) -> dict[str, Any]:
    directory = "runtime-rs/bin" if handler["runtime"] == RUST else "bin"
    return {
        "name": handler["name"],
        "type": handler.get("type", "io.containerd.kata.v2"),
        "path": handler.get("runtime_path", f"{INSTALL_ROOT}/{directory}/containerd-shim-kata-v2"),
        "config_path": f"{config_dir.rstrip('/')}/{handler['name']}/{MAIN}",
        "snapshotter": handler["snapshotter"],
        "privileged_without_host_devices": handler.get("privileged_without_host_devices", True),
        "pod_annotations": handler.get("pod_annotations", ["io.katacontainers.*"]),
    }
