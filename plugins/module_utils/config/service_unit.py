# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd drop-in that holds the daemon's limits and proxy settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.options import one_line, proxy_url

# The first words of every file that only the collection writes.
MANAGED = "Managed by slipway.node: changes made here are lost."
_DIRECTIVE = re.compile(r"^[A-Z][A-Za-z0-9]*\Z")
# Directives that would change what is run, rather than how; the unit itself belongs to the package.
_FORBIDDEN = re.compile(r"^(Exec|Type\Z|User\Z|Group\Z|Environment)")


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
                raise ValueError(f"http_proxy.no_proxy takes one name, address or network an entry, not {one!r}")
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
            f"service_directives.{name} can't be set here: it takes limits and the like, such as LimitNOFILE or TasksMax"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)) or str(value).endswith("\\"):
        raise ValueError(f"service_directives.{name} has to be one line of text or a number, not {value!r}")
    return one_line(f"service_directives.{name}", str(value))


def _escaped(value: str) -> str:
    # systemd.exec(5): % starts a specifier, \\ and " are special inside quotes.
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
