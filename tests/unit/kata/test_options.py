# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.kata.options import (
    GO,
    HYPERVISORS,
    RUST,
    SETTINGS,
    UNREAD,
    check_settings,
    dangers,
    hypervisor_of,
    parse_version,
    unread,
    vendor_settings,
)

CACHE: dict[str, Any] = {"block_device_cache_set": True, "block_device_cache_direct": True, "block_device_cache_noflush": True}


def mute(runtime: str, hypervisor: str, asked: dict[str, Any], version: str | None = "4.1.0", **effective: Any) -> set[str]:
    """The names of the settings that are said to have no effect."""
    known = Version.parse(version) if version else None
    sentences = unread(hypervisor_of(runtime, hypervisor), known, asked, {**asked, **effective})
    return {sentence.split(" has no effect: ")[0] for sentence in sentences}


@pytest.mark.parametrize(
    ("runtime", "hypervisor", "asked", "expected"),
    [
        (GO, "qemu", CACHE, set()),
        (GO, "qemu", {**CACHE, "block_device_cache_set": False}, {"block_device_cache_direct", "block_device_cache_noflush"}),
        (GO, "clh", CACHE, {"block_device_cache_noflush"}),
        (
            GO,
            "clh",
            {"block_device_cache_direct": True},
            {"block_device_cache_direct"},
        ),
        (GO, "fc", CACHE, set(CACHE)),
        (GO, "stratovirt", CACHE, set(CACHE)),
        (RUST, "qemu", CACHE, {"block_device_cache_set", "block_device_cache_noflush"}),
        (RUST, "clh", CACHE, {"block_device_cache_set", "block_device_cache_noflush"}),
        (GO, "qemu", {"block_device_aio": "native"}, set()),
        (RUST, "qemu", {"block_device_aio": "native"}, set()),
        (GO, "clh", {"block_device_aio": "native"}, {"block_device_aio"}),
        (RUST, "dragonball", {"block_device_aio": "native"}, {"block_device_aio"}),
        (GO, "fc", {"disable_block_device_use": True}, {"disable_block_device_use"}),
        (GO, "qemu", {"disable_block_device_use": True}, set()),
        (
            GO,
            "qemu",
            {"block_device_logical_sector_size": 4096, "block_device_driver": "virtio-scsi"},
            {"block_device_logical_sector_size"},
        ),
        (GO, "qemu", {"block_device_logical_sector_size": 4096, "block_device_driver": "virtio-blk"}, set()),
        (RUST, "qemu", {"block_device_logical_sector_size": 4096, "block_device_driver": "virtio-scsi"}, set()),
        (GO, "qemu", {"enable_iothreads": True, "block_device_driver": "virtio-blk"}, {"enable_iothreads"}),
        (GO, "qemu", {"enable_iothreads": True, "block_device_driver": "virtio-scsi"}, set()),
        *[(GO, name, {"enable_iothreads": True}, {"enable_iothreads"}) for name in ("stratovirt", "clh", "fc")],
        *[(RUST, name, {"enable_iothreads": True}, {"enable_iothreads"}) for name in ("openvmm", "clh", "fc")],
        (RUST, "openvmm", {"block_device_cache_direct": True}, {"block_device_cache_direct"}),
    ],
)
def test_settings_without_effect(runtime: str, hypervisor: str, asked: dict[str, Any], expected: set[str]) -> None:
    assert mute(runtime, hypervisor, asked) == expected


def test_only_what_was_asked_for_is_said_to_have_no_effect() -> None:
    assert mute(GO, "fc", {}, **CACHE) == set()


@pytest.mark.parametrize(("version", "expected"), [("4.1.0", set()), ("4.2.0", {"disable_block_device_use"}), (None, set())])
def test_rust_lost_a_setting(version: str | None, expected: set[str]) -> None:
    assert mute(RUST, "qemu", {"disable_block_device_use": True}, version) == expected


def test_dropped_flushes_are_a_danger_where_they_are_dropped() -> None:
    assert "a power cut loses" in next(dangers(hypervisor_of(GO, "qemu"), CACHE))
    assert not list(dangers(hypervisor_of(GO, "qemu"), {**CACHE, "block_device_cache_set": False}))
    assert not list(dangers(hypervisor_of(GO, "qemu"), {**CACHE, "block_device_cache_noflush": False}))
    assert not list(dangers(hypervisor_of(GO, "clh"), CACHE))
    assert not list(dangers(hypervisor_of(RUST, "qemu"), CACHE))


@pytest.mark.parametrize(
    ("runtime", "hypervisor", "settings", "message"),
    [
        (GO, "qemu", {"block_device_driver": "virtio-mmio"}, r"h\.block_device_driver can't be virtio-mmio with qemu on the go"),
        (GO, "clh", {"shared_fs": "virtio-9p"}, "use one of virtio-fs, virtio-fs-nydus, none"),
        (GO, "fc", {"shared_fs": "virtio-fs"}, "use one of none"),
        (RUST, "qemu", {"shared_fs": "virtio-9p"}, "on the rust runtime"),
        (GO, "qemu", {"block_device_aio": "posix"}, "use one of io_uring, native, threads"),
        (GO, "qemu", {"disable_block_device_use": "yes"}, "has to be of type bool, not 'yes'"),
        (GO, "qemu", {"block_device_logical_sector_size": True}, "has to be of type int, not True"),
        (GO, "qemu", {"block_device_logical_sector_size": 256}, "0 or a power of two from 512 to 65536, not 256"),
        (GO, "qemu", {"block_device_physical_sector_size": 1000}, "power of two"),
        (GO, "qemu", {"block_device_physical_sector_size": 131072}, "power of two"),
        (
            GO,
            "qemu",
            {"block_device_logical_sector_size": 4096, "block_device_physical_sector_size": 512},
            "can't be greater than block_device_physical_sector_size",
        ),
        (GO, "qemu", {"indep_iothreads": -1}, "0 or more"),
        (RUST, "dragonball", {"enable_iothreads": True}, "can't be true with dragonball"),
        (RUST, "openvmm", {"block_device_driver": "virtio-pmem"}, "use one of virtio-blk-pci"),
    ],
)
def test_values_that_are_refused(runtime: str, hypervisor: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings("h", hypervisor_of(runtime, hypervisor), settings)


@pytest.mark.parametrize("size", [0, 512, 1024, 4096, 65536])
def test_powers_of_two_and_zero_are_accepted_as_sector_size(size: int) -> None:
    """That is, no ValueError is raised."""
    check_settings("h", hypervisor_of(GO, "qemu"), {"block_device_logical_sector_size": size})


@pytest.mark.parametrize(
    ("hypervisor", "version", "expected"),
    [("qemu", "3.25.0", False), ("qemu", "3.26.0", True), ("clh", "4.0.0", True), ("qemu", None, True), ("fc", "4.0.0", None)],
)
def test_what_the_go_runtime_is_released_with(hypervisor: str, version: str | None, expected: bool | None) -> None:
    settings = vendor_settings(hypervisor_of(GO, hypervisor), Version.parse(version) if version else None)
    assert settings.get("disable_block_device_use") is expected


def test_the_tables_name_what_there_is_and_their_sources() -> None:
    for row in UNREAD:
        assert row.source
        assert row.reason
        assert set(row.settings) <= set(SETTINGS)
        assert not row.while_setting or row.while_setting in SETTINGS
        for name in row.hypervisors:
            hypervisor_of(row.runtime, name)
    assert all(one.source and one.drivers and one.shared_fs for one in HYPERVISORS)


def test_versions() -> None:
    assert parse_version("version", "3.26.0\n") == Version(3, 26, 0)
    with pytest.raises(ValueError, match=r"version has to be a version of Kata Containers, such as 3\.26\.0, not 'latest'"):
        parse_version("version", "latest")
