# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containerd reads in a hosts.toml, and what it refuses: core/remotes/docker/config/hosts.go.

With a key of another type it reads nothing of the file, and asks the registry itself, without mirrors and credentials.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.tree import nanoseconds

_CAPABILITIES = ("pull", "resolve", "push", "referrers")


@dataclass(frozen=True)
class RegistryFile:
    """A hosts.toml and what is wrong with it; ``exposed`` are files with secrets that every user can read."""

    path: str
    problems: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegistryHosts:
    """A hosts.toml: the files that it names, whether it has credentials, and what containerd refuses in it.

    ``authorities`` are the files with certificates that registries are trusted with, ``pairs`` those with a certificate of the
    client and its private key, which may be the same.
    """

    authorities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    credentials: bool = False
    problems: tuple[str, ...] = field(default=())

    @property
    def certificates(self) -> tuple[str, ...]:
        """The files with certificates."""
        return tuple(dict.fromkeys((*self.authorities, *(certificate for certificate, _key in self.pairs))))

    @property
    def keys(self) -> tuple[str, ...]:
        """The files with private keys."""
        return tuple(dict.fromkeys(key for _certificate, key in self.pairs))


def parse_hosts(text: str, directory: str, *, before_2: bool) -> RegistryHosts:
    """Parse a hosts.toml. Raises ValueError if it is no TOML. Paths are relative to its ``directory``.

    ``before_2``: containerd 1.x reads it, which drops files that 2.x reads.
    """
    tree = toml.parse(text)
    hosts = tree.get("host", {})
    hosts = hosts if isinstance(hosts, Mapping) else {}
    tables: list[Mapping[str, Any]] = [tree, *(table for table in hosts.values() if isinstance(table, Mapping))]
    problems = [problem for table in tables for problem in _problems(table, _OF_2 if before_2 else ())]
    problems += [problem for name in hosts for problem in _url_problems(name)]
    # containerd 1.x sorts the hosts by their places in the text, and finds none with a bracket in its name.
    if before_2 and any("[" in name for name in hosts):
        problems.append("has a mirror with an IPv6 address, with which containerd 1.x reads nothing of the file")
    if before_2 and tree and not hosts:
        problems.append("has no table of a host, without which containerd 1.x reads nothing of the file")
    if not before_2 and text.startswith(toml.BYTE_ORDER_MARK):
        problems.append("begins with a byte order mark, with which containerd 2.x reads nothing of the file")
    pairs = [pair for table in tables for pair in _pairs(table.get("client"))]
    return RegistryHosts(
        authorities=_within(directory, (path for table in tables for path in _texts(table.get("ca")))),
        pairs=_pairs_within(directory, ((pair[0], pair[-1]) for pair in pairs)),
        credentials=any(_has_credentials(table) for table in tables),
        problems=tuple(dict.fromkeys(problems)),
    )


def docker_files(directory: str, names: list[str]) -> RegistryHosts:
    """Return the files that containerd reads in a directory without a hosts.toml, as Docker does: loadCertFiles."""
    pairs = []
    for name in names:
        if name.endswith(".cert"):
            key = f"{name[: -len('.cert')]}.key"
            pairs.append((name, key if key in names else name))
    return RegistryHosts(_within(directory, (name for name in names if name.endswith(".crt"))), _pairs_within(directory, pairs))


def _within(directory: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(posixpath.join(directory, name) for name in names))


def _pairs_within(directory: str, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    joined = ((posixpath.join(directory, certificate), posixpath.join(directory, key)) for certificate, key in pairs)
    return tuple(dict.fromkeys(joined))


def _problems(table: Mapping[str, Any], ignored: Collection[str]) -> Iterator[str]:
    for key, (is_valid, what) in _KINDS.items():
        if key in table and key not in ignored and not is_valid(table[key]):
            article = "an" if key[0] in "aeiou" else "a"
            yield f"has {article} {key} that is no {what}, with which containerd reads nothing of the file"
    capabilities = table.get("capabilities", [])
    for one in capabilities if _is_list(capabilities, str) else []:
        if one.lower() not in _CAPABILITIES:
            yield f"has the unknown capability {one!r}, with which containerd reads nothing of the file"
    if isinstance(table.get("server"), str):
        yield from _url_problems(table["server"])


def _url_problems(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url if url.startswith("http") else f"https://{url}")
        valid = bool(parts.hostname) and "://" not in url.partition("://")[2] and not re.search(r"\s", parts.netloc)
        valid = valid and ("://" not in url or parts.scheme == url.partition("://")[0])
        valid = valid and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if url and not valid:
        yield f"has {url!r}, which is no URL of a registry"


def _is_list(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(one, kinds) for one in value)


def _is_client(value: Any) -> bool:
    pairs = [one for one in value if isinstance(one, list)] if _is_list(value, str, list) else []
    return isinstance(value, str) or (
        _is_list(value, str, list) and all(len(pair) == 2 and _is_list(pair, str) for pair in pairs)
    )


def _is_header(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) or _is_list(one, str) for one in value.values())


# Keys that containerd 1.x doesn't know.
_OF_2 = ("dial_timeout",)
# What containerd takes for each key.
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "server": (lambda value: isinstance(value, str), "text"),
    "host": (
        lambda value: isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values()),
        "table of tables",
    ),
    "capabilities": (lambda value: _is_list(value, str), "list of texts"),
    "ca": (lambda value: isinstance(value, str) or _is_list(value, str), "path or list of paths"),
    "client": (_is_client, "path, list of paths, or list of pairs of paths"),
    "skip_verify": (lambda value: isinstance(value, bool), "true or false"),
    "override_path": (lambda value: isinstance(value, bool), "true or false"),
    "header": (_is_header, "table of texts or lists of texts"),
    "dial_timeout": (
        lambda value: isinstance(value, str) and (not value or nanoseconds(value) is not None),
        "duration, such as '5s'",
    ),
}


def _has_credentials(table: Mapping[str, Any]) -> bool:
    header = table.get("header", {})
    return isinstance(header, Mapping) and any("auth" in name.lower() or "token" in name.lower() for name in header)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one]


def _pairs(value: Any) -> list[tuple[str, ...]]:
    """Return the client's pairs of certificate and key; one path for a file that has both."""
    if not _is_client(value):
        return []
    return [(value,)] if isinstance(value, str) else [(one,) if isinstance(one, str) else tuple(one) for one in value]
