# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a namespace, and whether they are complete and unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import read_pulls
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.images.plan import CurrentImage, RemoteImage, runs_here
from ansible_collections.slipway.node.plugins.module_utils.store.host.content import DamagedDocumentError
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.image_names import canonical_names
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName, is_staged


@dataclass(frozen=True)
class CurrentImages:
    """The images of a daemon at one time: references by name, digests of blobs, and chain IDs that have snapshots.

    ``pulls`` are those of the record that were begun into this namespace and snapshotter, and not finished.
    """

    target: ImageTarget
    references: Mapping[str, Reference]
    blobs: frozenset[str]
    snapshots: frozenset[str]
    pulls: tuple[Pull, ...]

    @classmethod
    def read(cls, target: ImageTarget) -> CurrentImages:
        """Ask the daemon. Raises HostError."""
        store = target.store
        pulls = tuple(pull for pull in read_pulls(target.root) if target.owns(pull))
        with ThreadPoolExecutor() as pool:
            references = pool.submit(store.images.references)
            blobs = pool.submit(store.content.digests)
            snapshots = pool.submit(store.snapshots(target.snapshotter).layers)
        return cls(target, {one.name: one for one in references.result()}, blobs.result(), snapshots.result(), pulls)

    def unpacked(self) -> dict[ImageName, CurrentImage]:
        """Return the images that are unpacked or damaged, each under one of its names.

        Others are kept by their tools without being unpacked, or are for another platform than the requested one.
        """
        names = canonical_names({one.name: one.digest for one in self.references.values()})
        found = {name: self.describe(self.references[str(name)]) for name in names}
        return {name: one for name, one in found.items() if (one.unpacked or one.damaged) and self._runs_here(one)}

    def find(self, name: ImageName) -> CurrentImage | None:
        """Return the image of a name, or one with the digest that the name ends in; None if there is none."""
        reference = self.references.get(str(name))
        if reference is not None:
            return self.describe(reference)
        others = (one for one in self.references.values() if name.digest and one.digest == name.digest)
        other = next((one for one in others if not is_staged(one.name)), None)
        return replace(self.describe(other), alias=other.name) if other is not None else None

    def describe(self, reference: Reference) -> CurrentImage:
        """Return the image that a name stands for, as far as its documents can be read."""
        synced = self.target.snapshotter in reference.synced
        try:
            content = self.target.store.images.read(reference, self.target.request.platform, self.blobs)
        except DamagedDocumentError as error:
            return CurrentImage(reference.digest, None, False, False, synced, str(error), (error.digest,))
        except (ValueError, HostError) as error:
            return CurrentImage(reference.digest, None, False, False, synced, str(error))
        config, chain = content.manifest.config, content.config.chain_ids
        blobs = (config, *content.manifest.layers)
        image = RemoteImage(
            reference.digest, content.config.platform, chain, len(chain), blobs, config.digest, content.size, content.listed
        )
        unpacked = not chain or chain[-1] in self.snapshots
        whole = all(blob.digest in self.blobs for blob in blobs)
        return CurrentImage(reference.digest, image, unpacked, whole, synced)

    def left_packed(self) -> dict[ImageName, CurrentImage]:
        """Return the images that an earlier run has taken layers from, and not unpacked again."""
        recorded = {name for pull in self.pulls for name in pull.names}
        digests = {one.name: one.digest for one in self.references.values() if one.name in recorded}
        found = {name: self.describe(self.references[str(name)]) for name in canonical_names(digests)}
        return {name: one for name, one in found.items() if one.whole and not one.unpacked and self._runs_here(one)}

    def _runs_here(self, found: CurrentImage) -> bool:
        return found.image is None or runs_here(found.image, self.target.request.platform)
