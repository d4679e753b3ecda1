# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Kata handlers of a containerd, as they were found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import DirectoryEntry

DEVICES = ("/dev/kvm", "/dev/vhost-net", "/dev/vhost-vsock")
# containerd pkg/shim/util.go, BinaryName: the last two parts of a runtime's name are those of its shim.
_KATA_TYPE = re.compile(r"(?:[\w-]+\.)*(kata[\w-]*)\.(v\d+)\Z")
_KATA_SHIM = re.compile(r"(?:.*/)?(containerd-shim-kata[\w-]*-v\d+)\Z")


@dataclass(frozen=True)
class DeclaredHandler:
    """A handler of containerd's configuration, and its files. ``drop_ins`` are the entries of config.d by path.

    ``snapshotters`` by the place in containerd's configuration; ``main`` is None if there is no such file. ``assumed_path`` is
    the file that Kata reads if the configuration names none.
    """

    name: str
    shim_name: str
    shim: str | None
    config_path: str | None
    snapshotters: Mapping[str, str | None] = field(default_factory=dict)
    main: bytes | None = None
    drop_ins: Mapping[str, DirectoryEntry] = field(default_factory=dict)
    version: Version | None = None
    assumed_path: str | None = None

    @property
    def path(self) -> str | None:
        """The file that Kata reads."""
        return self.config_path or self.assumed_path

    @property
    def snapshotter(self) -> str | None:
        """The one that containers get; None for the daemon's default."""
        return self.snapshotters.get("runtimes")


@dataclass(frozen=True)
class KataState:
    """The node's Kata handlers, and whether the devices that guests need are there."""

    handlers: tuple[DeclaredHandler, ...] = ()
    devices: Mapping[str, bool] = field(default_factory=dict)


def declared(config: EffectiveConfig, version: Version) -> list[DeclaredHandler]:
    """Return the Kata handlers of the effective configuration, without their files."""
    handlers = []
    for name, handler in config.handlers.items():
        kind = _KATA_TYPE.match(handler.type or "")
        # A type may be the path of a shim, and runtime_path replaces the type's shim.
        shim = _KATA_SHIM.match(handler.path or handler.type or "")
        if kind or shim:
            handlers.append(
                DeclaredHandler(
                    name=name,
                    shim_name=f"containerd-shim-{kind.group(1)}-{kind.group(2)}" if kind else shim.group(1) if shim else "",
                    shim=handler.path or (shim.group(0) if shim and "/" in shim.group(0) else None),
                    config_path=handler.config_path,
                    snapshotters=config.handler_snapshotters(name, version),
                )
            )
    return handlers
