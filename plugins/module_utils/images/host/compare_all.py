# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare all images of a node with their layers; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.expected import JudgedImage
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import ImageComparer, trees_directory


def compare_all(ctr: Ctr, content_root: str, snapshotters: Sequence[str], platform: str, level: str) -> tuple[JudgedImage, ...]:
    """Compare the unpacked images of every namespace, for each of the snapshotters.

    Raises HostError where containerd fails.
    """
    options = {"content_root": content_root, "platform": platform, "level": level, "trees": trees_directory(content_root)}
    found: list[JudgedImage] = []
    for namespace in ctr.namespaces():
        for snapshotter in snapshotters:
            other = snapshotter if snapshotter != snapshotters[0] else ""
            comparer = ImageComparer(ctr, namespace, snapshotter, **options)
            try:
                if other and not comparer.store.snapshots(other).layers():
                    continue
                compared = comparer.compare_unpacked()
                if not other:  # The documents of images are the same for all snapshotters.
                    compared.update(comparer.images_with_damaged_metadata())
            except HostError as error:
                found.append(JudgedImage("images", namespace, unknown=str(error), snapshotter=other))
                continue
            for name, comparison in compared.items():
                damage = comparison.summary() if comparison.damaged else ""
                found.append(JudgedImage(name, namespace, damage, comparison.unknown, other))
    return tuple(found)
