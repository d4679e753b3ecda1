# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd drop-in that holds the daemon's limits and proxy settings, and the other files of the unit."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.options import one_line, proxy_url
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import assignments

# The first words of every file that only the collection writes.
MANAGED = "Managed by slipway.node: changes made here are lost."
_DIRECTIVE = re.compile(r"^[A-Z][A-Za-z0-9]*\Z")
# Directives that would change what is run, rather than how; the unit itself belongs to the package.
_FORBIDDEN = re.compile(r"^(Exec|Type\Z|User\Z|Group\Z|Environment)")
# Later lines of these add to earlier ones: systemd.exec(5), systemd.resource-control(5).
_LISTS = re.compile(
    r"^(Exec.*|.*Environment|EnvironmentFile|.*Paths|TemporaryFileSystem|SystemCall.*|.*Capabilit.*|Restrict.*|Device(Allow|Policy)"
    r"|IPAddress.*|IO.*|SocketBind.*|Supplementary.*|(Runtime|State|Cache|Logs|Configuration)Directory|.*Credential.*|.*Images?"
    r"|ExtensionDirectories|BPFProgram|Log(ExtraFields|FilterPatterns)|DisableControllers)\Z"
)


def drop_in_path(unit: str) -> str:
    """Return the path of the collection's drop-in of a unit."""
    return f"/etc/systemd/system/{unit}.d/60-slipway.conf"


@dataclass(frozen=True)
class Service:
    """``directives`` of the [Service] section, and the proxy that the daemon pulls through."""

    directives: Mapping[str, str] = field(default_factory=dict)
    http_proxy: str | None = None
    https_proxy: str | None = None
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def from_params(cls, directives: Mapping[str, Any], proxy: Mapping[str, Any]) -> Service:
        """Check the options ``service_directives`` and ``http_proxy``. Raises ValueError that names the option."""
        texts = {name: _directive(name, value) for name, value in directives.items()}
        http, https = (proxy_url(f"http_proxy.{key}", proxy[key]) if proxy.get(key) else None for key in ("http", "https"))
        for one in proxy.get("no_proxy") or ():
            one_line("http_proxy.no_proxy", one)
            if "," in one or " " in one:
                raise ValueError(f"http_proxy.no_proxy must be a list of names, addresses and networks, not {one!r}")
        return cls(texts, http, https, tuple(proxy.get("no_proxy") or ()))

    def environment(self) -> dict[str, str]:
        """Return the proxy variables. Go reads the upper-case names, and so do the programs that a proxy plugin runs."""
        variables = {"HTTP_PROXY": self.http_proxy, "HTTPS_PROXY": self.https_proxy}
        set_ones = {name: value for name, value in variables.items() if value}
        if set_ones and self.no_proxy:
            set_ones["NO_PROXY"] = ",".join(self.no_proxy)
        return set_ones

    def text(self) -> str | None:
        """Return the drop-in's content; None for no drop-in."""
        lines = [f"{name}={value}" for name, value in sorted(self.directives.items())]
        lines += [f'Environment="{name}={_escaped(value)}"' for name, value in sorted(self.environment().items())]
        if not lines:
            return None
        return "\n".join([f"# {MANAGED}", "[Service]", *lines]) + "\n"


def _directive(name: str, value: Any) -> str:
    if not _DIRECTIVE.match(name) or _FORBIDDEN.match(name):
        raise ValueError(
            f"service_directives.{name} can't be set here: service_directives is for limits, such as LimitNOFILE or TasksMax"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)) or str(value).endswith("\\"):
        raise ValueError(f"service_directives.{name} has to be one line of text or a number, not {value!r}")
    return one_line(f"service_directives.{name}", str(value))


def _escaped(value: str) -> str:
    # systemd.exec(5): % starts a specifier, \\ and " are special inside quotes.
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def directives(text: str) -> list[tuple[str, str]]:
    """Return the assignments of the section [Service] of a unit's file, in order."""
    return [(one.key, one.value) for one in assignments(text) if one.section == "Service"]


def overridden_directives(files: Iterable[Source], own: str, text: str) -> list[str]:
    """Return which directives of the file ``own`` with this text another file of the unit, which systemd reads later, changes."""
    ours = dict(directives(text))
    found: dict[str, str] = {}
    for file in _later(files, own):
        for key, value in directives(file.text):
            if key in ours and not (_LISTS.match(key) and value):
                found.pop(key, None)
                if value != ours[key] and key != "Environment":
                    found[key] = f"{key}={ours[key]} of {own} is overridden by {key}={value} in {file.path}"
    return list(found.values())


def overridden_variables(
    files: Iterable[Source], own: str, wanted: Mapping[str, str], variables: Iterable[Source] = ()
) -> dict[str, str]:
    """Return the variables that systemd doesn't set as the file ``own`` does, each with the file that overrides it.

    ``variables`` are the files that EnvironmentFile= of the unit names, which override the unit's own variables.
    """
    found: dict[str, str] = {}
    for file in _later(files, own):
        for key, value in directives(file.text):
            if key == "Environment":
                # An empty assignment takes back all earlier ones.
                got = dict(_assignments(value)) if value else dict.fromkeys(wanted)
                _compare(found, wanted, got, file.path)
    for file in variables:
        lines = (line.strip().partition("=") for line in file.text.splitlines())
        _compare(found, wanted, {name.strip(): value.strip().strip("\"'") for name, _equals, value in lines}, file.path)
    for file in files:
        unset = [one for key, value in directives(file.text) if key == "UnsetEnvironment" for one in value.split()]
        _compare(found, wanted, {name.strip("\"'"): None for name in unset}, file.path)
    return found


def _compare(found: dict[str, str], wanted: Mapping[str, str], got: Mapping[str, str | None], path: str) -> None:
    for name, value in got.items():
        if name in wanted:
            found.pop(name, None)
            if value != wanted[name]:
                found[name] = path


def _later(files: Iterable[Source], own: str) -> list[Source]:
    """Return the drop-ins that systemd reads after the file ``own``, sorted by name across directories.

    systemd.unit(5). Of two files of one name, systemd lists only the one that it reads.
    """
    named = {file: posixpath.split(file.path) for file in files}
    last = [file for file, (directory, name) in named.items() if directory.endswith(".d") and name > posixpath.basename(own)]
    return sorted(last, key=lambda file: named[file][1])


def environment_files(files: Iterable[Source]) -> list[str]:
    """Return the paths that EnvironmentFile= of the unit's files names, in order; they may have wildcards."""
    found: list[str] = []
    for file in files:
        for key, value in directives(file.text):
            if key == "EnvironmentFile":
                # An empty assignment takes back all earlier ones; a dash allows a file to be missing.
                found = [*found, value.lstrip("-")] if value else []
    return found


def _assignments(value: str) -> Iterator[tuple[str, str]]:
    """Yield the variables of one line of Environment= or of an environment file."""
    try:
        words = shlex.split(value)
    except ValueError:
        return
    for word in words:
        name, equals, text = word.partition("=")
        if equals:
            yield name, text.replace("%%", "%")
