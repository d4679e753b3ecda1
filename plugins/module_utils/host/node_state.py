# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the checks of a node look at, read without changing anything."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.config_tree import missing_imports, read_sources
from ansible_collections.slipway.node.plugins.module_utils.host.containerd import ContainerdBinary, Ctr, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.host.daemon import RunningDaemon
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.process import machine, read_environment
from ansible_collections.slipway.node.plugins.module_utils.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import read_record
from ansible_collections.slipway.node.plugins.module_utils.model.checks import NodeState
from ansible_collections.slipway.node.plugins.module_utils.model.schema import GO_ARCHITECTURES


def read_node(runner: Runner, *, config_file: str, unit: str, address: str, binary: str | None) -> NodeState:
    """Each part that can't be read is left None, and ``trouble`` has the reason under its name."""
    trouble: dict[str, str] = {}
    parts: dict[str, Any] = {}

    def attempt(name: str, read: Any) -> Any:
        try:
            parts[name] = read()
        except HostError as error:
            trouble[name] = str(error)
        return parts.get(name)

    service = Unit(runner, unit)
    path = find_containerd(runner, service, binary)
    program = ContainerdBinary(runner, path)
    if attempt("version", program.version):
        attempt("dump", lambda: program.dump(config_file))
        attempt("known_plugins", program.known_plugins)
    daemon = attempt("daemon", RunningDaemon(service, Ctr(runner, address, path), config_file, path).look)
    if daemon is not None and daemon.process is not None:
        attempt("environment", lambda: read_environment(daemon.process.pid))
    if attempt("sources", lambda: tuple(read_sources(config_file))):
        parts["missing_imports"] = tuple(missing_imports(parts["sources"]))
    record = attempt("record", lambda: read_record(config_file))
    parts.pop("record", None)
    return NodeState(
        config_file=config_file,
        unit=unit,
        now=time.time(),
        architecture=GO_ARCHITECTURES.get(machine(), machine()),
        pending=tuple(sorted(record.pending)) if record is not None else (),
        trouble=trouble,
        **parts,
    )
