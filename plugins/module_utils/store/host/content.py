# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The blobs of a namespace."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Collection, Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.leases import Leases

# Label of an image's config, by snapshotter: the snapshot that the garbage collection has to keep.
_NEEDED = "containerd.io/gc.ref.snapshot."
_CHUNK_BYTES = 1024 * 1024


class DamagedDocumentError(ValueError):
    """A document of an image that is in the content store is not what its ``digest`` says."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"{digest}, which describes it, is damaged in the content store: pull it again")
        self.digest = digest


class ContentStore:
    """containerd core/content. Raises HostError where the daemon refuses. Documents that it has read are remembered."""

    def __init__(self, ctr: NamespaceCtr, leases: Leases) -> None:
        self._ctr = ctr
        self._leases = leases
        self._documents: dict[str, str] = {}

    def digests(self) -> frozenset[str]:
        """Return the digests of all blobs."""
        return frozenset(self._ctr.ask("content", "ls", "-q", doing="ask containerd for its content").split())

    def labels(self) -> dict[str, str]:
        """Return the labels of each blob, as they are listed, by its digest."""
        listed = self._ctr.ask("content", "ls", doing="ask containerd for its content").splitlines()[1:]
        return {row[0]: row[-1] for row in (line.split() for line in listed) if row}

    def unpacked_for(self, snapshotter: str) -> frozenset[str]:
        """Return the chain IDs of images that were unpacked for a snapshotter, also for one that isn't loaded."""
        label = re.compile(rf"(?:^|,){re.escape(_NEEDED + snapshotter)}=(sha256:[0-9a-f]{{64}})(?=,|$)")
        return frozenset(chain for labels in self.labels().values() for chain in label.findall(labels))

    def release_snapshots(self, snapshotter: str, keys: Collection[str]) -> None:
        """Remove the labels that keep snapshots from the garbage collection."""
        label = f"{_NEEDED}{snapshotter}"
        for digest, labels in self.labels().items():
            if any(f"{label}={key}" in labels.split(",") for key in keys):
                self._ctr.ask("content", "label", digest, f"{label}=", doing=f"change the labels of {digest}")

    def remove(self, digests: Iterable[str]) -> None:
        """Remove blobs, unless another namespace has them; also those that are gone already."""
        digests = sorted(digests)
        for digest in digests:
            self._ctr.ensure_gone("content", "rm", oci.digest(digest), doing=f"remove the blob {digest}")
        if digests:
            # Until then their files are there, and are taken for what a pull would fetch.
            self._leases.collect_garbage()

    def document(self, digest: str, blobs: frozenset[str]) -> str:
        """Return a document of an image. Raises ValueError if it isn't among the blobs, or is damaged."""
        if digest not in blobs:
            raise ValueError(f"{digest}, which describes it, is not in the content store: pull it again")
        if digest not in self._documents:
            try:
                text = self._ctr.ask("content", "get", oci.digest(digest), doing=f"read the blob {digest}")
            except HostError as error:
                if os.strerror(errno.ENOENT).lower() in str(error):
                    raise DamagedDocumentError(digest) from error
                raise
            algorithm, _colon, value = digest.partition(":")
            if hashlib.new(algorithm, text.encode(errors="surrogateescape")).hexdigest() != value:
                raise DamagedDocumentError(digest)
            self._documents[digest] = text
        return self._documents[digest]


def is_whole(root: str, digest: str) -> bool:
    """Return whether the content store at ``root`` has a blob, and it is what its digest says."""
    algorithm, _colon, value = oci.digest(digest).partition(":")
    found = hashlib.new(algorithm)
    path = os.path.join(root, "blobs", algorithm, value)
    with naming("read", path):
        try:
            with open(path, "rb") as stream:
                for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                    found.update(chunk)
        except FileNotFoundError:
            return False
    return found.hexdigest() == value
