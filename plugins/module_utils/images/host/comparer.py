# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the images of one namespace and snapshotter with their layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NOT_FOUND, Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import METADATA
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import DamagedDocumentError
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Content, Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.image_names import canonical_names
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Manifest

_DISCARDED = "its layers were discarded after they had been unpacked, so that there is nothing to compare the files with"


@dataclass(frozen=True)
class ReadableImage:
    """An image whose documents can be read."""

    reference: Reference
    content: Content

    @property
    def chain(self) -> tuple[str, ...]:
        """The chain IDs of its layers, lowest first."""
        return self.content.config.chain_ids


@dataclass(frozen=True)
class Listed:
    """A namespace at one time: its images, the digests of its blobs, and the chain IDs of unpacked snapshots."""

    references: tuple[Reference, ...]
    blobs: frozenset[str]
    unpacked: frozenset[str]


class ImageComparer:
    """Compares images; only ``keep`` leaves anything on the node. Raises HostError where containerd fails.

    ``level``: METADATA or CONTENT. ``trees``: directory where expected trees are kept.
    """

    def __init__(
        self,
        ctr: Ctr,
        namespace: str,
        snapshotter: str,
        *,
        content_root: str,
        platform: str,
        level: str = METADATA,
        trees: str | None = None,
    ) -> None:
        self.ctr = ctr
        self.namespace = namespace
        self.snapshotter = snapshotter
        self.content_root = content_root
        self.store = NamespaceStore(ctr, namespace)
        self._platform = platform
        self._level = level
        self._trees = trees

    def compare(self, names: Iterable[str], *, keep: bool = False, listed: Listed | None = None) -> dict[str, Comparison]:
        """Compare the images of these names; those that aren't there or can't be read are left out.

        ``listed`` is what the namespace has, as far as it is known already.
        """
        listed = listed or self.listed()
        known = self.readable(listed)
        return self.compare_images({name: known[name] for name in names if name in known}, keep=keep, listed=listed)

    def listed(self) -> Listed:
        """Ask containerd for what the namespace has, all at once."""
        with ThreadPoolExecutor() as pool:
            references = pool.submit(self.store.images.references)
            blobs = pool.submit(self.store.content.digests)
            unpacked = pool.submit(self.store.snapshots(self.snapshotter).layers)
        return Listed(references.result(), blobs.result(), unpacked.result())

    def compare_unpacked(self) -> dict[str, Comparison]:
        """Compare every image that is unpacked, each under one of its names."""
        listed = self.listed()
        known = self.readable(listed)
        names = canonical_names({name: image.reference.digest for name, image in known.items()})
        present = {str(name): known[str(name)] for name in names}
        images = {name: one for name, one in present.items() if not one.chain or one.chain[-1] in listed.unpacked}
        return self.compare_images(images, listed=listed)

    def images_with_damaged_metadata(self) -> dict[str, Comparison]:
        """Return the images whose documents are damaged or can't be read, each under one of its names."""
        blobs, references = self.store.content.digests(), {one.name: one for one in self.store.images.references()}
        found = {}
        for name in map(str, canonical_names({name: one.digest for name, one in references.items()})):
            try:
                self.store.images.read(references[name], self._platform, blobs)
            except DamagedDocumentError as error:
                found[name] = Comparison(damaged_blobs=(error.digest,))
            except HostError as error:
                if NOT_FOUND not in str(error):
                    found[name] = Comparison(unknown=str(error))
            except ValueError:
                continue  # it is for another platform, or no image
        return found

    def readable(self, listed: Listed | None = None) -> dict[str, ReadableImage]:
        """Return the images whose documents can be read, by name."""
        listed = listed or self.listed()
        found = {}
        for reference in listed.references:
            try:
                content = self.store.images.read(reference, self._platform, listed.blobs)
                found[reference.name] = ReadableImage(reference, content)
            except (ValueError, HostError):
                continue
        return found

    def compare_images(
        self, images: Mapping[str, ReadableImage], *, keep: bool = False, listed: Listed | None = None
    ) -> dict[str, Comparison]:
        """Compare images, each once even if it has several names. A blob counts only if this namespace has it."""
        # Most runs compare nothing, and this is half of what a module about images would import.
        from ansible_collections.slipway.node.plugins.module_utils.integrity.host.compare import compare_images  # noqa: PLC0415
        from ansible_collections.slipway.node.plugins.module_utils.integrity.host.views import Views  # noqa: PLC0415

        listed = listed or self.listed()
        contents = {image.content.manifest: image.content for image in images.values()}
        found = compare_images(
            Views(self.ctr, self.namespace, self.snapshotter),
            content_root=self.content_root,
            contents=tuple(contents.values()),
            unpacked=listed.unpacked,
            level=self._level,
            trees=self._trees,
            keep=keep,
        )
        by_manifest = {manifest: _without_discarded(one, manifest, listed.blobs) for manifest, one in zip(contents, found)}
        return {name: by_manifest[image.content.manifest] for name, image in images.items()}


def _without_discarded(found: Comparison, manifest: Manifest, blobs: Set[str]) -> Comparison:
    """Treat layers that the namespace lacks as discarded, not as damaged: containerd's CRI can discard unpacked layers."""
    discarded = frozenset(layer.digest for layer in manifest.layers).difference(blobs)
    if not discarded:
        return found
    damaged = tuple(blob for blob in found.damaged_blobs if blob not in discarded)
    unknown = _DISCARDED if found.unknown and not damaged else found.unknown
    return replace(found, damaged_blobs=damaged, discarded=tuple(sorted(discarded)), unknown=unknown)


def trees_directory(content_root: str) -> str:
    """Return the directory where expected trees are kept: containerd's own, so that they are removed with the images."""
    return os.path.join(os.path.dirname(content_root), "slipway-trees")
