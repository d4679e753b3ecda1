# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import (
    BLOCK_SNAPSHOTTERS,
    DIRECTORY_SNAPSHOTTERS,
    GUEST_PULL,
    HOTPLUG,
    NINEP,
    REFUSED,
    SHARED_TABLE,
    TABLE,
    TRANSPORTS,
    UNKNOWN,
    VIRTIO_FS,
    Combination,
    classify,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.options import GO, HYPERVISORS, RUST

DRIVERS = {(one.runtime, one.name): one.drivers[0] for one in HYPERVISORS}


def verdict(runtime: str, hypervisor: str, snapshotter: str, **options: Any) -> str:
    """By the vendor's driver, unless another is given, and for a version that is new to all rows but those of 4.2."""
    options.setdefault("block_device_driver", DRIVERS[runtime, hypervisor])
    version = options.pop("version", "4.1.0")
    disable = options.pop("disable", True)
    return classify(
        Combination(
            runtime,
            hypervisor,
            snapshotter,
            version=Version.parse(version) if version else None,
            disable_block_device_use=disable,
            **options,
        )
    ).transport


@pytest.mark.parametrize("hypervisor", ["qemu", "clh", "stratovirt"])
@pytest.mark.parametrize("snapshotter", DIRECTORY_SNAPSHOTTERS)
def test_go_shares_directories(hypervisor: str, snapshotter: str) -> None:
    assert verdict(GO, hypervisor, snapshotter) == VIRTIO_FS
    assert verdict(GO, hypervisor, snapshotter, shared_fs="none") == REFUSED


@pytest.mark.parametrize("hypervisor", ["qemu", "clh", "stratovirt"])
@pytest.mark.parametrize("snapshotter", BLOCK_SNAPSHOTTERS)
def test_go_passes_devices_or_shares_what_is_on_them(hypervisor: str, snapshotter: str) -> None:
    assert verdict(GO, hypervisor, snapshotter, disable=False) == HOTPLUG
    assert verdict(GO, hypervisor, snapshotter, disable=False, shared_fs="none") == HOTPLUG
    assert verdict(GO, hypervisor, snapshotter, disable=True) == VIRTIO_FS
    assert verdict(GO, hypervisor, snapshotter, disable=True, shared_fs="none") == REFUSED


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "zfs", "erofs", "stargz", "nydus"])
@pytest.mark.parametrize("hypervisor", ["qemu", "clh", "stratovirt"])
def test_go_could_plug_in_the_hosts_disk(hypervisor: str, snapshotter: str) -> None:
    refused = classify(Combination(GO, hypervisor, snapshotter, block_device_driver=DRIVERS[GO, hypervisor]))
    assert (refused.transport, refused.source) == (REFUSED, "GHSA-5fc8-gg7w-3g5c")
    accepted = Combination(GO, hypervisor, snapshotter, block_device_driver=DRIVERS[GO, hypervisor], allow_host_disk_hotplug=True)
    assert classify(accepted).transport != REFUSED
    assert "the host's own disk" in classify(accepted).warnings[0]


@pytest.mark.parametrize(
    ("runtime", "hypervisor", "snapshotter", "options", "expected"),
    [
        # Which drivers each hypervisor takes.
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": None}, HOTPLUG),
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-scsi"}, HOTPLUG),
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk"}, HOTPLUG),
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-ccw"}, HOTPLUG),
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-mmio"}, REFUSED),
        (GO, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-pci"}, REFUSED),
        (GO, "clh", "devmapper", {"disable": False, "block_device_driver": "virtio-blk"}, HOTPLUG),
        (GO, "clh", "devmapper", {"disable": False, "block_device_driver": "virtio-scsi"}, REFUSED),
        (GO, "clh", "overlayfs", {"block_device_driver": "virtio-scsi"}, REFUSED),
        # The runtime's own default is virtio-scsi, which neither of these takes.
        (GO, "clh", "devmapper", {"disable": False, "block_device_driver": None}, REFUSED),
        (GO, "fc", "devmapper", {"block_device_driver": None}, REFUSED),
        (GO, "fc", "devmapper", {"block_device_driver": "virtio-mmio"}, HOTPLUG),
        (GO, "stratovirt", "devmapper", {"disable": False, "block_device_driver": "virtio-mmio"}, HOTPLUG),
        (GO, "stratovirt", "devmapper", {"disable": False, "block_device_driver": "virtio-blk"}, REFUSED),
        (RUST, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-pci"}, HOTPLUG),
        (RUST, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-ccw"}, HOTPLUG),
        (RUST, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-blk"}, REFUSED),
        (RUST, "clh", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-pci"}, HOTPLUG),
        (RUST, "clh", "devmapper", {"disable": False, "block_device_driver": "virtio-scsi"}, REFUSED),
        (RUST, "dragonball", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-pci"}, HOTPLUG),
        (RUST, "dragonball", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-mmio"}, HOTPLUG),
        (RUST, "dragonball", "devmapper", {"disable": False, "block_device_driver": "virtio-scsi"}, REFUSED),
        (RUST, "fc", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-mmio"}, HOTPLUG),
        (RUST, "fc", "devmapper", {"disable": False, "block_device_driver": "virtio-blk-pci"}, REFUSED),
        # Rust, QEMU, devmapper and virtio-scsi: kata-containers issue 10066.
        (RUST, "qemu", "devmapper", {"disable": False, "version": "3.21.0"}, UNKNOWN),
        (RUST, "qemu", "devmapper", {"disable": False, "version": "3.22.0"}, REFUSED),
        (RUST, "qemu", "devmapper", {"disable": False, "version": "3.32.0"}, REFUSED),
        (RUST, "qemu", "devmapper", {"disable": False, "version": "3.33.0"}, HOTPLUG),
        (RUST, "qemu", "devmapper", {"disable": False, "version": "4.0.0"}, HOTPLUG),
        (RUST, "qemu", "devmapper", {"disable": False, "version": None}, UNKNOWN),
        (RUST, "qemu", "devmapper", {"disable": False, "version": None, "block_device_driver": "virtio-blk-pci"}, HOTPLUG),
        # Rust and disable_block_device_use: no driver up to 4.1.0, ignored from 4.2.0 on.
        (RUST, "clh", "devmapper", {"version": "3.20.0"}, REFUSED),
        (RUST, "clh", "devmapper", {"version": "4.1.0"}, REFUSED),
        (RUST, "clh", "devmapper", {"version": "4.1.1"}, UNKNOWN),
        (RUST, "clh", "devmapper", {"version": "4.2.0"}, HOTPLUG),
        (RUST, "clh", "devmapper", {"version": None}, UNKNOWN),
        # Rust goes by the mount alone: a directory is shared whatever the setting says, and no host disk is plugged in.
        (RUST, "qemu", "overlayfs", {"disable": False}, VIRTIO_FS),
        (RUST, "qemu", "overlayfs", {"disable": True}, VIRTIO_FS),
        (RUST, "dragonball", "overlayfs", {"shared_fs": "inline-virtio-fs"}, VIRTIO_FS),
        (RUST, "qemu", "overlayfs", {"shared_fs": "none"}, REFUSED),
        (RUST, "qemu", "btrfs", {"disable": False}, VIRTIO_FS),
        (RUST, "qemu", "blockfile", {"disable": False}, UNKNOWN),
        # Which file systems are shared.
        (GO, "qemu", "overlayfs", {"shared_fs": "virtio-9p"}, NINEP),
        (GO, "qemu", "devmapper", {"disable": True, "shared_fs": "virtio-9p"}, NINEP),
        (GO, "qemu", "overlayfs", {"shared_fs": "virtio-fs-nydus"}, UNKNOWN),
        (GO, "clh", "overlayfs", {"shared_fs": "virtio-9p"}, REFUSED),
        (GO, "stratovirt", "overlayfs", {"shared_fs": "virtio-9p"}, REFUSED),
        (RUST, "qemu", "overlayfs", {"shared_fs": "virtio-9p"}, REFUSED),
        (RUST, "clh", "overlayfs", {"shared_fs": "inline-virtio-fs"}, REFUSED),
        (GO, "fc", "devmapper", {"shared_fs": "virtio-fs"}, REFUSED),
        # Firecracker shares nothing; the Go runtime never disables its block devices.
        *[(GO, "fc", name, {"disable": disable}, REFUSED) for name in DIRECTORY_SNAPSHOTTERS for disable in (True, False)],
        (GO, "fc", "overlayfs", {"allow_host_disk_hotplug": True}, REFUSED),
        (GO, "fc", "stargz", {"disable": True}, REFUSED),
        (GO, "fc", "stargz", {"allow_host_disk_hotplug": True}, UNKNOWN),
        (GO, "fc", "devmapper", {"disable": True}, HOTPLUG),
        (GO, "fc", "blockfile", {"disable": False}, HOTPLUG),
        (RUST, "fc", "overlayfs", {"disable": False}, REFUSED),
        # erofs
        (GO, "qemu", "erofs", {"disable": True}, UNKNOWN),
        (GO, "qemu", "erofs", {"disable": False}, REFUSED),
        (GO, "qemu", "erofs", {"disable": False, "allow_host_disk_hotplug": True}, HOTPLUG),
        (GO, "qemu", "erofs", {"disable": False, "allow_host_disk_hotplug": True, "version": "3.19.0"}, HOTPLUG),
        (GO, "qemu", "erofs", {"disable": False, "allow_host_disk_hotplug": True, "version": "3.18.0"}, UNKNOWN),
        (GO, "qemu", "erofs", {"disable": False, "allow_host_disk_hotplug": True, "version": None}, UNKNOWN),
        (RUST, "qemu", "erofs", {"disable": False}, HOTPLUG),
        (RUST, "qemu", "erofs", {"disable": False, "version": "3.32.0"}, UNKNOWN),
        (RUST, "clh", "erofs", {"disable": False}, REFUSED),
        (RUST, "dragonball", "erofs", {"disable": False}, REFUSED),
        # btrfs with block devices: kata-containers issue 3474. No acceptance mends that.
        (GO, "qemu", "btrfs", {"disable": False}, REFUSED),
        (GO, "qemu", "btrfs", {"disable": False, "allow_host_disk_hotplug": True}, REFUSED),
        # Dragonball's loader takes virtio-pmem, which its root file systems don't have.
        (RUST, "dragonball", "overlayfs", {"block_device_driver": "virtio-pmem"}, VIRTIO_FS),
        (RUST, "dragonball", "devmapper", {"disable": False, "block_device_driver": "virtio-pmem"}, REFUSED),
        (RUST, "qemu", "devmapper", {"disable": False, "block_device_driver": "virtio-pmem"}, REFUSED),
        # OpenVMM, since 4.1.0.
        (RUST, "openvmm", "overlayfs", {}, VIRTIO_FS),
        (RUST, "openvmm", "overlayfs", {"shared_fs": "none"}, REFUSED),
        (RUST, "openvmm", "devmapper", {"disable": False}, HOTPLUG),
        (RUST, "openvmm", "devmapper", {"disable": False, "block_device_driver": "virtio-scsi"}, REFUSED),
        (RUST, "openvmm", "erofs", {"disable": False}, REFUSED),
        # The guest pulls its images. Until then the Go runtime plugs in devices as ever.
        (GO, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none"}, GUEST_PULL),
        (GO, "qemu", "overlayfs", {"guest_pull": True}, GUEST_PULL),
        (GO, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none", "version": "3.17.0"}, REFUSED),
        (GO, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none", "version": None}, UNKNOWN),
        (GO, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none", "disable": False}, REFUSED),
        (GO, "qemu", "devmapper", {"guest_pull": True, "shared_fs": "none", "disable": False}, GUEST_PULL),
        (GO, "qemu", "nydus", {"guest_pull": True, "shared_fs": "none"}, UNKNOWN),
        (GO, "fc", "overlayfs", {"guest_pull": True}, REFUSED),
        (RUST, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none"}, GUEST_PULL),
        (RUST, "qemu", "overlayfs", {"guest_pull": True, "shared_fs": "none", "version": "3.17.0"}, REFUSED),
        (RUST, "qemu", "overlayfs", {"guest_pull": True}, UNKNOWN),
        # Snapshotters that nobody here knows.
        (GO, "qemu", "stargz", {"disable": True}, UNKNOWN),
        (RUST, "qemu", "stargz", {"disable": False}, UNKNOWN),
    ],
)
def test_transport(runtime: str, hypervisor: str, snapshotter: str, options: dict[str, Any], expected: str) -> None:
    assert verdict(runtime, hypervisor, snapshotter, **options) == expected


def test_an_unknown_version_names_both_possibilities() -> None:
    found = classify(Combination(RUST, "qemu", "devmapper", block_device_driver="virtio-scsi"))
    assert found.transport == UNKNOWN
    assert "block-hotplug: " in found.reason
    assert "refused: virtio-scsi with devmapper fails from 3.22 to 3.32" in found.reason


def test_a_driverless_rust_runtime_is_warned_of() -> None:
    before = Combination(RUST, "qemu", "overlayfs", Version(4, 1, 0), disable_block_device_use=True)
    assert "volumes on block devices fail" in classify(before).warnings[0]
    assert classify(Combination(RUST, "qemu", "overlayfs", Version(4, 2, 0), disable_block_device_use=True)).warnings == ()


@pytest.mark.parametrize(("runtime", "hypervisor"), [(GO, "dragonball"), (RUST, "stratovirt"), (GO, "acrn")])
def test_a_hypervisor_that_the_runtime_does_not_run(runtime: str, hypervisor: str) -> None:
    with pytest.raises(ValueError, match=f"the {runtime} runtime doesn't run {hypervisor}"):
        classify(Combination(runtime, hypervisor, "overlayfs"))


SNAPSHOTTERS = st.one_of(
    st.sampled_from([*BLOCK_SNAPSHOTTERS, *DIRECTORY_SNAPSHOTTERS, "erofs", "nydus"]),
    st.from_regex(r"[a-z]{1,9}", fullmatch=True),
)
VERSIONS = st.one_of(st.none(), st.builds(Version, st.integers(2, 5), st.integers(0, 40), st.integers(0, 2)))
COMBINATIONS = st.sampled_from(HYPERVISORS).flatmap(
    lambda one: st.builds(
        Combination,
        st.just(one.runtime),
        st.just(one.name),
        SNAPSHOTTERS,
        VERSIONS,
        st.booleans(),
        st.sampled_from(
            [None, "", "virtio-scsi", "virtio-blk", "virtio-mmio", "virtio-blk-pci", "virtio-blk-mmio", *one.drivers]
        ),
        st.sampled_from([None, "", "virtio-9p", *one.shared_fs]),
        st.booleans(),
        st.booleans(),
    )
)


@given(COMBINATIONS)
def test_go_passes_devices_of_block_snapshotters_only_unless_the_risk_is_accepted(one: Combination) -> None:
    found = classify(one)
    if one.runtime == GO and one.snapshotter not in BLOCK_SNAPSHOTTERS and not one.allow_host_disk_hotplug:
        assert found.transport != HOTPLUG
        # Block devices that aren't disabled are what plugs in the host's disk, whatever the usual image's way is.
        assert one.disabled or found.transport == REFUSED


@given(COMBINATIONS)
def test_every_combination_has_a_verdict_with_its_reason_and_source(one: Combination) -> None:
    found = classify(one)
    assert found.transport in TRANSPORTS
    assert found.reason
    assert found.source


def test_every_row_decides_something() -> None:
    """No row is hidden behind those before it."""
    drivers = [None, *dict.fromkeys(driver for one in HYPERVISORS for driver in one.drivers), "nvdimm"]
    versions = [Version.parse(text) for text in ("3.18.0", "3.21.0", "3.25.0", "3.33.0", "4.1.0", "4.1.1", "4.2.0")]
    shares = [None, *SHARED_TABLE]
    snapshotters = [*BLOCK_SNAPSHOTTERS, *DIRECTORY_SNAPSHOTTERS, "erofs", "other"]
    deciding = set()
    for one in HYPERVISORS:
        for snapshotter in snapshotters:
            for version in versions:
                for disable in (True, False):
                    for driver in drivers:
                        for share, *flags in [(share, False, pull) for share in shares for pull in (False, True)] + [
                            (None, True, False)
                        ]:
                            asked = Combination(one.runtime, one.name, snapshotter, version, disable, driver, share, *flags)
                            deciding.add(next(number for number, row in enumerate(TABLE) if row.fits(asked)))
    assert deciding == set(range(len(TABLE)))
