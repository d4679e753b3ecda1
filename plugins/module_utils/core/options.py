# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single option values. Each names the option in its ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.tree import nanoseconds

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,75}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def absolute_path(option: str, value: str) -> str:
    """Return the path. Raises ValueError that names the option unless it is absolute, normal and printable."""
    if _CONTROL.search(value):
        raise ValueError(f"{option} holds a control character: give a plain absolute path")
    parts = value.split("/")
    if not value.startswith("/") or ".." in parts:
        raise ValueError(f"{option} has to be an absolute path without '..', not {value!r}")
    return value


def absolute_paths(option: str, value: str) -> str:
    """Return paths that are joined by colons, each checked as ``absolute_path`` does."""
    for part in value.split(":"):
        absolute_path(option, part)
    return value


def plain_name(option: str, value: str) -> str:
    """Return the name. Raises ValueError that names the option unless it is letters, digits, '.', '_' and '-'."""
    if not _NAME.match(value):
        raise ValueError(
            f"{option} has to be a name of at most 76 letters, digits, '.', '_' and '-', "
            f"starting with a letter or digit, not {value!r}"
        )
    return value


def one_line(option: str, value: str) -> str:
    """Return the text. Raises ValueError that names the option if it is empty or has control characters."""
    if not value or _CONTROL.search(value):
        raise ValueError(f"{option} has to be one line of text, not {value!r}")
    return value


def duration(option: str, value: str) -> str:
    """Return the text. Raises ValueError that names the option unless it is a Go duration with units, and not negative."""
    if nanoseconds(value) is None or value.startswith("-"):
        raise ValueError(f"{option} has to be a duration with units, such as 90s, 5m or 1h30m, not {value!r}")
    return value


def at_least(least: int) -> Callable[[str, Any], Any]:
    """Make a check that raises ValueError, naming the option, for smaller numbers."""

    def check(option: str, value: int) -> int:
        if value < least:
            raise ValueError(f"{option} has to be {least} or more")
        return value

    return check


_PROXY_USER = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_PROXY_HOST = re.compile(r"\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]")
_PROXY_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*)*")


def proxy_url(option: str, value: Any) -> str:
    """Return the URL of a proxy. Raises ValueError that names the option, and not the URL, unless Go reads it as one.

    A URL that Go can't read is ignored, or its scheme is taken for the host (golang.org/x/net/http/httpproxy, net/url).
    """
    scheme, _colon, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    user, _at, address = authority.rpartition("@")
    host, _colon, port = address.rpartition(":") if re.search(r":[^]]*\Z", address) else (address, "", "80")
    if "@" in path or not _PROXY_USER.fullmatch(user):
        why = (
            "write each character of the user name and the password that isn't a letter, a digit or one of -._~ as % and two "
            "hexadecimal digits for each of its bytes, such as %25 for %, %2F for / and %40 for @"
        )
    elif scheme.lower() not in ("http", "https", "socks5", "socks5h") or not _PROXY_HOST.fullmatch(host):
        why = "give the scheme (http, https or socks5) and the host"
    elif not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        why = "give the port as a number between 1 and 65535"
    elif not _PROXY_PATH.fullmatch(path):
        why = "remove the part behind the host and the port"
    else:
        # The two are the same to Go, and containerd 1.6 doesn't know the second.
        return re.sub("^socks5h(?=:)", "socks5", str(value), flags=re.IGNORECASE)
    raise ValueError(f"{option} has to be a URL such as http://user:password@proxy.example:3128: {why}")


# What Go takes in a URL: net/url, parseAuthority and validOptionalPort.
_GO_ESCAPED = r"(?:[^%\x00-\x1f\x7f]|%[0-9A-Fa-f]{2})*"
_GO_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://"
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*@)?"
    r"(?:\[[^]%]+(?:%25[^]]*)?\]|[^][\x00-\x20\x7f/?#@:%\\^`{|}]+)(?::[0-9]*)?"
    rf"(?:[/?#]{_GO_ESCAPED})?"
)


def go_reads_proxy(value: str) -> bool:
    """Return whether Go finds the host of a proxy in a variable such as HTTPS_PROXY. No request of the daemon works otherwise.

    Without a scheme it is a proxy of HTTP: golang.org/x/net/http/httpproxy, parseProxy.
    """
    return not value or bool(_GO_URL.fullmatch(value if ":/" in value else f"http://{value}"))


_UNIT = re.compile(r"^[A-Za-z0-9:_.@-]{1,240}\Z")


def unit_name(name: str) -> str:
    """Return a service's full name. Raises ValueError that names the option."""
    if not _UNIT.match(name) or name.startswith("-"):
        raise ValueError(f"unit has to be the name of a systemd service, not {name!r}")
    return name if name.endswith(".service") else f"{name}.service"
