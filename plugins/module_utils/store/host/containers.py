# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers of a namespace, and the images and snapshots that they use."""

from __future__ import annotations

import json

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import NamespaceCtr


class Containers:
    """containerd core/containers, listed once for ``describe``. Raises HostError where the daemon refuses."""

    def __init__(self, ctr: NamespaceCtr) -> None:
        self._ctr = ctr
        self._ids: frozenset[str] | None = None

    def by_image(self) -> dict[str, list[str]]:
        """Return the ids of the containers that were made of an image, by its name."""
        found: dict[str, list[str]] = {}
        for line in self._ctr.ask("containers", "ls", doing="ask containerd for its containers").splitlines()[1:]:
            container, image = [*line.split(), "-"][:2]
            found.setdefault(image, []).append(container)
        return found

    def describe(self, snapshot: str) -> str:
        """Return whose a snapshot is that isn't a layer, for people: a container has the same name as its snapshot."""
        if self._ids is None:
            self._ids = frozenset(container for containers in self.by_image().values() for container in containers)
        if snapshot not in self._ids:
            return f"the snapshot {snapshot}"
        info = json.loads(self._ctr.ask("containers", "info", snapshot, doing=f"inspect the container {snapshot}"))
        labels = info.get("Labels") or {}
        pod = "/".join(str(labels.get(f"io.kubernetes.pod.{key}", "")) for key in ("namespace", "name"))
        return f"container {snapshot}" + (f" of the pod {pod}" if pod != "/" else "")
