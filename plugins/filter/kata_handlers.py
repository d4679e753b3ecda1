# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kata_handlers
short_description: The Kata handlers of an inventory, for kata_config and for containerd_config
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Takes the list C(kata_handlers) of the role C(kata) and completes it, once for M(slipway.node.kata_config) and once for
    M(slipway.node.containerd_config), so that both have the same snapshotter and the same file.
positional: _input
options:
  _input:
    description:
      - Handlers, each with the keys of O(slipway.node.kata_config#module:handlers), and C(type), C(runtime_path),
        C(pod_annotations) and C(privileged_without_host_devices).
    type: list
    elements: dict
    required: true
  tree:
    description: The directory that Kata is installed in.
    type: str
    required: true
  config_root:
    description: The directory that has a directory for each handler.
    type: str
    required: true
  snapshotter:
    description: The snapshotter of handlers that name none.
    type: str
    default: overlayfs
  version:
    description: Kata's version, for handlers that name none.
    type: str
"""

EXAMPLES = r"""
- name: Say which files containerd hands to Kata
  ansible.builtin.debug:
    msg: "{{ (kata_handlers | slipway.node.kata_handlers(tree='/opt/kata', config_root='/etc/kata-containers')).runtimes }}"
"""

RETURN = r"""
_value:
  description: C(handlers), for M(slipway.node.kata_config), and C(runtimes), for M(slipway.node.containerd_config).
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.module_utils.model.kata_handler import handler_name
from ansible_collections.slipway.node.plugins.module_utils.model.kata_options import RUST
from ansible_collections.slipway.node.plugins.module_utils.model.kata_plan import MAIN

_VARIABLE = "kata_handlers"
# Keys that are containerd's business alone.
_CONTAINERD = ("type", "runtime_path", "pod_annotations", "privileged_without_host_devices")
# Files of the Rust runtime that have had one name in all releases.
_RUST_FILES = {"qemu": "configuration-qemu-runtime-rs.toml", "dragonball": "configuration-dragonball.toml"}


def kata_handlers(
    entries: Sequence[Mapping[str, Any]],
    tree: str,
    config_root: str,
    snapshotter: str = "overlayfs",
    version: str | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """``handlers`` and ``runtimes``. Raises AnsibleFilterError that names the element at fault."""
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise AnsibleFilterError(f"{_VARIABLE} has to be a list of dictionaries, each with name, runtime and hypervisor")
    handlers: list[dict[str, Any]] = []
    runtimes: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        try:
            handler = _completed(entry, tree, snapshotter, version)
        except ValueError as error:
            raise AnsibleFilterError(f"{_VARIABLE}[{number}]: {error}") from error
        runtimes.append(_runtime(handler, tree, config_root))
        handlers.append({key: value for key, value in handler.items() if key not in _CONTAINERD})
    return {"handlers": handlers, "runtimes": runtimes}


def _completed(entry: Any, tree: str, snapshotter: str, version: str | None) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("it has to be a dictionary, such as {name: kata-qemu, runtime: go, hypervisor: qemu}")
    given = {key: value for key, value in entry.items() if value is not None}
    for key in ("name", "runtime", "hypervisor"):
        if not isinstance(given.get(key), str):
            raise ValueError(f"it needs {key}, a text")
    handler_name(given["name"])
    completed = {"snapshotter": snapshotter, **({"version": version} if version else {}), **given}
    return {**completed, "base_config": given.get("base_config") or f"{tree}/{_released_file(given)}"}


def _released_file(entry: Mapping[str, Any]) -> str:
    """Relative to the tree. Raises ValueError where it goes by the release."""
    directory, hypervisor = "share/defaults/kata-containers", entry["hypervisor"]
    if entry["runtime"] != RUST:
        return f"{directory}/configuration-{hypervisor}.toml"
    if hypervisor not in _RUST_FILES:
        raise ValueError(
            f"it needs base_config, since releases name the Rust runtime's file for {hypervisor} differently: look into "
            f"{directory}/runtime-rs of yours"
        )
    return f"{directory}/runtime-rs/{_RUST_FILES[hypervisor]}"


def _runtime(handler: Mapping[str, Any], tree: str, config_root: str) -> dict[str, Any]:
    directory = "runtime-rs/bin" if handler["runtime"] == RUST else "bin"
    return {
        "name": handler["name"],
        "type": handler.get("type", "io.containerd.kata.v2"),
        "path": handler.get("runtime_path", f"{tree}/{directory}/containerd-shim-kata-v2"),
        "config_path": f"{config_root.rstrip('/')}/{handler['name']}/{MAIN}",
        "snapshotter": handler["snapshotter"],
        "privileged_without_host_devices": handler.get("privileged_without_host_devices", True),
        "pod_annotations": handler.get("pod_annotations", ["io.katacontainers.*"]),
    }


class FilterModule:
    """The collection's view of the Kata handlers in an inventory."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"kata_handlers": kata_handlers}
