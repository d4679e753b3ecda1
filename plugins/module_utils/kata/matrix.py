# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a container's root file system reaches the guest, by the configuration of containerd and Kata.

Rows are tried in order, the first that fits decides. Where a row depends on Kata's version and that isn't known, the
verdict is ``unknown`` unless the rows on both sides agree. The sources named are those of Kata Containers, up to 4.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.options import CONFIG_GO, GO, HYPERVISORS, RUST, hypervisor_of

VIRTIO_FS = "virtio-fs"
NINEP = "9p"
HOTPLUG = "block-hotplug"
GUEST_PULL = "guest-pull"
REFUSED = "refused"
UNKNOWN = "unknown"
TRANSPORTS = (VIRTIO_FS, NINEP, HOTPLUG, GUEST_PULL, REFUSED, UNKNOWN)
# In rows: by the file system that host and guest share.
SHARED = "shared"

# Snapshotters of containerd that give every container a block device of its own, and those that never do.
BLOCK_SNAPSHOTTERS = ("devmapper", "blockfile")
DIRECTORY_SNAPSHOTTERS = ("overlayfs", "native", "btrfs", "zfs")

_CONTAINER_GO = "src/runtime/virtcontainers/container.go"
_ROOTFS_RS = "src/runtime-rs/crates/resource/src/rootfs/mod.rs"
_ADVISORY = "GHSA-5fc8-gg7w-3g5c"


@dataclass(frozen=True)
class Combination:
    """The values that decide. A driver or shared file system is None if the configuration doesn't set it."""

    runtime: str
    hypervisor: str
    snapshotter: str
    version: Version | None = None
    disable_block_device_use: bool = False
    block_device_driver: str | None = None
    shared_fs: str | None = None
    allow_host_disk_hotplug: bool = False
    guest_pull: bool = False

    @property
    def driver(self) -> str | None:
        """The driver used; None where the Rust runtime chooses, which it does by its version."""
        return self.block_device_driver or ("virtio-scsi" if self.runtime == GO else None)

    @property
    def share(self) -> str:
        return self.shared_fs or hypervisor_of(self.runtime, self.hypervisor).shared_fs[0]

    @property
    def disabled(self) -> bool:
        """Whether block devices are really disabled: the Go runtime's Firecracker is never asked."""
        return self.disable_block_device_use and (self.runtime, self.hypervisor) != (GO, "fc")


@dataclass(frozen=True)
class Verdict:
    """One of TRANSPORTS with its reason, its source, and a note."""

    transport: str
    reason: str
    source: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A transport and the combinations that it is for; None stands for any. Versions: from ``since``, before ``before``."""

    transport: str
    reason: str
    source: str
    runtime: str | None = None
    hypervisors: tuple[str, ...] | None = None
    snapshotters: tuple[str, ...] | None = None
    other_snapshotters_than: tuple[str, ...] = ()
    disabled: bool | None = None
    drivers: tuple[str, ...] | None = None
    other_drivers_than: tuple[str, ...] = ()
    other_shared_fs_than: tuple[str, ...] = ()
    shared_fs: tuple[str, ...] | None = None
    risk_accepted: bool | None = None
    guest_pull: bool | None = None
    since: Version | None = None
    before: Version | None = None

    def fits(self, one: Combination) -> bool | None:
        """Return whether the row applies; None if that depends on a version that isn't known."""
        stated = (
            self.runtime in (None, one.runtime)
            and (self.hypervisors is None or one.hypervisor in self.hypervisors)
            and (self.snapshotters is None or one.snapshotter in self.snapshotters)
            and one.snapshotter not in self.other_snapshotters_than
            and self.disabled in (None, one.disabled)
            and (self.drivers is None or one.driver in self.drivers)
            and (not self.other_drivers_than or one.driver not in (None, *self.other_drivers_than))
            and (not self.other_shared_fs_than or one.share not in self.other_shared_fs_than)
            and (self.shared_fs is None or one.share in self.shared_fs)
            and self.risk_accepted in (None, one.allow_host_disk_hotplug)
            and self.guest_pull in (None, one.guest_pull)
        )
        if not stated or (self.since is None and self.before is None):
            return stated
        if one.version is None:
            return None
        return not ((self.since and one.version < self.since) or (self.before and one.version >= self.before))


def _impossible_values() -> Iterable[Row]:
    for one in HYPERVISORS:
        yield Row(
            REFUSED,
            f"block_device_driver must be one of {', '.join(one.drivers)}",
            one.source,
            runtime=one.runtime,
            hypervisors=(one.name,),
            other_drivers_than=one.drivers,
        )
        yield Row(
            REFUSED,
            f"shared_fs must be one of {', '.join(one.shared_fs)}",
            one.source,
            runtime=one.runtime,
            hypervisors=(one.name,),
            other_shared_fs_than=one.shared_fs,
        )


_GO_ROWS: tuple[Row, ...] = (
    Row(
        REFUSED,
        "Firecracker shares no file system with its guest: it needs a block snapshotter (devmapper, blockfile)",
        "kata-containers PR 3814",
        GO,
        ("fc",),
        snapshotters=(*DIRECTORY_SNAPSHOTTERS, "erofs"),
    ),
    Row(
        REFUSED,
        "Firecracker needs a block snapshotter (devmapper, blockfile), and this isn't known to be one: with another, "
        "the host's own disk can be hot-plugged into the guest",
        _ADVISORY,
        GO,
        ("fc",),
        other_snapshotters_than=BLOCK_SNAPSHOTTERS,
        risk_accepted=False,
    ),
    Row(
        REFUSED,
        "btrfs with block devices doesn't start: set disable_block_device_use to true",
        "kata-containers issue 3474",
        GO,
        snapshotters=("btrfs",),
        disabled=False,
    ),
    Row(
        REFUSED,
        "an image without layers would hot-plug the host's own disk into the guest: set disable_block_device_use to true, "
        "or pin the handler to a block snapshotter",
        _ADVISORY,
        GO,
        other_snapshotters_than=BLOCK_SNAPSHOTTERS,
        disabled=False,
        risk_accepted=False,
    ),
    # Devices are hot-plugged before, so the rows above apply as well.
    Row(
        GUEST_PULL,
        "the guest pulls the image itself (experimental_force_guest_pull), and no file system of the host is used",
        "src/runtime/virtcontainers/fs_share_linux.go",
        GO,
        snapshotters=(*DIRECTORY_SNAPSHOTTERS, *BLOCK_SNAPSHOTTERS),
        guest_pull=True,
        since=Version(3, 18, 0),
    ),
    Row(
        HOTPLUG,
        "each layer is a device of its own",
        "kata-containers PR 11172",
        GO,
        snapshotters=("erofs",),
        disabled=False,
        since=Version(3, 19, 0),
    ),
    Row(
        UNKNOWN,
        "erofs layers that aren't passed as devices are untested",
        "kata-containers PR 11172",
        GO,
        snapshotters=("erofs",),
    ),
    Row(
        HOTPLUG,
        "the snapshot's device is passed to the guest and not mounted on the host",
        _CONTAINER_GO,
        GO,
        snapshotters=BLOCK_SNAPSHOTTERS,
        disabled=False,
    ),
    Row(
        SHARED,
        "the snapshot's device is mounted on the host and shared",
        _CONTAINER_GO,
        GO,
        snapshotters=BLOCK_SNAPSHOTTERS,
        disabled=True,
    ),
    Row(SHARED, "the snapshot is a directory of the host, and shared", _CONTAINER_GO, GO, snapshotters=DIRECTORY_SNAPSHOTTERS),
    Row(UNKNOWN, "it depends on what this snapshotter mounts", _CONTAINER_GO, GO),
)

_RUST_ROWS: tuple[Row, ...] = (
    Row(
        GUEST_PULL,
        "the guest pulls the image itself (force_guest_pull), and no file system of the host is used",
        "src/runtime-rs/crates/resource/src/manager_inner.rs",
        RUST,
        ("qemu", "clh", "dragonball", "openvmm"),
        shared_fs=("none",),
        guest_pull=True,
        since=Version(3, 18, 0),
    ),
    Row(
        UNKNOWN,
        "force_guest_pull is known to work with shared_fs none alone",
        "src/runtime-rs/crates/resource/src/rootfs/mod.rs",
        RUST,
        guest_pull=True,
        since=Version(3, 18, 0),
    ),
    Row(
        REFUSED,
        "virtio-pmem isn't implemented for root file systems: use virtio-blk-pci or virtio-blk-mmio",
        "src/runtime-rs/crates/resource/src/rootfs/block_rootfs.rs",
        RUST,
        ("dragonball",),
        snapshotters=("devmapper",),
        drivers=("virtio-pmem",),
    ),
    Row(
        REFUSED,
        "disable_block_device_use leaves this runtime without a block driver, while devmapper's devices are always passed: "
        "set it to false",
        "kata-containers PR 13682",
        RUST,
        snapshotters=("devmapper",),
        disabled=True,
        before=Version(4, 1, 1),
    ),
    Row(
        UNKNOWN,
        "releases of 4.1 after 4.1.0 may or may not ignore disable_block_device_use: leave it out",
        "kata-containers PR 13682",
        RUST,
        snapshotters=("devmapper",),
        disabled=True,
        before=Version(4, 2, 0),
    ),
    Row(
        UNKNOWN,
        "virtio-scsi with devmapper is known to fail from 3.22 to 3.32: use virtio-blk-pci",
        "kata-containers issue 10066",
        RUST,
        ("qemu",),
        snapshotters=("devmapper",),
        drivers=("virtio-scsi",),
        before=Version(3, 22, 0),
    ),
    Row(
        REFUSED,
        "virtio-scsi with devmapper fails from 3.22 to 3.32: use virtio-blk-pci, or another version",
        "kata-containers issue 10066",
        RUST,
        ("qemu",),
        snapshotters=("devmapper",),
        drivers=("virtio-scsi",),
        before=Version(3, 33, 0),
    ),
    Row(
        HOTPLUG,
        "a mount whose source is a block device is passed to the guest, regardless of disable_block_device_use",
        _ROOTFS_RS,
        RUST,
        snapshotters=("devmapper",),
    ),
    Row(
        HOTPLUG,
        "all layers are passed as devices",
        "kata-containers PR 12763",
        RUST,
        ("qemu",),
        snapshotters=("erofs",),
        since=Version(4, 0, 0),
    ),
    Row(
        UNKNOWN,
        "releases before 4.0.0 are untested with erofs",
        "kata-containers PR 12763",
        RUST,
        ("qemu",),
        snapshotters=("erofs",),
    ),
    Row(
        REFUSED,
        "images of several erofs layers work with qemu alone",
        "kata-containers PR 12763",
        RUST,
        snapshotters=("erofs",),
    ),
    Row(
        UNKNOWN,
        "blockfile mounts a file, and this runtime only checks whether the source of a mount is a block device",
        _ROOTFS_RS,
        RUST,
        snapshotters=("blockfile",),
    ),
    Row(
        REFUSED,
        "Firecracker shares no file system with its guest: it needs a block snapshotter (devmapper)",
        "kata-containers PR 3814",
        RUST,
        ("fc",),
        snapshotters=DIRECTORY_SNAPSHOTTERS,
    ),
    Row(SHARED, "the snapshot is a directory of the host, and shared", _ROOTFS_RS, RUST, snapshotters=DIRECTORY_SNAPSHOTTERS),
    Row(UNKNOWN, "it depends on what this snapshotter mounts", _ROOTFS_RS, RUST),
)

TABLE: tuple[Row, ...] = (*_impossible_values(), *_GO_ROWS, *_RUST_ROWS)

# What SHARED becomes, by shared_fs.
SHARED_TABLE: dict[str, Verdict] = {
    "virtio-fs": Verdict(VIRTIO_FS, "", CONFIG_GO),
    "inline-virtio-fs": Verdict(VIRTIO_FS, "", "src/libs/kata-types/src/config/hypervisor/mod.rs"),
    "virtio-9p": Verdict(NINEP, "", CONFIG_GO),
    "virtio-fs-nydus": Verdict(UNKNOWN, "nydusd is untested", CONFIG_GO),
    "none": Verdict(REFUSED, "shared_fs is none, so nothing is shared", CONFIG_GO),
}


def classify(one: Combination) -> Verdict:
    """Return the verdict of the first row that fits. Raises ValueError for a hypervisor that the runtime doesn't run."""
    hypervisor_of(one.runtime, one.hypervisor)
    candidates = []
    for row in TABLE:
        fits = row.fits(one)
        if fits is not False:
            candidates.append(_verdict(row, one))
        if fits:
            break
    if len({verdict.transport for verdict in candidates}) == 1:
        return candidates[0]
    reasons = "; or ".join(dict.fromkeys(f"{verdict.transport}: {verdict.reason}" for verdict in candidates))
    return Verdict(UNKNOWN, f"it depends on Kata's version, which isn't known ({reasons})", candidates[0].source, _warnings(one))


def _verdict(row: Row, one: Combination) -> Verdict:
    if row.transport == REFUSED:
        return Verdict(REFUSED, row.reason, row.source)
    if row.transport != SHARED:
        return Verdict(row.transport, row.reason, row.source, _warnings(one))
    shared = SHARED_TABLE[one.share]
    reason = f"{row.reason}; {shared.reason}" if shared.reason else row.reason
    return Verdict(shared.transport, reason, row.source, _warnings(one))


def _warnings(one: Combination) -> tuple[str, ...]:
    if one.runtime == GO and not one.disabled and one.snapshotter not in BLOCK_SNAPSHOTTERS:
        return (f"a container of an image without layers can be given the host's own disk ({_ADVISORY})",)
    if one.runtime == RUST and one.disable_block_device_use and (one.version is None or one.version < Version(4, 2, 0)):
        return ("disable_block_device_use leaves this runtime without a block driver: volumes on block devices fail",)
    return ()
