# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The obstacles to starting Kata's guests on a machine, and the kernel modules that guests need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

KVM = "/dev/kvm"
# The kernel module that makes each device.
DEVICE_MODULES = {"/dev/vhost-net": "vhost_net", "/dev/vhost-vsock": "vhost_vsock"}
MODULES = ("vhost", *DEVICE_MODULES.values())
# CPU flags of x86 that say so; other architectures have no flag for it.
_VIRTUALISATION = {"vmx": "kvm_intel", "svm": "kvm_amd"}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_X86 = ("x86_64", "i386", "i686")


@dataclass(frozen=True)
class Machine:
    """The state of a machine: ``devices`` by path; ``loaded`` and ``loadable`` are names of kernel modules, with underscores."""

    architecture: str
    kernel: str
    cpu_flags: frozenset[str] = frozenset()
    devices: Mapping[str, bool] = field(default_factory=dict)
    loaded: frozenset[str] = frozenset()
    loadable: frozenset[str] = frozenset()

    @property
    def is_guest(self) -> bool:
        return "hypervisor" in self.cpu_flags


def parse_modules(names: Sequence[str]) -> list[str]:
    """Return the names of kernel modules as the kernel has them. Raises ValueError for what is none."""
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"modules must be a list of names of kernel modules, such as vhost_net, not {name!r}")
    return [module_name(name) for name in names]


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags of the first CPU in /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _colon, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def parse_module_paths(text: str) -> frozenset[str]:
    """Return the names of modules from lines that begin with their paths, as in modules.dep and modules.builtin."""
    paths = (line.split(":")[0].strip() for line in text.splitlines())
    return frozenset(module_name(path.rpartition("/")[2].partition(".ko")[0]) for path in paths if ".ko" in path)


def module_name(name: str) -> str:
    """Return a module's name as the kernel has it; files and options may have dashes."""
    return name.replace("-", "_")


def to_load(machine: Machine, wanted: Sequence[str]) -> list[str]:
    """Return the modules that are neither loaded nor built in, and that the kernel has."""
    flags = [module for flag, module in _VIRTUALISATION.items() if flag in machine.cpu_flags]
    kvm = flags if not machine.devices.get(KVM) else []
    return [name for name in (*kvm, *wanted) if name not in machine.loaded and name in machine.loadable]


def problems(machine: Machine, wanted: Sequence[str]) -> Iterator[str]:
    """Yield one sentence for each obstacle to starting guests, with the remedy."""
    yield from _kvm_problem(machine)
    devices = {device: module for device, module in DEVICE_MODULES.items() if not machine.devices.get(device)}
    for device, module in devices.items():
        if module in machine.loaded:
            yield f"the kernel module {module} is loaded, but there is no {device}: create the device, or correct udev's rules"
    for name in wanted:
        if name not in machine.loaded and name not in machine.loadable and machine.devices.get(_device_of(name)) is not True:
            yield f"kernel {machine.kernel} has no module {name}: install the kernel's package of modules, or another kernel"


def _device_of(module: str) -> str:
    return next((device for device, name in DEVICE_MODULES.items() if name == module), "")


def _kvm_problem(machine: Machine) -> Iterator[str]:
    modules_of = [module for flag, module in _VIRTUALISATION.items() if flag in machine.cpu_flags]
    if machine.architecture in _X86 and not modules_of:
        if machine.is_guest:
            yield (
                "this machine is a guest, and its CPU has neither vmx nor svm: enable nested virtualisation in the hypervisor "
                "below, or use another machine"
            )
        else:
            yield "the CPU has neither vmx nor svm: enable virtualisation in the firmware, or use another machine"
    elif not machine.devices.get(KVM) and not (machine.loadable - machine.loaded).intersection(modules_of):
        name = " or ".join(modules_of) or "kvm"
        yield f"there is no {KVM}: read the kernel's messages about {name} (dmesg), and enable virtualisation in the firmware"
