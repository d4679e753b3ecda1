# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The blobs of a namespace."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes
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
    """containerd core/content. Raises HostError where the daemon refuses. Documents that it has read are remembered.

    ``root`` returns the directory of the content store.
    """

    def __init__(self, ctr: NamespaceCtr, leases: Leases, root: Callable[[], str]) -> None:
        self._ctr = ctr
        self._leases = leases
        self._root = root
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

    def keep_snapshot(self, config: str, snapshotter: str, key: str) -> None:
        """Label the config of an image, by digest, so that garbage collection keeps a snapshot and those below it.

        The label is the one that containerd sets to the topmost layer each time it has unpacked the image.
        """
        label = f"{_NEEDED}{snapshotter}={key}"
        self._ctr.ask("content", "label", oci.digest(config), label, doing=f"change the labels of {config}")

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
            algorithm, _colon, value = oci.digest(digest).partition(":")
            # Read as a file: a question to the daemon takes a hundred times as long.
            content = read_bytes(blob_path(self._root(), digest))
            if content is None or hashlib.new(algorithm, content).hexdigest() != value:
                raise DamagedDocumentError(digest)
            self._documents[digest] = content.decode(errors="surrogateescape")
        return self._documents[digest]


def is_whole(root: str, digest: str) -> bool:
    """Return whether the content store at ``root`` has a blob, and it is what its digest says."""
    algorithm, _colon, value = oci.digest(digest).partition(":")
    found = hashlib.new(algorithm)
    path = blob_path(root, digest)
    with naming("read", path):
        try:
            with open(path, "rb") as stream:
                for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                    found.update(chunk)
        except FileNotFoundError:
            return False
    return found.hexdigest() == value


def blob_path(root: str, digest: str) -> str:
    """Return where the content store at ``root`` has the blob of a digest. Raises ValueError if it is none."""
    return os.path.join(root, "blobs", *oci.digest(digest).split(":"))
