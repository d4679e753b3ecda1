# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents that an image is made of: index, manifest, config. OCI image-spec 1.1, and Docker's schema 2."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
# A registered algorithm and as many hexadecimal digits as it has.
_DIGEST = re.compile(r"(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z")
# containerd's platforms package: what runs on a machine beside its own kind, best first.
_ARM = ("arm/v8", "arm/v7", "arm/v6", "arm/v5")
_ALSO_RUNS = {"amd64": ("386",), "arm64": _ARM, "arm/v8": _ARM[1:], "arm/v7": _ARM[2:], "arm/v6": _ARM[3:]}
# An architecture's default variant isn't spelled out, but for arm.
_SPELLINGS = {"arm64/v8": "arm64", "amd64/v1": "amd64", "arm": "arm/v7", "x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Descriptor:
    """A blob that a document names; ``size`` in bytes, ``platform`` as OS/ARCHITECTURE[/VARIANT] or None."""

    media_type: str
    digest: str
    size: int
    platform: str | None = None


@dataclass(frozen=True)
class Index:
    """The manifests of one image, one a platform."""

    manifests: tuple[Descriptor, ...]

    def choose(self, platform: str) -> Descriptor:
        """Return the manifest that containerd takes on a machine of this platform. Raises ValueError if there is none."""
        for wanted in _platforms(platform):
            for manifest in self.manifests:
                if manifest.platform == wanted:
                    return manifest
        unnamed = [manifest for manifest in self.manifests if manifest.platform is None]
        if len(unnamed) == 1:
            return unnamed[0]
        there = ", ".join(sorted({manifest.platform for manifest in self.manifests if manifest.platform})) or "nothing"
        raise ValueError(f"the image is not for {platform}: it is for {there}")


@dataclass(frozen=True)
class Manifest:
    """One platform's image; layers lowest first, their sizes compressed."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Config:
    """``diff_ids`` are the digests of the uncompressed layers, lowest first."""

    platform: str
    diff_ids: tuple[str, ...]

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """Name of each layer's snapshot, lowest first."""
        return chain_ids(self.diff_ids)


def runs_on(image: str, machine: str) -> bool:
    """Return whether a machine of a platform runs images of another."""
    return _normal(image) in _platforms(machine)


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """image-spec config.md, "Layer ChainID": the digest of the chain below, a space, and the layer's diff ID."""
    chain: list[str] = []
    for diff_id in diff_ids:
        below = chain[-1] if chain else None
        chain.append(diff_id if below is None else "sha256:" + hashlib.sha256(f"{below} {diff_id}".encode()).hexdigest())
    return tuple(chain)


def digest(value: Any) -> str:
    """Return the value. Raises ValueError if it is not a digest."""
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise ValueError(f"{value!r} is not a digest")
    return value


def is_index(text: str) -> bool:
    """Return whether a document is an index rather than a manifest. Raises ValueError if it is no JSON object."""
    document = _document(text)
    kind = document.get("mediaType")
    return kind in INDEX_TYPES if kind else "manifests" in document


def parse_index(text: str) -> Index:
    """Parse a document of the image. Raises ValueError for other text."""
    return Index(tuple(_descriptor(entry) for entry in _list(_document(text), "manifests")))


def parse_manifest(text: str) -> Manifest:
    """Parse a manifest. Raises ValueError for other text, also for an artifact that is no container image."""
    document = _document(text)
    config = _descriptor(document.get("config"))
    if config.media_type not in CONFIG_TYPES:
        raise ValueError(f"it is not a container image: its config is of type {config.media_type!r}")
    return Manifest(config, tuple(_descriptor(entry) for entry in _list(document, "layers")))


def parse_config(text: str) -> Config:
    """Parse a document of the image. Raises ValueError for other text."""
    document = _document(text)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, Mapping):
        raise ValueError("the image's config has no rootfs")
    platform = _platform(document)
    if platform is None:
        raise ValueError("the image's config has no os and architecture")
    return Config(platform, tuple(digest(entry) for entry in _list(rootfs, "diff_ids")))


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the image's document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("the image's document is not a JSON object")
    return document


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    # Go writes an empty list as null.
    entries = document.get(key, ()) or []
    if key not in document or not isinstance(entries, list):
        raise ValueError(f"the image's document has no list {key}")
    return entries


def _descriptor(entry: Any) -> Descriptor:
    if not isinstance(entry, Mapping):
        raise ValueError("the image's document has a descriptor that is no object")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"the image's document has a descriptor with the size {size!r}")
    platform = entry.get("platform")
    named = _platform(platform) if isinstance(platform, Mapping) else None
    return Descriptor(str(entry.get("mediaType", "")), digest(entry.get("digest")), size, named)


def _platform(named: Mapping[str, Any]) -> str | None:
    parts = [named.get("os"), named.get("architecture"), named.get("variant")]
    if not all(isinstance(part, str) and part for part in parts[:2]):
        return None
    return _normal("/".join(str(part) for part in parts if part))


def _normal(platform: str) -> str:
    system, _slash, machine = platform.partition("/")
    return f"{system}/{_SPELLINGS.get(machine, machine)}"


def _platforms(platform: str) -> list[str]:
    system, _slash, machine = _normal(platform).partition("/")
    return [f"{system}/{one}" for one in (machine, *_ALSO_RUNS.get(machine, ()))]
