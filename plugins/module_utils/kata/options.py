# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kata's settings of block devices: the values that each hypervisor accepts, and the settings that it never reads.

The sources named are those of Kata Containers, up to 4.1.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version

GO, RUST = "go", "rust"
RUNTIMES = (GO, RUST)
CONFIG_GO = "src/runtime/pkg/katautils/config.go"
KATA_TYPES = "src/libs/kata-types/src/config/hypervisor"


@dataclass(frozen=True)
class Hypervisor:
    """One hypervisor as one runtime supports it.

    ``sections`` are its names in the configuration file. The first of ``shared_fs`` is what it uses where the key is absent.
    """

    runtime: str
    name: str
    sections: tuple[str, ...]
    drivers: tuple[str, ...]
    shared_fs: tuple[str, ...]
    source: str


HYPERVISORS: tuple[Hypervisor, ...] = (
    Hypervisor(
        GO,
        "qemu",
        ("qemu",),
        ("virtio-scsi", "virtio-blk", "virtio-blk-ccw"),
        ("virtio-fs", "virtio-9p", "virtio-fs-nydus", "none"),
        CONFIG_GO,
    ),
    Hypervisor(
        GO, "clh", ("clh",), ("virtio-blk",), ("virtio-fs", "virtio-fs-nydus", "none"), "src/runtime/virtcontainers/clh.go"
    ),
    Hypervisor(GO, "fc", ("firecracker",), ("virtio-mmio",), ("none",), CONFIG_GO),
    Hypervisor(GO, "stratovirt", ("stratovirt",), ("virtio-mmio",), ("virtio-fs", "virtio-fs-nydus", "none"), CONFIG_GO),
    Hypervisor(
        RUST,
        "qemu",
        ("qemu",),
        ("virtio-scsi", "virtio-blk-pci", "virtio-blk-ccw"),
        ("virtio-fs", "virtio-fs-nydus", "none"),
        f"{KATA_TYPES}/qemu.rs",
    ),
    Hypervisor(
        RUST,
        "clh",
        ("clh", "cloud-hypervisor"),
        ("virtio-blk-pci",),
        ("virtio-fs", "virtio-fs-nydus", "none"),
        f"{KATA_TYPES}/ch.rs",
    ),
    Hypervisor(RUST, "fc", ("firecracker",), ("virtio-blk-mmio",), ("none",), f"{KATA_TYPES}/firecracker.rs"),
    Hypervisor(
        RUST,
        "dragonball",
        ("dragonball",),
        ("virtio-blk-pci", "virtio-blk-mmio", "virtio-pmem"),
        ("virtio-fs", "inline-virtio-fs", "none"),
        f"{KATA_TYPES}/dragonball.rs",
    ),
    Hypervisor(
        RUST,
        "openvmm",
        ("openvmm",),
        ("virtio-blk-pci",),
        ("virtio-fs", "virtio-fs-nydus", "none"),
        "src/runtime-rs/crates/hypervisor/src/openvmm/inner_device.rs",
    ),
)
_BY_NAME = {(one.runtime, one.name): one for one in HYPERVISORS}
HYPERVISOR_NAMES = tuple(dict.fromkeys(one.name for one in HYPERVISORS))

# The settings that are options of their own, with the type of each.
SETTINGS: dict[str, type] = {
    "disable_block_device_use": bool,
    "block_device_driver": str,
    "block_device_aio": str,
    "block_device_cache_set": bool,
    "block_device_cache_direct": bool,
    "block_device_cache_noflush": bool,
    "block_device_logical_sector_size": int,
    "block_device_physical_sector_size": int,
    "enable_iothreads": bool,
    "indep_iothreads": int,
    "shared_fs": str,
}
AIO = ("io_uring", "native", "threads")
SECTOR_SIZES = ("block_device_logical_sector_size", "block_device_physical_sector_size")
# Keys that every version of the Rust runtime with drop-ins knows; of others the vendor's file has to tell.
ALWAYS_KNOWN = frozenset(
    {
        "disable_block_device_use",
        "block_device_driver",
        "block_device_cache_set",
        "block_device_cache_direct",
        "block_device_cache_noflush",
        "enable_iothreads",
        "shared_fs",
    }
)
# Until this version, the Go runtime's files as released say false (Kata 3.26.0, GHSA-5fc8-gg7w-3g5c).
SAFE_DEFAULT_SINCE = Version(3, 26, 0)


def hypervisor_of(runtime: str, name: str) -> Hypervisor:
    """Return the hypervisor of a name. Raises ValueError if the runtime doesn't run it."""
    found = _BY_NAME.get((runtime, name))
    if found is None:
        names = ", ".join(one.name for one in HYPERVISORS if one.runtime == runtime)
        raise ValueError(f"the {runtime} runtime doesn't run {name}: use one of {names}")
    return found


def is_of(kind: type, value: Any) -> bool:
    """Return whether a value is of a setting's type; true and false are no numbers here."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_settings(option: str, hypervisor: Hypervisor, settings: Mapping[str, Any]) -> None:
    """Raise ValueError that names the option, below ``option``, whose value this hypervisor doesn't take."""
    choices = {"block_device_driver": hypervisor.drivers, "block_device_aio": AIO, "shared_fs": hypervisor.shared_fs}
    for name, value in settings.items():
        kind = SETTINGS[name]
        if not is_of(kind, value):
            raise ValueError(f"{option}.{name} has to be of type {kind.__name__}, not {value!r}")
        if name in choices and value not in choices[name]:
            raise ValueError(
                f"{option}.{name} can't be {value} with {hypervisor.name} on the {hypervisor.runtime} runtime: "
                f"use one of {', '.join(choices[name])}"
            )
    for name in SECTOR_SIZES:
        _check_sector_size(f"{option}.{name}", settings.get(name, 0))
    logical, physical = (settings.get(name, 0) for name in SECTOR_SIZES)
    if logical and physical and logical > physical:
        raise ValueError(f"{option}.{SECTOR_SIZES[0]} can't be greater than {SECTOR_SIZES[1]}")
    if settings.get("indep_iothreads", 0) < 0:
        raise ValueError(f"{option}.indep_iothreads has to be 0 or more")
    if hypervisor.name == "dragonball" and settings.get("enable_iothreads"):
        raise ValueError(f"{option}.enable_iothreads can't be true with dragonball, which doesn't start then")


def _check_sector_size(option: str, size: int) -> None:
    if size and not (512 <= size <= 65536 and size & (size - 1) == 0):
        raise ValueError(f"{option} has to be 0 or a power of two from 512 to 65536, not {size}")


@dataclass(frozen=True)
class Unread:
    """Settings without effect: on these hypervisors, from that version, while another setting has one of these values."""

    settings: tuple[str, ...]
    runtime: str
    hypervisors: tuple[str, ...]
    reason: str
    source: str
    since: Version | None = None
    while_setting: str = ""
    while_values: tuple[Any, ...] = ()


_CACHE = ("block_device_cache_set", "block_device_cache_direct", "block_device_cache_noflush")
_OTHERS_GO = ("clh", "fc", "stratovirt")
_OTHERS_RUST = ("clh", "fc", "dragonball", "openvmm")
_ALL_RUST = ("qemu", *_OTHERS_RUST)

UNREAD: tuple[Unread, ...] = (
    Unread(("disable_block_device_use",), GO, ("fc",), "Firecracker always gets block devices", CONFIG_GO),
    Unread(
        ("disable_block_device_use",),
        RUST,
        _ALL_RUST,
        "the setting was removed, and block devices are always used",
        "kata-containers PR 13682",
        since=Version(4, 2, 0),
    ),
    Unread(("block_device_aio",), GO, _OTHERS_GO, "only qemu has it", CONFIG_GO),
    Unread(("block_device_aio",), RUST, _OTHERS_RUST, "only qemu has it", f"{KATA_TYPES}/mod.rs"),
    Unread(_CACHE, GO, ("fc", "stratovirt"), "this hypervisor never reads it", CONFIG_GO),
    Unread(("block_device_cache_noflush",), GO, ("clh",), "this hypervisor never reads it", CONFIG_GO),
    Unread(
        ("block_device_cache_direct", "block_device_cache_noflush"),
        GO,
        ("qemu",),
        "it is read only with block_device_cache_set",
        "src/runtime/virtcontainers/qemu.go",
        while_setting="block_device_cache_set",
        while_values=(False, None),
    ),
    Unread(
        ("block_device_cache_direct",),
        GO,
        ("clh",),
        "it is read only with block_device_cache_set",
        "src/runtime/virtcontainers/clh.go",
        while_setting="block_device_cache_set",
        while_values=(False, None),
    ),
    Unread(
        ("block_device_cache_set", "block_device_cache_noflush"),
        RUST,
        _ALL_RUST,
        "the Rust runtime reads block_device_cache_direct alone",
        "src/runtime-rs/crates/hypervisor",
    ),
    Unread(
        SECTOR_SIZES,
        GO,
        ("qemu",),
        "it has no effect with virtio-scsi",
        "kata-containers PR 12683",
        while_setting="block_device_driver",
        while_values=("virtio-scsi", None),
    ),
    Unread(SECTOR_SIZES, GO, _OTHERS_GO, "only qemu has it", "kata-containers PR 12683"),
    Unread(
        ("enable_iothreads",),
        GO,
        ("qemu",),
        "it is for virtio-scsi alone",
        "src/runtime/config/configuration-qemu.toml.in",
        while_setting="block_device_driver",
        while_values=("virtio-blk", "virtio-blk-ccw"),
    ),
    Unread(
        ("enable_iothreads",),
        RUST,
        ("qemu",),
        "it is for virtio-scsi alone",
        "kata-containers PR 10420",
        while_setting="block_device_driver",
        while_values=("virtio-blk-pci", "virtio-blk-ccw"),
    ),
    Unread(("enable_iothreads",), GO, _OTHERS_GO, "only qemu has it", CONFIG_GO),
    Unread(("enable_iothreads",), RUST, ("clh", "fc", "openvmm"), "only qemu has it", "src/runtime-rs/crates/hypervisor"),
    Unread(
        ("block_device_cache_direct", *SECTOR_SIZES),
        RUST,
        ("openvmm",),
        "this hypervisor never reads it",
        "src/runtime-rs/crates/hypervisor/src/openvmm/inner_device.rs",
    ),
    Unread(("indep_iothreads",), GO, _OTHERS_GO, "only qemu has it", CONFIG_GO),
)


def unread(
    hypervisor: Hypervisor, version: Version | None, asked: Mapping[str, Any], effective: Mapping[str, Any]
) -> Iterator[str]:
    """Return a sentence for each setting in ``asked`` that has no effect beside the ``effective`` ones, in the table's order."""
    for row in UNREAD:
        if row.runtime != hypervisor.runtime or hypervisor.name not in row.hypervisors:
            continue
        if row.since is not None and (version is None or version < row.since):
            continue
        if row.while_setting and effective.get(row.while_setting) not in row.while_values:
            continue
        for name in row.settings:
            if name in asked:
                yield f"{name} has no effect: {row.reason} ({row.source})"


def dangers(hypervisor: Hypervisor, effective: Mapping[str, Any]) -> Iterator[str]:
    """Return a sentence for each effective setting that loses data."""
    heard = hypervisor.runtime == GO and hypervisor.name == "qemu" and effective.get("block_device_cache_set")
    if heard and effective.get("block_device_cache_noflush"):
        yield "block_device_cache_noflush is true: the guest's flushes are dropped, and a power cut loses what it has synced"


def vendor_settings(hypervisor: Hypervisor, version: Version | None) -> dict[str, Any]:
    """Return the settings in the files as released, as far as they decide anything; for predicting where there is no file yet."""
    settings: dict[str, Any] = {"block_device_driver": hypervisor.drivers[0], "shared_fs": hypervisor.shared_fs[0]}
    if hypervisor.runtime == GO and hypervisor.name != "fc":
        settings["disable_block_device_use"] = version is None or version >= SAFE_DEFAULT_SINCE
    return settings


def parse_version(option: str, text: str) -> Version:
    """Parse a version of Kata. Raises ValueError that names the option."""
    try:
        return Version.parse(text)
    except ValueError as error:
        raise ValueError(f"{option} has to be a version of Kata Containers, such as 3.26.0, not {text.strip()!r}") from error
