# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a namespace: their names and documents."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import ContentStore

# Label of an image whose layers are known to be on disk for a snapshotter; its value is the digest they are of.
_SYNCED = "slipway.node/synced."


@dataclass(frozen=True)
class Reference:
    """An image's name in a namespace, and the index or manifest that it stands for.

    ``synced`` are the snapshotters for which its layers have been brought to disk.
    """

    name: str
    media_type: str
    digest: str
    synced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Content:
    """An image's documents for one platform; ``size`` in bytes is that of its blobs that are here.

    ``listed`` is the platform that its index names for it.
    """

    manifest: oci.Manifest
    config: oci.Config
    size: int
    listed: str | None = None


class Images:
    """containerd core/images. Raises HostError where the daemon refuses."""

    def __init__(self, ctr: NamespaceCtr, content: ContentStore) -> None:
        self._ctr = ctr
        self._content = content

    def references(self) -> tuple[Reference, ...]:
        """Return the names of all images."""
        return parse_references(self._ctr.ask("images", "ls", doing="ask containerd for its images"))

    def read(self, reference: Reference, platform: str, blobs: frozenset[str]) -> Content:
        """Return an image's documents; ``blobs`` are the digests of what the content store has.

        Raises ValueError if the image isn't for this platform, or what should describe it is missing or nonsense.
        """
        root = oci.Descriptor(reference.media_type, reference.digest, 0)
        found = oci.read_documents(root, lambda one: self._content.document(one.digest, blobs), platform)
        size = sum({one.digest: one.size for one in found.blobs if one.digest in blobs}.values())
        return Content(found.manifest, found.config, size, found.listed)

    def tag(self, source: str, name: str) -> None:
        """Give an image another name; it is taken from the image that had it."""
        self._ctr.ask("images", "tag", "--force", source, name, doing=f"tag the image {source} as {name}")

    def remove(self, *names: str, sync: bool = False) -> None:
        """Remove names; ``sync``: and wait until what only they kept is gone."""
        if names:
            self._ctr.ask("images", "rm", *["--sync"] * sync, *names, doing=f"remove {', '.join(names)}")

    def mark_synced(self, name: str, snapshotter: str, digest: str) -> None:
        """Note that the layers of an image are on disk for a snapshotter."""
        self._ctr.ask("images", "label", name, f"{_SYNCED}{snapshotter}={digest}", doing=f"label the image {name}")

    def unmark_synced(self, name: str, snapshotter: str) -> None:
        """Remove that note."""
        self._ctr.ask("images", "label", name, f"{_SYNCED}{snapshotter}=", doing=f"change the labels of the image {name}")


def parse_references(stdout: str) -> tuple[Reference, ...]:
    """Parse ``ctr images ls``, of which only the first three columns are without spaces."""
    rows = [(line, line.split()[:3]) for line in stdout.splitlines()[1:]]
    return tuple(Reference(row[0], row[1], row[2], _synced(line, row[2])) for line, row in rows if len(row) == 3)


def _synced(line: str, digest: str) -> frozenset[str]:
    """Return the snapshotters in the label of flushed layers; none if the name was moved to another image since."""
    return frozenset(re.findall(rf"{re.escape(_SYNCED)}([\w.-]+)={re.escape(digest)}", line))
