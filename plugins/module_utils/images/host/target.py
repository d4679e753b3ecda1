# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The target and the source of images: a namespace and snapshotter, and a registry or an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Protocol

from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import image_verifiers
from ansible_collections.slipway.node.plugins.module_utils.core.host.process import read_environment
from ansible_collections.slipway.node.plugins.module_utils.core.host.unix_socket import listener
from ansible_collections.slipway.node.plugins.module_utils.core.process import added_proxy
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import ImageComparer, trees_directory
from ansible_collections.slipway.node.plugins.module_utils.images.host.registry import Registry
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RemoteImage, Request
from ansible_collections.slipway.node.plugins.module_utils.images.pull_path import select_pull_path
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import INTEGRITY_NONE, METADATA
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.paths import content_root, snapshotter_root
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName


class Archive(Protocol):
    """An ImageArchive. It is a parameter, because only one module reads archives and sends the code for that."""

    path: str

    def names(self) -> tuple[ImageName, ...]: ...

    def find(self, name: ImageName, platform: str, *, only: bool) -> tuple[RemoteImage, int]: ...

    def write_staged(self, stream: IO[bytes], staged: Mapping[int, str]) -> None: ...


class ImageTarget:
    """One request to one daemon. Raises HostError where containerd or the node fails.

    ``root`` is the daemon's own directory, ``content_root`` that of its content store.
    """

    def __init__(self, containerd: Containerd, request: Request, archive: Archive | None = None) -> None:
        config = containerd.config
        self.containerd = containerd
        self.request = request
        self.pull_path = select_pull_path(
            config,
            containerd.version,
            snapshotter=request.snapshotter,
            platform=request.platform,
            machine=containerd.platform,
        )
        self.store = NamespaceStore(containerd.ctr, request.namespace)
        self.archive = archive
        self.content_root = content_root(containerd.ctr)
        self.root = os.path.dirname(self.content_root)

    @property
    def snapshotter(self) -> str:
        """The snapshotter for which images are unpacked."""
        return self.pull_path.snapshotter

    @property
    def snapshotter_root(self) -> str:
        """The directory of the snapshotter."""
        return snapshotter_root(self.containerd.ctr, self.snapshotter)

    def pull_refusal(self) -> str:
        """Return why an image must not be pulled; empty if it may: only the transfer service asks the image verifiers."""
        verifiers = image_verifiers(self.containerd.config) if self.pull_path.local else ()
        if not verifiers:
            return ""
        machine = self.containerd.platform
        what = self.snapshotter if oci.runs_on(self.request.platform, machine) else self.request.platform
        return (
            f"the transfer service, which asks the image verifiers ({', '.join(verifiers)}), doesn't unpack for {what}: "
            f"add it to unpack_config of {names.TRANSFER}, or import the image from an archive"
        )

    def owns(self, pull: Pull) -> bool:
        """Return whether a recorded pull is one into this namespace and snapshotter."""
        return pull.is_for(self.request.namespace, self.snapshotter)

    def registry(self) -> Registry:
        """Return the registries as the request reaches them."""
        request = self.request
        return Registry(
            self.containerd.ctr,
            request.auth,
            hosts_dirs=self.containerd.config.hosts_dirs(self.containerd.version),
            version=self.containerd.version,
            namespace=request.namespace,
            timeout=request.timeout,
            local=self.pull_path.local,
            proxy=_proxy(self.containerd.address),
        )

    def comparer(self) -> ImageComparer:
        """Return the comparer of images with their layers, at the requested level."""
        request = self.request
        return ImageComparer(
            self.containerd.ctr,
            request.namespace,
            self.snapshotter,
            content_root=self.content_root,
            platform=request.platform,
            level=METADATA if request.integrity == INTEGRITY_NONE else request.integrity,
            trees=trees_directory(self.content_root),
        )


def _proxy(address: str) -> dict[str, str]:
    """Return the proxy variables of the daemon, so that listed images come the same way as those that CRI pulls.

    Those of the task have priority.
    """
    pid = listener(address)
    return added_proxy(os.environ, (read_environment(pid) if pid is not None else None) or {})
