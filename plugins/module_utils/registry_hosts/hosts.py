# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registry host configuration: the expected content of a ``certs.d`` directory.

Sources: containerd docs/hosts.md and core/remotes/docker/config/hosts.go.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

MARKER = "# Managed by slipway.node"
HOSTS_FILE = "hosts.toml"
PEM_PREFIX = "slipway-"
DEFAULT_HOST = "_default"
CAPABILITIES = ("pull", "resolve", "push")
MASK = "********"
SHOWN_KEY = "(private key)\n"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]")
# Names of the DNS may have underscores; names in image references can't.
_URL_HOST = re.compile(rf"{_HOST.pattern}|\w[\w-]*(?:\.\w[\w-]*)*\.?", re.ASCII)
# The characters of a path (RFC 3986 3.3), and escapes that Go can read.
_URL_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PEM_BLOCK = re.compile(r"^-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)\n-----END \1-----", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Endpoint:
    """One server to ask. An empty url stands for the registry's own address."""

    url: str
    capabilities: tuple[str, ...] = ()
    ca: tuple[str, ...] = ()
    client_cert: str | None = None
    client_key: str | None = field(default=None, repr=False)
    skip_verify: bool | None = None
    override_path: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Registry:
    """One registry host namespace: ``host``, ``host:port`` or ``_default``; mirrors are tried in their order."""

    name: str
    server: Endpoint
    mirrors: tuple[Endpoint, ...]

    @property
    def directory(self) -> str:
        """Name of the directory that containerd looks at first for this registry."""
        return directories_of(self.name)[0]


@dataclass(frozen=True)
class File:
    """A file to have: content, permission bits, and what a diff may show of it."""

    content: bytes
    mode: int
    shown: str


def _endpoint_options() -> dict[str, Any]:
    """Return the options that a registry and each of its mirrors share."""
    return {
        "capabilities": {"type": "list", "elements": "str", "choices": list(CAPABILITIES)},
        "ca": {"type": "list", "elements": "str", "default": []},
        "client_cert": {"type": "str"},
        "client_key": {"type": "str", "no_log": True},
        "skip_verify": {"type": "bool"},
        "override_path": {"type": "bool", "default": False},
        "headers": {"type": "dict", "no_log": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
    }


def registry_options() -> dict[str, Any]:
    """Return the suboptions of a module's option ``registries``."""
    mirror = {"url": {"type": "str", "required": True}, **_endpoint_options()}
    mirror["capabilities"]["default"] = ["pull", "resolve"]
    return {
        "name": {"type": "str", "required": True},
        "server": {"type": "str"},
        "mirrors": {"type": "list", "elements": "dict", "default": [], "options": mirror},
        **_endpoint_options(),
    }


def directories_of(name: str) -> tuple[str, ...]:
    """Return the directory names that containerd tries for a registry, in its order.

    hostDirectory() turns ``host:port`` into ``host_port_``; that name is tried before the literal one.
    """
    match = re.fullmatch(r"(.+):(\d+)", name)
    if match is None or name.endswith("]"):
        return (name,)
    return (f"{match.group(1)}_{match.group(2)}_", name)


def parse_config_path(path: str) -> str:
    """Return the path without a slash at its end; raise ValueError unless it is one absolute path."""
    if not path.startswith("/") or ":" in path or _CONTROL.search(path) or ".." in path.split("/"):
        raise ValueError(f"config_path must be the absolute path of one directory, not {path!r}")
    return path.rstrip("/")


def parse_names(registries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names only, for their removal. Raises ValueError naming the entry that is wrong."""
    return tuple(_registry_name(entry["name"], f"registries[{index}].name") for index, entry in enumerate(registries))


def parse_registries(registries: Sequence[Mapping[str, Any]]) -> tuple[Registry, ...]:
    """Turn the module's ``registries`` option into Registry values.

    Raises ValueError naming the entry and option that is wrong.
    """
    parsed = tuple(_registry(entry, f"registries[{index}]") for index, entry in enumerate(registries))
    seen: dict[str, str] = {}
    for registry in parsed:
        key = registry.name.lower()
        if key in seen:
            raise ValueError(f"registries: {registry.name} is listed twice, merge the two entries into one")
        seen[key] = registry.name
    return parsed


def ipv6_mirror(registries: Sequence[Registry]) -> str | None:
    """Return the first URL with an IPv6 literal that is written as a table, or None.

    containerd 1.x reads a table's name up to the first bracket that closes, also in quotes, and then drops the whole file
    (pelletier/go-toml 1.9 lexer.go lexInsideTableKey).
    """
    urls = [host.url for registry in registries for host in registry.mirrors or (_explicit(registry),)]
    return next((url for url in urls if "[" in url), None)


def refuse_ipv6(version: Version, url: str | None) -> None:
    """Raise ValueError if a containerd of this version can't read the URL of ipv6_mirror()."""
    if url is not None and version.major == 1:
        raise ValueError(
            f"registries: containerd {version} ignores a hosts.toml with the IPv6 address of {url}: give the mirror a name in "
            "the DNS or in /etc/hosts, or upgrade to containerd 2"
        )


def _registry(entry: Mapping[str, Any], where: str) -> Registry:
    name = _registry_name(entry["name"], f"{where}.name")
    where = f"registries[{name}]"
    mirrors = tuple(
        _endpoint(mirror, mirror["url"], f"{where}.mirrors[{index}]", "url")
        for index, mirror in enumerate(entry.get("mirrors") or [])
    )
    urls = [mirror.url for mirror in mirrors]
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{where}.mirrors: {url} is listed twice, remove one")
    server = _endpoint(entry, entry.get("server"), where, "server")
    if not server.url:
        _check_implied_server(name, server, bool(mirrors), where)
    return Registry(name=name, server=server, mirrors=mirrors)


def _check_implied_server(name: str, server: Endpoint, has_mirrors: bool, where: str) -> None:
    """Refuse options of the server without a server: containerd ignores them, or uses them for others."""
    for option in ("capabilities", "override_path"):
        if getattr(server, option):
            raise ValueError(f"{where}.{option} has no effect without server, so set server too")
    if name == DEFAULT_HOST:
        if any(header.lower() == "authorization" for header, value in server.headers):
            raise ValueError(f"{where}: credentials without server would be sent to every registry, so set server too")
        if not has_mirrors:
            raise ValueError(f"{where} needs server or mirrors: set one of them")


def _registry_name(name: str, where: str) -> str:
    if name == DEFAULT_HOST:
        return name
    host, port = _split_port(name)
    if not _HOST.fullmatch(host) or not _is_port(port):
        raise ValueError(
            f"{where} must be a registry host such as quay.io or registry.example:5000, or {DEFAULT_HOST}, not {name!r}"
        )
    return name


def _split_port(netloc: str) -> tuple[str, str | None]:
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        return netloc, None
    return host, port


def _is_port(port: str | None) -> bool:
    return port is None or (bool(re.fullmatch(r"[0-9]{1,5}", port)) and 0 < int(port) < 65536)


def _endpoint(options: Mapping[str, Any], url: str | None, where: str, url_option: str) -> Endpoint:
    capabilities = tuple(options.get("capabilities") or ())
    for capability in capabilities:
        if capability not in CAPABILITIES:
            raise ValueError(f"{where}.capabilities must be some of {', '.join(CAPABILITIES)}, not {capability!r}")
    cert, key = options.get("client_cert"), options.get("client_key")
    if bool(cert) != bool(key):
        given, missing = ("client_cert", "client_key") if cert else ("client_key", "client_cert")
        raise ValueError(f"{where}.{given} needs {missing} beside it")
    return Endpoint(
        url=_url(url, f"{where}.{url_option}") if url else "",
        capabilities=tuple(capability for capability in CAPABILITIES if capability in capabilities),
        ca=tuple(_certificates(text, f"{where}.ca") for text in options.get("ca") or ()),
        client_cert=_certificates(cert, f"{where}.client_cert") if cert else None,
        client_key=_private_key(key, f"{where}.client_key") if key else None,
        skip_verify=options.get("skip_verify"),
        override_path=bool(options.get("override_path")),
        headers=_headers(options, where),
    )


def _url(url: str, where: str) -> str:
    """Return the URL without a slash at its end."""
    wrong = f"{where} must be a URL such as https://mirror.example:5000/path, not {url!r}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(wrong) from error
    if "@" in parts.netloc:
        raise ValueError(f"{where} holds credentials, give them as username and password")
    host, port = _split_port(parts.netloc)
    well_formed = parts.scheme in ("http", "https") and _URL_HOST.fullmatch(host) and _is_port(port)
    # urlsplit drops newlines and tabs silently, so compare with what was given.
    if not well_formed or not _URL_PATH.fullmatch(parts.path) or parts.geturl() != url or parts.query or parts.fragment:
        raise ValueError(wrong)
    if ".." in parts.path.split("/"):
        raise ValueError(wrong)
    return url.rstrip("/")


def _headers(options: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    headers = {str(name): str(value) for name, value in (options.get("headers") or {}).items()}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{where}.headers has a name that no HTTP header can have: {name!r}")
        if _CONTROL.search(value):
            raise ValueError(f"{where}.headers: the value of {name} holds a control character or a line break")
    username, password = options.get("username"), options.get("password")
    if (username is None) != (password is None):
        given, missing = ("username", "password") if password is None else ("password", "username")
        raise ValueError(f"{where}.{given} needs {missing} beside it")
    if username is None or password is None:
        return tuple(sorted(headers.items()))
    if any(name.lower() == "authorization" for name in headers):
        raise ValueError(f"{where}.headers has Authorization beside username, give only one of them")
    headers["Authorization"] = basic_authorization(username, password, where)
    return tuple(sorted(headers.items()))


def basic_authorization(username: str, password: str, where: str) -> str:
    """Return the value of the Authorization header (RFC 7617)."""
    if not username or ":" in username or _CONTROL.search(username + password):
        raise ValueError(f"{where}.username must not be empty or hold a colon, and neither it nor password a control character")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _pem_labels(text: str, where: str) -> list[str]:
    """Return the labels of the PEM blocks in text; raise ValueError if there is none or one is damaged."""
    labels = []
    for label, body in _PEM_BLOCK.findall(text):
        try:
            base64.b64decode("".join(body.split("\n\n")[-1].split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"{where} has a damaged PEM block: {label} is not base64") from error
        labels.append(label)
    if not labels or len(labels) != text.count("-----BEGIN "):
        raise ValueError(f"{where} must be PEM text (-----BEGIN … to -----END …), with its line breaks kept")
    return labels


def _normal_pem(text: str) -> str:
    """Return the text without a byte order mark, and without blanks around its lines, which hide a block from Go."""
    return "\n".join(line.strip() for line in text.lstrip("\ufeff").strip().splitlines()) + "\n"


def _certificates(text: str, where: str) -> str:
    text = _normal_pem(text)
    for label in _pem_labels(text, where):
        if label != "CERTIFICATE":
            raise ValueError(f"{where} must hold certificates only, but has a {label}")
    return text


def _private_key(text: str, where: str) -> str:
    text = _normal_pem(text)
    labels = _pem_labels(text, where)
    keys = [label for label in labels if label.endswith("PRIVATE KEY")]
    if len(keys) != 1:
        raise ValueError(f"{where} must hold exactly one private key, but has {len(keys)}")
    if keys[0].startswith("ENCRYPTED") or "ENCRYPTED" in text.partition("\n\n")[0]:
        raise ValueError(f"{where} is encrypted, which containerd can't read; give it without a passphrase")
    return text


def toml_string(text: str) -> str:
    """Return text as a TOML basic string."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char) or (f"\\u{ord(char):04X}" if _CONTROL.match(char) else char) for char in text) + '"'


def files_of(registry: Registry) -> dict[str, File]:
    """Return the files of the registry's directory by name, hosts.toml last.

    PEM files are named after their content: a changed certificate gets a new name, so that replacing
    hosts.toml switches certificate and key together.
    """
    endpoints = (registry.server, *registry.mirrors)
    files = {name: file for endpoint in endpoints for name, file in _pem_files(endpoint).items()}
    has_secret = any(endpoint.headers for endpoint in endpoints)
    files[HOSTS_FILE] = File(
        content=_render(registry, lambda value: value).encode(),
        mode=0o600 if has_secret else 0o644,
        shown=_render(registry, lambda value: MASK),
    )
    return files


def _render(registry: Registry, header_value: Callable[[str], str]) -> str:
    lines = [MARKER]
    if registry.server.url:
        lines.append(f"server = {toml_string(registry.server.url)}")
    lines += _endpoint_lines(registry.server, "header", header_value)
    # containerd 1.x ignores a hosts.toml without any host table.
    for host in registry.mirrors or (_explicit(registry),):
        table = f"host.{toml_string(host.url)}"
        lines += ["", f"[{table}]", *_endpoint_lines(host, f"{table}.header", header_value)]
    return "\n".join(lines) + "\n"


def _explicit(registry: Registry) -> Endpoint:
    """Return the registry's own server with its address written out."""
    server = registry.server
    # containerd core/remotes/docker/config/hosts.go knows this one alias.
    implied = "registry-1.docker.io" if registry.name == "docker.io" else registry.name
    return replace(server, url=server.url or f"https://{implied}")


def _endpoint_lines(endpoint: Endpoint, header_table: str, header_value: Callable[[str], str]) -> list[str]:
    lines = []
    if endpoint.capabilities:
        lines.append(f"capabilities = {_toml_list(endpoint.capabilities)}")
    if endpoint.ca:
        lines.append(f"ca = {_toml_list([_pem_name('ca', text) for text in endpoint.ca])}")
    if endpoint.client_cert and endpoint.client_key:
        pair = [_pem_name("cert", endpoint.client_cert), _pem_name("key", endpoint.client_key)]
        lines.append(f"client = [{_toml_list(pair)}]")
    if endpoint.skip_verify is not None:
        lines.append(f"skip_verify = {str(endpoint.skip_verify).lower()}")
    if endpoint.override_path:
        lines.append("override_path = true")
    if endpoint.headers:
        lines.append(f"[{header_table}]")
        lines += [f"{toml_string(name)} = {toml_string(header_value(value))}" for name, value in endpoint.headers]
    return lines


def _toml_list(words: Sequence[str]) -> str:
    return f"[{', '.join(toml_string(word) for word in words)}]"


def _pem_name(kind: str, text: str) -> str:
    return f"{PEM_PREFIX}{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pem"


def _pem_files(endpoint: Endpoint) -> dict[str, File]:
    files = {_pem_name("ca", text): File(text.encode(), 0o644, text) for text in endpoint.ca}
    if endpoint.client_cert and endpoint.client_key:
        cert, key = endpoint.client_cert, endpoint.client_key
        files[_pem_name("cert", cert)] = File(cert.encode(), 0o644, cert)
        files[_pem_name("key", key)] = File(key.encode(), 0o600, SHOWN_KEY)
    return files
