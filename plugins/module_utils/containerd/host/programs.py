# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run containerd's programs, and read their output."""

from __future__ import annotations

import os
import re
from functools import cached_property

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Plugin, parse_details, parse_plugins
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.config_files import check_imports
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import PROBE_NAMESPACE
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.core.toml import parse

# What containerd says of anything that isn't there: errdefs.
NOT_FOUND = "not found"
_USUAL_PATHS = ("/usr/local/bin/containerd", "/usr/bin/containerd")
NOT_INSTALLED = "containerd isn't installed on the node"
# The program reads files and prints them: what takes longer waits forever, as for a FIFO or a file system that is gone.
_ANSWER_SECONDS = 60.0
# A daemon that answers at all says at once which plugins it has.
_PLUGINS_SECONDS = 20.0
# What ctr says where nothing listens on the socket.
_UNREACHABLE = re.compile(
    r"cannot access socket .*no such file|(?:failed to dial|error while dialing).*(?:refused|exceeded|no such)", re.IGNORECASE
)
_REASON = re.compile(r"^Error: *$.*?^ +Message: +(.*?)(?:: skip plugin)? *$", re.MULTILINE | re.DOTALL)


def find_containerd(runner: Runner, unit: Unit, named: str | None) -> str | None:
    """Return the program that is named; else the one that the unit runs; else the one in the usual directories.

    A file that can't be executed is returned too, so that the node isn't taken for one without containerd.
    """
    if named:
        return runner.find(named) or (named if os.path.isfile(named) else None)
    try:
        path = unit.program()
    except HostError:
        path = None  # no systemd
    if path and os.path.basename(path) == "containerd" and os.path.isfile(path):
        return path
    return runner.find("containerd") or next(filter(os.path.isfile, _USUAL_PATHS), None)


class ContainerdBinary:
    """The program, whether or not a daemon runs. ``path`` None: it isn't installed."""

    def __init__(self, runner: Runner, path: str | None) -> None:
        self._runner = runner
        self.path = path

    def require(self) -> str:
        """Return the path. Raises HostError if there is none."""
        if self.path is None:
            raise HostError(f"{NOT_INSTALLED}: install it first, or name the program with binary")
        if not os.access(self.path, os.X_OK):
            raise HostError(f"{self.path} is not executable: set its mode to 0755, or install containerd again")
        return self.path

    def version(self) -> Version:
        """Return the program's version. Raises HostError if it is missing or doesn't report one."""
        path = self.require()
        try:
            return Version.parse(self._ask("--version", doing=f"ask {path} for its version"))
        except ValueError as error:
            raise HostError(f"{path} is not containerd: {error}") from error

    def config(self, config_file: str | None) -> EffectiveConfig:
        """Return the effective configuration of a root file and its imports; the default one where there is no file.

        Raises HostError with the daemon's own complaint if it can't be read, or if the daemon would not start with its imports.
        """
        if config_file is None or not os.path.exists(config_file):
            return self.default_config()
        check_imports(config_file)
        return EffectiveConfig(parse(self._ask("--config", config_file, "config", "dump", doing="load the configuration")))

    def default_config(self) -> EffectiveConfig:
        """Return the configuration without any file. Raises HostError if the program doesn't print it."""
        return EffectiveConfig(parse(self._ask("config", "default", doing="ask for the default configuration")))

    def _ask(self, *arguments: str, doing: str) -> str:
        return self._runner.run(self.require(), *arguments, doing=doing, timeout=_ANSWER_SECONDS)


class Ctr:
    """The daemon behind a socket, asked through ``ctr``.

    ``timeout``: after how many seconds a command gives up; without one, it waits forever for a daemon that hangs.
    """

    def __init__(self, runner: Runner, address: str, binary: str | None, timeout: int = 0) -> None:
        self._runner = runner
        self.address = address
        self._limit = ("--timeout", f"{timeout}s") if timeout else ()
        self._plugins_seconds = min(_PLUGINS_SECONDS, timeout) if timeout else None
        beside = os.path.join(os.path.dirname(binary), "ctr") if binary else ""
        self.path = beside if os.access(beside, os.X_OK) else runner.find("ctr")

    def command(self, *arguments: str) -> list[str]:
        """Return the argument list for one of its commands. Raises HostError if there is no ctr."""
        if self.path is None:
            raise HostError("there is no program ctr on the node: install it, it comes with containerd")
        return [self.path, "--address", self.address, *self._limit, *arguments]

    def _run(self, *arguments: str, doing: str, timeout: float | None = None) -> str:
        try:
            return self._runner.run(*self.command(*arguments), doing=doing, timeout=timeout)
        except HostError as error:
            if _UNREACHABLE.search(error.stderr):
                error.message = f"the containerd daemon doesn't answer at {self.address}: start its service, or correct address"
            raise

    def namespaces(self) -> list[str]:
        """Return the names of the daemon's namespaces, sorted. Raises HostError if it fails.

        Without that of the probe: the next probe removes what a killed one left there, which may be damaged by a power cut.
        """
        stdout = NamespaceCtr(self, "default").ask("namespaces", "ls", "-q", doing="ask containerd for its namespaces")
        return sorted({*stdout.split()} - {PROBE_NAMESPACE})

    def plugins(self) -> tuple[Plugin, ...]:
        doing = f"ask containerd at {self.address} for its plugins"
        return parse_plugins(self._run("plugins", "ls", doing=doing, timeout=self._plugins_seconds))

    def plugin_details(self, plugin_id: str) -> str:
        """Return all about the plugins of this id, as text, also what they export, such as their directory. Asked for once."""
        return self._details.get(plugin_id, "")

    @cached_property
    def _details(self) -> dict[str, str]:
        # One question for all costs less than one for each.
        return parse_details(self._run("plugins", "ls", "--detailed", doing="ask containerd about its plugins"))

    def plugin_reason(self, plugin_id: str) -> str:
        """Return why a plugin isn't ok now, in the daemon's own words; empty if it doesn't say."""
        doing = f"ask containerd about its plugin {plugin_id}"
        found = _REASON.search(self._run("plugins", "ls", "--detailed", f"id=={plugin_id}", doing=doing))
        return found[1].strip() if found else ""

    def in_namespace(self, namespace: str, *arguments: str, doing: str) -> str:
        """Return the output of a command in one of containerd's namespaces. Raises HostError ("cannot DOING …") if it fails."""
        return self._run("--namespace", namespace, *arguments, doing=doing)


class NamespaceCtr:
    """Commands of ``ctr`` for one namespace of the daemon."""

    def __init__(self, ctr: Ctr, namespace: str) -> None:
        self._ctr = ctr
        self._namespace = namespace

    def ask(self, *arguments: str, doing: str) -> str:
        """Return the output of a command. Raises HostError ("cannot DOING …") if it fails."""
        return self._ctr.in_namespace(self._namespace, *arguments, doing=doing)

    def ensure_gone(self, *arguments: str, doing: str) -> None:
        """Run a command that removes something, which may be gone already."""
        try:
            self.ask(*arguments, doing=doing)
        except HostError as error:
            if NOT_FOUND not in str(error):
                raise
