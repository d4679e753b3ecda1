# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.kata.hardware import (
    MODULES,
    Machine,
    parse_cpu_flags,
    parse_module_paths,
    parse_modules,
    problems,
    to_load,
)

ALL = {"/dev/kvm": True, "/dev/vhost-net": True, "/dev/vhost-vsock": True}
NONE = dict.fromkeys(ALL, False)
LOADABLE = frozenset({"kvm_intel", "kvm_amd", "vhost", "vhost_net", "vhost_vsock", "dm_thin_pool"})


def machine(**changes: Any) -> Machine:
    usual: dict[str, Any] = {
        "architecture": "x86_64",
        "kernel": "6.12.1",
        "cpu_flags": frozenset({"vmx"}),
        "devices": ALL,
        "loaded": LOADABLE,
        "loadable": LOADABLE,
    }
    return Machine(**{**usual, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"devices": NONE, "loaded": frozenset()}, []),
        ({"architecture": "aarch64", "cpu_flags": frozenset({"fp"})}, []),
        ({"cpu_flags": frozenset()}, ["the CPU has neither vmx nor svm: enable virtualisation in the firmware"]),
        ({"cpu_flags": frozenset({"hypervisor"})}, ["this machine is a guest", "enable nested virtualisation"]),
        ({"cpu_flags": frozenset({"hypervisor", "svm"})}, []),
        ({"devices": {**ALL, "/dev/kvm": False}}, ["there is no /dev/kvm", "kvm_intel"]),
        ({"architecture": "aarch64", "cpu_flags": frozenset(), "devices": {**ALL, "/dev/kvm": False}}, ["there is no /dev/kvm"]),
        ({"devices": {**ALL, "/dev/vhost-net": False}}, ["vhost_net is loaded, but there is no /dev/vhost-net"]),
        (
            {"devices": {**ALL, "/dev/vhost-vsock": False}, "loaded": LOADABLE - {"vhost_vsock"}, "loadable": frozenset()},
            ["kernel 6.12.1 has no module vhost_vsock: install"],
        ),
    ],
)
def test_each_thing_that_is_missing_is_one_sentence(changes: dict[str, Any], words: list[str]) -> None:
    found = list(problems(machine(**changes), MODULES))
    assert len(found) == min(len(words), 1)
    assert all(word in found[0] for word in words)


def test_what_is_missing_together_is_named_together() -> None:
    bare = machine(cpu_flags=frozenset(), devices=NONE, loaded=frozenset(), loadable=frozenset())
    assert len(list(problems(bare, [*MODULES, "dm_thin_pool"]))) == 5


def test_only_what_the_kernel_has_and_lacks_is_loaded() -> None:
    assert to_load(machine(), MODULES) == []
    bare = machine(devices=NONE, loaded=frozenset({"vhost"}))
    assert to_load(bare, MODULES) == ["kvm_intel", "vhost_net", "vhost_vsock"]
    assert to_load(machine(devices=NONE, loaded=frozenset(), loadable=frozenset()), MODULES) == []


def test_parsing() -> None:
    assert parse_cpu_flags("processor\t: 0\nflags\t\t: fpu vmx\n\nprocessor\t: 1\nflags: none\n") == {"fpu", "vmx"}
    assert parse_cpu_flags("Features\t: fp asimd\n") == {"fp", "asimd"}
    assert parse_cpu_flags("") == frozenset()
    dependencies = "kernel/drivers/vhost/vhost_net.ko.xz: kernel/drivers/vhost/vhost.ko.xz\nkernel/arch/x86/kvm/kvm-intel.ko:\n"
    assert parse_module_paths(dependencies) == {"vhost_net", "kvm_intel"}
    assert parse_modules(["dm-thin-pool"]) == ["dm_thin_pool"]
    with pytest.raises(ValueError, match="modules must be a list of names"):
        parse_modules(["-r"])
