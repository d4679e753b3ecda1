# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All images of a node, compared with their layers; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.images.expected import JudgedImage
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import Mender, describe, trees_directory
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore


def compare_all(ctr: Ctr, content_root: str, snapshotters: Sequence[str], platform: str, level: str) -> tuple[JudgedImage, ...]:
    """Those of every namespace that are unpacked for one of the snapshotters, for each of them.

    Raises HostError where containerd fails.
    """
    options = {"content_root": content_root, "platform": platform, "level": level, "trees": trees_directory(content_root)}
    found: list[JudgedImage] = []
    for namespace in ctr.namespaces():
        for snapshotter in snapshotters:
            other = snapshotter if snapshotter != snapshotters[0] else ""
            mender = Mender(ctr, namespace, snapshotter, **options)
            try:
                if other and not NamespaceStore(ctr, namespace).snapshots(other).layers():
                    continue
                # What describes images is the same for all snapshotters.
                judged = mender.judge_all() if other else {**mender.judge_all(), **mender.undescribed()}
            except HostError as error:
                found.append(JudgedImage("images", namespace, unknown=str(error), snapshotter=other))
                continue
            for name, one in judged.items():
                damage = describe(one) if one.differences or one.damaged_blobs else ""
                found.append(JudgedImage(name, namespace, damage, one.unknown, other))
    return tuple(found)
