# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry on this machine's loopback, which the nodes share, empty at first: Debian's docker-registry, or upstream's."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nodes.images import Layer, write_layout
from nodes.node import CHECKOUT, PODMAN, WORK, run
from nodes.upstream import unpacked

# By the release of distribution: Debian's program, and upstream's newest.
PROGRAMS: dict[str, Callable[[], Path]] = {
    "2.8": lambda: WORK / "tools/usr/bin/docker-registry",
    "3.1.2": lambda: unpacked("registry", "3.1.2") / "registry",
}
# The registry's address in the checkout's network; nodes have numbers from 11.
NUMBER = 2


@dataclass
class Registry:
    """``name`` is its HOST:PORT, as in references; images are made under ``directory``."""

    name: str
    directory: Path
    program: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        host, _colon, port = self.name.partition(":")
        log = self.directory / "log"
        with log.open("ab") as stream:
            self._server = subprocess.Popen(
                [str(self.program), "serve", str(self.directory / "settings.yml")], stdout=stream, stderr=stream
            )
        _wait_for(host, int(port), self._server, log)

    def stop(self) -> None:
        """What it has stays for the next start."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody answers at its address during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @property
    def entry(self) -> dict[str, str]:
        """Itself as an element of the module containerd_registry's registries."""
        return {"name": self.name, "server": f"http://{self.name}"}

    def push(
        self, layers: Sequence[Layer], *, repository: str = "image", command: Sequence[str] = (), architecture: str = ""
    ) -> str:
        """Make an image and push it under a tag of its own; returns the reference."""
        tag = f"v{next(self._numbers)}"
        platform = {"architecture": architecture} if architecture else {}
        layout = write_layout(self.directory / tag, layers, tag=tag, command=command, platform=platform)
        return self.push_layout(layout, f"{self.name}/{repository}:{tag}")

    def blobs(self, reference: str) -> frozenset[str]:
        """Digests of all that belongs to an image that was made here."""
        blobs = self.directory / reference.rpartition(":")[2] / "blobs"
        return frozenset(f"{blob.parent.name}:{blob.name}" for blob in blobs.glob("*/*"))

    def push_layout(self, layout: Path, reference: str) -> str:
        """Give it an image that was made already, one of one manifest or index; returns the reference.

        Its files are linked into the registry's store (distribution, registry/storage/paths.go), hundreds of layers at once.
        """
        (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
        repository, _colon, name = reference.removeprefix(f"{self.name}/").rpartition(":")
        there = self.directory / "store/docker/registry/v2"
        own = there / "repositories" / repository
        self._push_document(layout, entry["digest"], there, own)
        _write_link(own / "_manifests/tags" / name / "index", entry["digest"])
        current = own / "_manifests/tags" / name / "current/link"
        current.parent.mkdir(exist_ok=True)
        current.write_text(entry["digest"])
        return reference

    def _push_document(self, layout: Path, digest: str, there: Path, own: Path) -> None:
        """Give it an index or a manifest, and what that names."""
        document = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
        blobs = [digest, *(one["digest"] for one in (document.get("config"), *document.get("layers", ())) if one)]
        for blob in blobs:
            algorithm, _colon, value = blob.partition(":")
            stored = there / "blobs" / algorithm / value[:2] / value / "data"
            stored.parent.mkdir(parents=True, exist_ok=True)
            if not stored.exists():
                os.link(layout / "blobs" / algorithm / value, stored)
            _write_link(own / "_layers", blob)
        _write_link(own / "_manifests/revisions", digest)
        for inner in document.get("manifests", ()):
            self._push_document(layout, inner["digest"], there, own)


def address() -> str:
    """The registry's own in the checkout's network."""
    claimed = run([*PODMAN[:-1], str(CHECKOUT / "tests/nodes/network"), str(CHECKOUT)]).stdout
    return str(ipaddress.ip_network(claimed.strip())[NUMBER])


def certificate(host: str) -> tuple[str, str]:
    """A new self-signed certificate for an address or a name, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), private.decode()


@contextmanager
def serve(
    directory: Path,
    login: tuple[str, str] | None = None,
    host: str | None = None,
    tls: tuple[str, str] | None = None,
    release: str = "2.8",
) -> Iterator[Registry]:
    """A registry that keeps everything under a directory, on a free port, until the end of the block.

    ``login``: the only user and password that it lets in; else everybody. ``host``: where it listens, by default its
    ``address``. ``tls``: certificate and key, as PEM; else it speaks plain HTTP.
    ``release``: that of distribution, one of PROGRAMS.
    """
    host = host or address()
    with reserved_port(host) as port:
        yield from _served(directory, f"{host}:{port}", login, tls, PROGRAMS[release]())


@contextmanager
def reserved_port(host: str) -> Iterator[int]:
    """A free port that is given to no other program in the block, also while the one that uses it is stopped."""
    with socket.socket() as kept:
        # Programs that listen with the same option, as Go's do, may use the port of a socket that doesn't listen.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((host, 0))
        yield kept.getsockname()[1]


def _served(
    directory: Path, name: str, login: tuple[str, str] | None, tls: tuple[str, str] | None, program: Path
) -> Iterator[Registry]:
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "store")}},
        "http": {"addr": name},
    }
    if login is not None:
        secret = bcrypt.hashpw(login[1].encode(), bcrypt.gensalt(4)).decode()
        (directory / "htpasswd").write_text(f"{login[0]}:{secret}\n")
        settings["auth"] = {"htpasswd": {"realm": "nodes", "path": str(directory / "htpasswd")}}
    if tls is not None:
        paths = {name: str(directory / name) for name in ("certificate", "key")}
        for path, content in zip(paths.values(), tls, strict=True):
            Path(path).write_text(content)
        settings["http"]["tls"] = paths
    (directory / "settings.yml").write_text(json.dumps(settings))
    server = Registry(name, directory, program)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _wait_for(host: str, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no registry on {host}:{port}: {log.read_text()}")


def _write_link(directory: Path, digest: str) -> None:
    link = directory / digest.replace(":", "/") / "link"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text(digest)
