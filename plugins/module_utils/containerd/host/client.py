# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client that every containerd module makes of its options: the program, its configuration and the daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import ContainerdBinary, Ctr, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import GO_ARCHITECTURES
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, unit_name

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class Containerd:
    """A node's containerd. Each attribute is read when it is first used, and once; it raises HostError if that fails.

    ``binary`` None: the program is searched for. ``timeout`` in seconds is the limit of each program, so also of a command to
    the daemon; without one, a command waits forever for a daemon that hangs.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "config_file": {"type": "path", "default": "/etc/containerd/config.toml"},
        "binary": {"type": "path"},
        "unit": {"type": "str", "default": "containerd.service"},
        "address": {"type": "path", "default": "/run/containerd/containerd.sock"},
    }

    def __init__(
        self, runner: Runner, *, config_file: str, unit: str, address: str, binary: str | None = None, timeout: int = 0
    ) -> None:
        self.runner = runner
        self.config_file = config_file
        self.address = address
        self.unit = Unit(runner, unit)
        self._binary = binary
        self._timeout = timeout

    @classmethod
    def from_module(cls, module: AnsibleModule, timeout: int = 0) -> Containerd:
        """Return the client for a module's OPTIONS. Raises ValueError that names the option.

        Runs of modules that change nothing share it: they have a dictionary ``clients``.
        """
        params = module.params
        for option in ("config_file", "address", "binary"):
            if params[option] is not None:
                absolute_path(option, params[option])
        client = cls(
            Runner(module, timeout or None),
            config_file=params["config_file"],
            unit=unit_name(params["unit"]),
            address=params["address"],
            binary=params["binary"],
            timeout=timeout,
        )
        clients: dict[tuple[Any, ...], Containerd] | None = getattr(module, "clients", None)
        return client if clients is None else clients.setdefault((timeout, *(params[option] for option in cls.OPTIONS)), client)

    def renewed(self) -> Containerd:
        """Return a client that has read nothing yet, for use after the daemon was restarted."""
        return self._another(self._binary)

    def with_binary(self, path: str) -> Containerd:
        """Return a client with another program for the same files."""
        return self._another(path)

    def _another(self, binary: str | None) -> Containerd:
        return Containerd(
            self.runner,
            config_file=self.config_file,
            unit=self.unit.name,
            address=self.address,
            binary=binary,
            timeout=self._timeout,
        )

    @cached_property
    def program(self) -> ContainerdBinary:
        """The program, whether or not it is installed."""
        return ContainerdBinary(self.runner, find_containerd(self.runner, self.unit, self._binary))

    @property
    def installed(self) -> bool:
        """Whether the node has the program."""
        return self.program.path is not None

    def check_installed(self) -> None:
        """Raise HostError if the node hasn't the program."""
        self.program.require()

    @cached_property
    def version(self) -> Version:
        """The program's version."""
        return self.program.version()

    @cached_property
    def config(self) -> EffectiveConfig:
        """The effective configuration of the files as they are when this is first used."""
        return self.program.config(self.config_file)

    @cached_property
    def known_plugins(self) -> frozenset[str]:
        """The ids of all plugins that the program has settings for."""
        return self.default_config.plugins

    @cached_property
    def default_config(self) -> EffectiveConfig:
        """The configuration that the program has without any file."""
        return self.program.default_config()

    @cached_property
    def architecture(self) -> str:
        """The node's architecture, by the name that Go has for it."""
        machine = os.uname().machine
        return GO_ARCHITECTURES.get(machine, machine)

    @property
    def platform(self) -> str:
        """The node's platform, such as ``linux/amd64``."""
        return f"linux/{self.architecture}"

    @cached_property
    def ctr(self) -> Ctr:
        """The client program of the daemon."""
        return Ctr(self.runner, self.address, self.program.path, self._timeout)

    @cached_property
    def plugins(self) -> tuple[Plugin, ...]:
        """The daemon's plugins with their states."""
        return self.ctr.plugins()

    @cached_property
    def snapshotters(self) -> dict[str, str]:
        """The states of the daemon's snapshotters by name."""
        return {plugin.id: plugin.status for plugin in self.plugins if plugin.is_snapshotter}

    @property
    def loaded_snapshotters(self) -> tuple[str, ...]:
        """The names of the snapshotters that the daemon can use now."""
        return tuple(name for name, status in self.snapshotters.items() if status == "ok")

    @cached_property
    def namespaces(self) -> list[str]:
        """The daemon's namespaces, sorted."""
        return self.ctr.namespaces()

    def read_ahead(self) -> None:
        """Read at once what takes long and is needed to bring images: configuration, version, and the content store's place."""
        reads = (lambda: self.config, lambda: self.version, lambda: self.ctr.plugin_details("content"))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda read: read(), reads))
