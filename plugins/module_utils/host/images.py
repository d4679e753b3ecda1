# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images, blobs and snapshots that a daemon has, and where its overlayfs snapshotter keeps them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.model import oci
from ansible_collections.slipway.node.plugins.module_utils.model.layers import Overlay
from ansible_collections.slipway.node.plugins.module_utils.model.tree import lookup

_ROOT_EXPORT = re.compile(r"^ +root +(/.*?) *$", re.MULTILINE)
# There if the kernel can switch the overlay index off; the snapshotter then does so in every mount.
_INDEX_PARAMETER = "/sys/module/overlay/parameters/index"


@dataclass(frozen=True)
class Reference:
    """An image's name in a namespace, and the index or manifest that it stands for."""

    name: str
    media_type: str
    digest: str


@dataclass(frozen=True)
class Content:
    """An image's documents for one platform; ``size`` in bytes is that of its blobs that are here."""

    manifest: oci.Manifest
    config: oci.Config
    size: int


class ImageStore:
    """One namespace of the daemon behind a ``ctr``. Raises HostError where that fails."""

    def __init__(self, ctr: Ctr, namespace: str) -> None:
        self._ctr = ctr
        self._namespace = namespace
        self._documents: dict[str, str] = {}

    def references(self) -> tuple[Reference, ...]:
        return parse_references(self._ask("images", "ls", doing="ask containerd for its images"))

    def blobs(self) -> frozenset[str]:
        """Digests of what the content store has."""
        return frozenset(self._ask("content", "ls", "-q", doing="ask containerd for its content").split())

    def snapshots(self, snapshotter: str) -> frozenset[str]:
        """Chain IDs of the layers that are unpacked for a snapshotter."""
        doing = f"ask containerd for the snapshots of {snapshotter}"
        return parse_snapshots(self._ask("snapshots", "--snapshotter", snapshotter, "ls", doing=doing))

    def content(self, reference: Reference, platform: str, blobs: frozenset[str]) -> Content:
        """Raises ValueError if the image isn't for this platform, or what should describe it is missing or nonsense."""
        there = {}
        target, media_type = reference.digest, reference.media_type
        if media_type in oci.INDEX_TYPES:
            text = self._document(target, blobs)
            there[target] = len(text.encode())
            chosen = oci.parse_index(text).choose(platform)
            target, media_type = chosen.digest, chosen.media_type
        if media_type not in oci.MANIFEST_TYPES:
            raise ValueError(f"it is not a container image that containerd can unpack: {target} is of type {media_type!r}")
        text = self._document(target, blobs)
        there[target] = len(text.encode())
        manifest = oci.parse_manifest(text)
        there.update({blob.digest: blob.size for blob in (manifest.config, *manifest.layers) if blob.digest in blobs})
        config = oci.parse_config(self._document(manifest.config.digest, blobs))
        if len(config.diff_ids) != len(manifest.layers):
            raise ValueError(f"its manifest has {len(manifest.layers)} layers and its config {len(config.diff_ids)}")
        return Content(manifest, config, sum(there.values()))

    def _document(self, digest: str, blobs: frozenset[str]) -> str:
        if digest not in blobs:
            raise ValueError(f"{digest}, which describes it, is not in the content store: pull it again")
        if digest not in self._documents:
            self._documents[digest] = self._ask("content", "get", oci.digest(digest), doing=f"read the blob {digest}")
        return self._documents[digest]

    def _ask(self, *arguments: str, doing: str) -> str:
        return self._ctr.in_namespace(self._namespace, *arguments, doing=doing)


def parse_references(stdout: str) -> tuple[Reference, ...]:
    """From ``ctr images ls``: only its first three columns are without spaces."""
    rows = [line.split()[:3] for line in stdout.splitlines()[1:]]
    return tuple(Reference(*row) for row in rows if len(row) == 3)


def parse_snapshots(stdout: str) -> frozenset[str]:
    """From ``ctr snapshots ls``: the committed ones whose keys are chain IDs; other keys may hold spaces."""
    rows = [line.split() for line in stdout.splitlines()[1:]]
    return frozenset(row[0] for row in rows if len(row) > 1 and row[-1] == "Committed" and row[0].startswith("sha256:"))


def parse_root(stdout: str) -> str | None:
    """The directory that a plugin exports, from ``ctr plugins ls --detailed``."""
    found = _ROOT_EXPORT.search(stdout)
    return found[1] if found else None


def read_overlay(ctr: Ctr, dump: Mapping[str, Any]) -> Overlay:
    """Where the running daemon has its overlayfs snapshots, and with which options it mounts them.

    ``dump`` is the effective configuration. Raises HostError if the daemon has no such snapshotter.
    """
    root = parse_root(ctr.plugin_details("overlayfs"))
    if root is None:
        raise HostError("the daemon has no overlayfs snapshotter")
    set_by_admin = lookup(dump, ("plugins", "io.containerd.snapshotter.v1.overlayfs", "mount_options")) or []
    options = [str(option) for option in set_by_admin]
    # plugins/snapshots/overlay/overlay.go, NewSnapshotter
    if os.path.exists(_INDEX_PARAMETER) and "index" not in options:
        options.append("index=off")
    return Overlay(root, os.sysconf("SC_PAGE_SIZE"), tuple(options))


def snapshot_ids(overlay: Overlay) -> tuple[int, ...]:
    """The ids of the snapshots, of all namespaces, that have directories. Raises HostError if they can't be read."""
    directory = os.path.join(overlay.root, "snapshots")
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise HostError(f"cannot read {directory}: {error.strerror}") from error
    return tuple(int(name) for name in names if name.isascii() and name.isdigit())
