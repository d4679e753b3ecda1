# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Expected images as a node has them, and the file systems that they lie on; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.durability import of_flushed
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.expected import ExpectedImage, FoundImage
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Reference
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.layer_limit import Overlay, judge_present


class _Namespace:
    """The lists of one namespace of containerd, each read once. Raises HostError if containerd doesn't answer."""

    def __init__(self, ctr: Ctr, name: str) -> None:
        self.store = NamespaceStore(ctr, name)
        self.references: dict[str, Reference] = {one.name: one for one in self.store.images.references()}
        self.blobs = self.store.content.digests() if self.references else frozenset()
        self._snapshots: dict[str, frozenset[str]] = {}

    def snapshots(self, snapshotter: str) -> frozenset[str]:
        if snapshotter not in self._snapshots:
            self._snapshots[snapshotter] = self.store.snapshots(snapshotter).layers()
        return self._snapshots[snapshotter]


class ExpectedImages:
    """Reads expected images. ``overlay`` None: overlayfs couldn't be read; ``ids`` are those of its snapshots.

    ``snapshotter`` and ``platform`` are the node's own.
    """

    def __init__(self, ctr: Ctr, snapshotter: str, platform: str, overlay: Overlay | None, ids: Sequence[int]) -> None:
        self._ctr = ctr
        self._snapshotter = snapshotter
        self._platform = platform
        self._overlay = overlay
        self._ids = ids
        self._namespaces: dict[str, _Namespace | HostError] = {}

    def read_state(self, expected: Iterable[ExpectedImage]) -> tuple[FoundImage, ...]:
        """Read the expected images. The ``trouble`` of an image says why it can't be read."""
        return tuple(self._found(image) for image in expected)

    def _found(self, image: ExpectedImage) -> FoundImage:
        try:
            return self._judged(image, self._namespace(image.namespace))
        except HostError as error:
            return FoundImage(image.name, image.namespace, trouble=str(error))

    def _namespace(self, name: str) -> _Namespace:
        if name not in self._namespaces:
            try:
                self._namespaces[name] = _Namespace(self._ctr, name)
            except HostError as error:
                self._namespaces[name] = error
        found = self._namespaces[name]
        if isinstance(found, HostError):
            raise found
        return found

    def _judged(self, image: ExpectedImage, namespace: _Namespace) -> FoundImage:
        reference = namespace.references.get(image.name)
        if reference is None:
            return FoundImage(image.name, image.namespace, "not there")
        snapshotter = image.snapshotter or self._snapshotter
        faults = self._faults(reference, namespace, snapshotter, image.platform or self._platform)
        synced = snapshotter in reference.synced
        return FoundImage(image.name, image.namespace, *faults, synced=synced, durability=of_flushed(snapshotter))

    def _faults(self, reference: Reference, namespace: _Namespace, snapshotter: str, platform: str) -> tuple[str, str]:
        """Return the problem of a present image, and the reason if it is unknown."""
        try:
            config = namespace.store.images.read(reference, platform, namespace.blobs).config
        except ValueError as error:
            return str(error), ""
        if not oci.runs_on(config.platform, platform):
            return f"for {config.platform}, not for {platform}", ""
        chain = config.chain_ids
        if chain and chain[-1] not in namespace.snapshots(snapshotter):
            return f"not unpacked for {snapshotter}", ""
        return self._mount_faults(len(chain)) if snapshotter == "overlayfs" else ("", "")

    def _mount_faults(self, layers: int) -> tuple[str, str]:
        if self._overlay is None:
            return "", "whether it can be mounted can't be determined: overlayfs can't be read"
        verdict = judge_present(self._overlay, layers, layers, self._ids)
        return (verdict.reason, "") if verdict.mountable is False else ("", verdict.reason)
