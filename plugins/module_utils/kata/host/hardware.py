# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the hardware and the kernel modules that Kata's guests need. Nothing is changed."""

from __future__ import annotations

import os

from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.core.host.text import read_text
from ansible_collections.slipway.node.plugins.module_utils.kata.hardware import (
    Machine,
    module_name,
    parse_cpu_flags,
    parse_module_paths,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.host.state import is_device
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DEVICES


def read_machine() -> Machine:
    """Read the node's CPU, devices and modules. Raises HostError."""
    system = os.uname()
    directory = f"/lib/modules/{system.release}"
    builtin = parse_module_paths(read_text(f"{directory}/modules.builtin") or "")
    return Machine(
        architecture=system.machine,
        kernel=system.release,
        cpu_flags=parse_cpu_flags(read_text("/proc/cpuinfo") or ""),
        devices={device: is_device(device) for device in DEVICES},
        loaded=_loaded() | builtin,
        loadable=parse_module_paths(read_text(f"{directory}/modules.dep") or ""),
    )


def _loaded() -> frozenset[str]:
    """Return the loaded modules, and the built-in ones with parameters."""
    with naming("list", "/sys/module"):
        return frozenset(module_name(name) for name in os.listdir("/sys/module"))
