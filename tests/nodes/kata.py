# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files as Kata is released with, as far as anything depends on them, and trees that hold them."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path
from typing import Any

RUNTIME_GO = """
[runtime]
enable_debug = false
internetworking_model = "tcfilter"
sandbox_bind_mounts = []
"""
RUNTIME_RUST = """
[runtime]
name = "virt_container"
hypervisor_name = "{section}"
agent_name = "kata"
"""


def vendor_file(runtime: str, hypervisor: str, *, disable: bool = True, comment: str = "") -> str:
    """What a release's file of that name says. ``disable`` is its disable_block_device_use, which not all have."""
    go = runtime == "go"
    section = {"fc": "firecracker"}.get(hypervisor, hypervisor)
    driver = {
        "qemu": "virtio-scsi",
        "clh": "virtio-blk" if go else "virtio-blk-pci",
        "fc": "virtio-mmio" if go else "virtio-blk-mmio",
        "stratovirt": "virtio-mmio",
        "dragonball": "virtio-blk-pci",
        "openvmm": "virtio-blk-pci",
    }[hypervisor]
    lines = [
        f"# {comment or 'as released'}",
        f"[hypervisor.{section}]",
        'kernel = "/opt/kata/share/kata-containers/vmlinux.container"',
    ]
    lines += [
        'image = "/opt/kata/share/kata-containers/kata-containers.img"',
        'enable_annotations = ["enable_iommu", "kernel_params"]',
    ]
    lines += ["default_vcpus = 1", "default_memory = 2048", "#memory_slots = 10", f'block_device_driver = "{driver}"']
    if go and hypervisor != "fc":
        lines += [f"disable_block_device_use = {str(disable).lower()}"]
    if hypervisor != "fc":
        lines += ['shared_fs = "virtio-fs"', 'virtio_fs_extra_args = ["--thread-pool-size=1"]']
    if hypervisor == "qemu":
        lines += ['block_device_aio = "io_uring"', "#block_device_logical_sector_size = 4096", "enable_iothreads = false"]
    text = "\n".join([*lines, "", "[agent.kata]", "kernel_modules = []", "dial_timeout = 45"]) + "\n"
    return text + (RUNTIME_GO if go else RUNTIME_RUST.format(section=section))


class Release:
    """A tree as a release archive has it, below a directory of the test's own."""

    def __init__(self, prefix: Path, version: str) -> None:
        self.prefix = prefix
        self.defaults = prefix / "share" / "defaults" / "kata-containers"
        (self.defaults / "runtime-rs").mkdir(parents=True)
        (prefix / "VERSION").write_text(f"{version}\n")
        for hypervisor in ("qemu", "clh", "fc", "stratovirt"):
            self.path("go", hypervisor).write_text(vendor_file("go", hypervisor))
        for hypervisor in ("qemu", "clh", "fc", "dragonball"):
            self.path("rust", hypervisor).write_text(vendor_file("rust", hypervisor))

    def path(self, runtime: str, hypervisor: str) -> Path:
        if runtime == "go":
            return self.defaults / f"configuration-{hypervisor}.toml"
        return self.defaults / "runtime-rs" / f"configuration-{hypervisor}-runtime-rs.toml"


def archive(path: Path, version: str, *, comment: str = "") -> dict[str, Any]:
    """The role's variables for an archive of that version, packed as the name of its path says (.tar.zst, .tar.xz).

    The programs are real ones of this machine, for its architecture, but none is what its name says: they sleep.
    """
    root = path.parent / path.name.partition(".tar")[0]
    release = Release(root / "opt" / "kata", version)
    for hypervisor in ("qemu", "clh", "fc", "stratovirt"):
        release.path("go", hypervisor).write_text(vendor_file("go", hypervisor, comment=comment or version))
    for program in (
        "bin/containerd-shim-kata-v2",
        "bin/qemu-system-x86_64",
        "bin/kata-runtime",
        "runtime-rs/bin/containerd-shim-kata-v2",
    ):
        place = release.prefix / program
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path("/bin/sleep").read_bytes())
        place.chmod(0o755)
    guest = release.prefix / "share" / "kata-containers"
    guest.mkdir()
    for name in ("vmlinux.container", "kata-containers.img"):
        (guest / name).write_text("no guest starts with it\n")
    packed = path.with_suffix("")
    with tarfile.open(path if path.suffix == ".xz" else packed, "w:xz" if path.suffix == ".xz" else "w") as tar:
        tar.add(root, ".")
    if path.suffix == ".zst":
        subprocess.run(["zstd", "-q", "--rm", str(packed), "-o", str(path)], check=True)
    source = {"src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {"kata_version": version, "kata_releases": {"amd64": source, "arm64": source}}
