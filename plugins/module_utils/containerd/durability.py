# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The durability of a pulled image, by the path on which it was pulled.

Rows are tried in order, the first that fits decides. What the sources say:
 - containerd core/diff/apply/apply_linux.go: one syncfs a layer, for overlay and bind mounts only.
 - containerd internal/cri/server/images/image_pull.go: image_pull_with_sync_fs; it forces the local puller.
 - containerd plugins/services/diff/local.go: sync_fs of the diff service; core/transfer/local/pull.go
   doesn't go through that service.
 - containerd plugins/metadata/plugin.go: no_sync, which leaves the metadata itself unflushed.
 - measured with strace on 1.7.24, 2.1.9, 2.2.9, 2.3.7 and 2.4.2: syncfs calls during pulls, by each setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

DURABLE = "durable"
NOT_DURABLE = "not_durable"
UNKNOWN = "unknown"

PATHS = ("cri", "ctr", "transfer")


@dataclass(frozen=True)
class Pull:
    """The values that decide: the daemon, the snapshotter that the image is unpacked for, and the effective settings.

    ``local_image_pull``: a setting makes CRI pull by itself (EffectiveConfig.local_pull_keys). ``no_sync``: the metadata isn't
    flushed. ``late``: it is unpacked when a container is made of it, which had been pulled for another snapshotter.
    """

    path: str
    version: Version
    snapshotter: str
    image_pull_sync_fs: bool = False
    diff_sync_fs: bool = False
    local_image_pull: bool = False
    no_sync: bool = False
    late: bool = False

    @property
    def cri_pulls_locally(self) -> bool:
        """Whether CRI pulls without the transfer service. image_pull_with_sync_fs overrides use_local_image_pull."""
        return not self.version.at_least("2.1.0") or self.local_image_pull or self.image_pull_sync_fs


@dataclass(frozen=True)
class Verdict:
    """``durable``, ``not_durable`` or ``unknown``, why, and who says so."""

    durability: str
    reason: str
    source: str


@dataclass(frozen=True)
class Row:
    """A verdict, and the pulls that it is for."""

    applies: Callable[[Pull], bool]
    verdict: Verdict


_EROFS = "erofs is flushed by set_immutable or enable_fsverity at most, never by syncfs (containerd#14164)"
_TRANSFER = "the transfer service unpacks without syncfs, regardless of the settings"
_MEASURED = "measured with strace"
_FILES_IN_DIRECTORY = ("overlayfs", "native")

TABLE: tuple[Row, ...] = (
    Row(
        lambda pull: pull.no_sync,
        Verdict(
            NOT_DURABLE,
            f"no_sync of {names.METADATA} is on, so the metadata of images and snapshots isn't flushed",
            "containerd plugins/metadata/plugin.go",
        ),
    ),
    Row(
        lambda pull: pull.snapshotter == "erofs",
        Verdict(UNKNOWN, _EROFS, "containerd plugins/diff/erofs"),
    ),
    Row(
        lambda pull: pull.snapshotter in ("devmapper", "blockfile"),
        Verdict(
            UNKNOWN,
            "each layer is written when its device is unmounted; whether it is on disk then depends on the device",
            "containerd core/diff/apply/apply_linux.go",
        ),
    ),
    Row(
        lambda pull: pull.snapshotter not in _FILES_IN_DIRECTORY,
        Verdict(
            UNKNOWN,
            "it depends on the snapshotter, which containerd does not flush",
            "containerd core/diff/apply/apply_linux.go",
        ),
    ),
    Row(
        lambda pull: pull.path == "transfer",
        Verdict(NOT_DURABLE, _TRANSFER, _MEASURED + " on 2.1.9"),
    ),
    Row(
        lambda pull: pull.path == "ctr" and pull.diff_sync_fs,
        Verdict(
            DURABLE,
            "the diff service syncs every layer (ctr pulling with --local)",
            "containerd plugins/services/diff/local.go",
        ),
    ),
    Row(
        lambda pull: pull.path == "ctr",
        Verdict(
            NOT_DURABLE,
            "nothing flushes the layers: sync_fs of the diff service is off or not known to this version",
            _MEASURED,
        ),
    ),
    Row(
        lambda pull: pull.late and not pull.diff_sync_fs,
        Verdict(
            NOT_DURABLE,
            "it is unpacked when a container is made, flushed by the diff service's sync_fs alone, which is off or not known",
            "containerd internal/cri/opts/container.go: WithNewSnapshot",
        ),
    ),
    Row(
        lambda pull: pull.diff_sync_fs and (pull.late or pull.cri_pulls_locally) and not pull.image_pull_sync_fs,
        Verdict(DURABLE, "the diff service syncs every layer", _MEASURED + " on 2.1.9"),
    ),
    Row(
        lambda pull: pull.image_pull_sync_fs,
        Verdict(
            DURABLE,
            "image_pull_with_sync_fs syncs every layer before it is committed",
            _MEASURED + " on 1.7.24 and 2.1.9",
        ),
    ),
    Row(
        lambda pull: pull.diff_sync_fs,
        Verdict(
            NOT_DURABLE,
            "CRI pulls through the transfer service, which doesn't use the diff service's sync_fs",
            _MEASURED + " on 2.1.9",
        ),
    ),
    Row(
        lambda pull: True,
        Verdict(
            NOT_DURABLE,
            "nothing flushes the layers: image_pull_with_sync_fs is off or not known to this version",
            _MEASURED,
        ),
    ),
)


def classify(pull: Pull) -> Verdict:
    """Return the verdict of the first row that fits; the last one fits everything."""
    return next(row.verdict for row in TABLE if row.applies(pull))


def of_flushed(snapshotter: str, *, no_sync: bool = False) -> str:
    """Return the durability of an image whose file systems were synced after it was unpacked for a snapshotter.

    Only overlayfs and native store the files of an image as files in their directory, which syncfs(2) flushes. ``no_sync``: the
    daemon doesn't flush its metadata, without which they are lost.
    """
    if no_sync:
        return NOT_DURABLE
    return DURABLE if snapshotter in _FILES_IN_DIRECTORY else UNKNOWN


def paths(version: Version) -> tuple[str, ...]:
    """Return the pull paths that a daemon has: the transfer service came with 1.7."""
    return PATHS if version.at_least("1.7.0", "2.0.0") else PATHS[:2]
