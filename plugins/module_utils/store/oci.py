# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents of an image: index, manifest, config. OCI image-spec 1.1, and Docker's schema 2."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
_SCHEMA_1_TYPES = "application/vnd.docker.distribution.manifest.v1"
SCHEMA_1_IMAGE = (
    "an image of Docker's manifest schema 1, which containerd 2.1 and later don't support: convert it, such as with "
    "'skopeo copy --format v2s2', or build it again"
)
# A registered algorithm and as many hexadecimal digits as it has.
_DIGEST = re.compile(r"(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z")
# containerd's platforms package: what runs on a machine beside its own kind, best first.
_ARM = ("arm/v8", "arm/v7", "arm/v6", "arm/v5")
_AMD = ("amd64/v4", "amd64/v3", "amd64/v2", "amd64", "386")
_ALSO_RUNS = {
    **{machine: _AMD[number:] for number, machine in enumerate(_AMD[:-1], 1)},
    "arm64": _ARM,
    "arm/v8": _ARM[1:],
    "arm/v7": _ARM[2:],
    "arm/v6": _ARM[3:],
}
# An architecture's default variant isn't spelled out, but for arm.
_SPELLINGS = {"arm64/v8": "arm64", "amd64/v1": "amd64", "arm": "arm/v7", "x86_64": "amd64", "aarch64": "arm64"}
# What containerd takes for the system of an image that names none, on a node with Linux.
_SYSTEM = "linux"


@dataclass(frozen=True)
class Descriptor:
    """A blob that a document names; ``size`` in bytes, ``platform`` as OS/ARCHITECTURE[/VARIANT] or None."""

    media_type: str
    digest: str
    size: int
    platform: str | None = None


@dataclass(frozen=True)
class Index:
    """The manifests of one image, one a platform; some may be indexes themselves."""

    manifests: tuple[Descriptor, ...]

    def choose(self, platform: str) -> Descriptor:
        """Return what containerd takes on a machine of this platform. Raises ValueError if there is nothing for it.

        containerd core/images/image.go, Manifest: the best listed platform; where none fits, the first without a platform,
        even if its config names another one.
        """
        for wanted in _platforms(platform):
            for manifest in self.manifests:
                if manifest.platform == wanted:
                    return manifest
        for manifest in self.manifests:
            if manifest.platform is None:
                return manifest
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


@dataclass(frozen=True)
class ImageDocuments:
    """An image for one platform. ``path`` leads to its manifest: indexes, the outermost first, and the manifest.

    ``listed`` is the platform that an index names for it, None if none does.
    """

    path: tuple[Descriptor, ...]
    manifest: Manifest
    config: Config
    listed: str | None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All that belongs to the image: indexes, manifest, config and layers."""
        return (*self.path, self.manifest.config, *self.manifest.layers)


def read_documents(root: Descriptor, read: Callable[[Descriptor], str], platform: str) -> ImageDocuments:
    """Return the image that containerd takes of what a name stands for.

    ``read`` returns the text of a document. Raises ValueError if the image is not for this platform, or no container image.
    """
    path, listed, descriptor = [], None, root
    while True:
        _require_image(descriptor)
        text = read(descriptor)
        path.append(replace(descriptor, size=len(text.encode(errors="surrogateescape"))))
        kind = descriptor.media_type
        if not (kind in INDEX_TYPES if kind else is_index(text)):
            break
        descriptor = parse_index(text).choose(platform)
        listed = descriptor.platform or listed
    manifest = parse_manifest(text)
    config = parse_config(read(manifest.config))
    if len(config.diff_ids) != len(manifest.layers):
        raise ValueError(f"its manifest has {len(manifest.layers)} layers and its config {len(config.diff_ids)}")
    return ImageDocuments(tuple(path), manifest, config, listed)


def _require_image(descriptor: Descriptor) -> None:
    kind = descriptor.media_type
    if kind.startswith(_SCHEMA_1_TYPES):
        raise ValueError(f"it is {SCHEMA_1_IMAGE}")
    if kind and kind not in (*INDEX_TYPES, *MANIFEST_TYPES):
        raise ValueError(f"it is not a container image that containerd can unpack: {descriptor.digest} is of type {kind!r}")


def runs_on(image: str, machine: str) -> bool:
    """Return whether a machine of a platform runs images of another.

    Which of the variants of amd64 it has, its platform doesn't say. containerd takes such an image unless an index lists it.
    """
    return preference(image, machine) is not None


def foreign(image: str, machine: str) -> str:
    """Return for which platform an image is that a machine doesn't run; empty if it does."""
    return "" if runs_on(image, machine) else f"the image is not for {machine}: it is for {image}"


def preference(image: str, machine: str) -> int | None:
    """Return how far a platform is from that of a machine: 0 is the same, None that it can't be run."""
    platforms, image = _platforms(machine), _normal(image)
    if image not in platforms:
        image = re.sub(r"/amd64/v\d+\Z", "/amd64", image)
    return platforms.index(image) if image in platforms else None


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain IDs of layers (image-spec config.md, "Layer ChainID")."""
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
    if document.get("schemaVersion") == 1:
        raise ValueError(f"it is {SCHEMA_1_IMAGE}")
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
        raise ValueError("the image's config has no architecture")
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
    parts = [named.get("os") or _SYSTEM, named.get("architecture"), named.get("variant")]
    if not all(isinstance(part, str) and part for part in parts[:2]):
        return None
    return _normal("/".join(str(part) for part in parts if part))


def _normal(platform: str) -> str:
    system, _slash, machine = platform.partition("/")
    return f"{system}/{_SPELLINGS.get(machine, machine)}"


def _platforms(platform: str) -> list[str]:
    system, _slash, machine = _normal(platform).partition("/")
    return [f"{system}/{one}" for one in (machine, *_ALSO_RUNS.get(machine, ()))]
