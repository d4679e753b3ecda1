# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import Daemon, Plugin
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.unit_status import UnitStatus
from ansible_collections.slipway.node.plugins.module_utils.verify import handler_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import checks_in, run_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation, Finding, NodeState
from ansible_collections.slipway.node.plugins.module_utils.verify.handler_checks import shim_name
from ansible_collections.slipway.node.plugins.module_utils.verify.programs import Program

CHECKS = checks_in(handler_checks)
RUNTIME = "io.containerd.cri.v1.runtime"
SHIM = Program("containerd-shim-runc-v2", "/usr/bin/containerd-shim-runc-v2")
RUNC = Program("runc", "/usr/sbin/runc")
UNIT = UnitStatus(True, "active", "running", 7, 0, "process", "enabled", ("/a.service",), False, "success")
CONTROLLERS = (
    Plugin("io.containerd.podsandbox.controller.v1", "podsandbox", "ok"),
    Plugin("io.containerd.sandbox.controller.v1", "shim", "ok"),
)


def config(**handler: Any) -> EffectiveConfig:
    """A configuration with one handler."""
    runtimes = {"runc": {"runtime_type": "io.containerd.runc.v2", **handler}}
    return EffectiveConfig({"version": 3, "plugins": {RUNTIME: {"containerd": {"runtimes": runtimes}}}})


def state(**changes: Any) -> NodeState:
    options: dict[str, Any] = {
        "config": config(),
        "daemon": Daemon(UNIT, None, CONTROLLERS),
        "programs": {"runc": (SHIM, RUNC)},
        "stream_processor_problems": {},
        **changes,
    }
    return NodeState("/etc/containerd/config.toml", "containerd.service", 2000.0, **options)


def finding(name: str, node: NodeState) -> Finding | None:
    return next(iter(run_checks(node, Expectation(), only=[name])), None)


@pytest.mark.parametrize("name", CHECKS)
def test_all_is_well(name: str) -> None:
    found = finding(name, state())
    assert found is not None and found.status == "ok" and not found.remedy


@pytest.mark.parametrize("name", CHECKS)
def test_a_node_that_could_not_be_read_is_unknown(name: str) -> None:
    found = finding(name, state(config=None, programs=None, stream_processor_problems=None, trouble={"config": "bad TOML"}))
    assert found is not None and (found.status, found.found) == ("unknown", "bad TOML")


def test_a_directory_that_could_not_be_looked_at_is_unknown() -> None:
    found = finding("handler_options", state(trouble={"runtime_root_problems": "no permission"}))
    assert found is not None and (found.status, found.found) == ("unknown", "no permission")


def profile(path: str) -> EffectiveConfig:
    table = {"unset_seccomp_profile": path, "containerd": {"runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2"}}}}
    return EffectiveConfig({"version": 3, "plugins": {"io.containerd.cri.v1.runtime": table}})


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("handler_programs", {"programs": {"runc": (SHIM, Program("runc", None))}}, "runc is not on the PATH"),
    ("handler_programs", {"programs": {"a": (SHIM, RUNC), "b": (Program("s", "/s", "is empty"), RUNC)}}, "{'b': '/s is empty'}"),
    (
        "handler_options",
        {"config": config(options={"SystemdCgroup": "true"})},
        "SystemdCgroup has to be true or false, not 'true'",
    ),
    ("handler_options", {"config": config(options={"systemdcgroup": 1})}, "systemdcgroup has to be true or false"),
    ("handler_options", {"config": config(options={"IoUid": True})}, "IoUid has to be a number"),
    ("handler_options", {"config": config(options={"BinaryName": 5})}, "BinaryName has to be a text"),
    (
        "handler_options",
        {"config": config(runtime_type="io.containerd.kata.v2", options={"ConfigPath": 1})},
        "ConfigPath has to be",
    ),
    ("handler_options", {"config": config(runtime_type="runc")}, "runtime_type runc is no name of a runtime"),
    (
        "handler_options",
        {"config": config(runtime_type="io.containerd.runtime.v1.linux"), "version": Version(2, 0, 0)},
        "was removed in containerd 2.0",
    ),
    ("handler_options", {"config": config(sandboxer="absent")}, "absent is not loaded: the daemon has podsandbox, shim"),
    ("handler_options", {"config": config(sandboxer="shim")}, "the shim of runc starts no sandboxes"),
    ("handler_options", {"config": config(runtime_path="shim")}, "runtime_path shim isn't an absolute path"),
    ("handler_options", {"config": profile("/a.json")}, "no pod starts with '/a.json'"),
    ("handler_options", {"runtime_root_problems": {"runc": "/a can't be made"}}, "Root: /a can't be made"),
    ("handler_options", {"base_spec_problems": {"runc": "base_runtime_spec /a: it mounts no /proc"}}, "it mounts no /proc"),
    ("stream_processors", {"stream_processor_problems": {"x": "/a isn't there"}}, "no image can be unpacked: /a isn't there"),
]


@pytest.mark.parametrize(("name", "changes", "words"), FAULTS)
def test_each_fault_is_found(name: str, changes: dict[str, Any], words: str) -> None:
    found = finding(name, state(**changes))
    assert found is not None and found.status == "fail" and found.remedy
    assert words in str(found.found)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": profile("localhost/own.json")},
        {"config": config(options={"SystemdCgroup": True, "IoUid": 0, "Own": 1})},
        {"config": config(runtime_type="io.containerd.runsc.v1", options={"SystemdCgroup": "other"})},
        {"config": config(sandboxer="shim", runtime_type="io.containerd.runsc.v1")},
        {"config": config(sandboxer="shim", runtime_path="/usr/bin/shim")},
        {"config": config(runtime_type="io.containerd.runtime.v1.linux"), "version": Version(1, 7, 24)},
        {"config": config(runtime_type="runc", runtime_path="/usr/bin/shim")},
        {"config": config(runtime_type="/usr/bin/shim")},
        # A daemon that doesn't answer says nothing of its sandboxers.
        {"config": config(sandboxer="other"), "daemon": Daemon(UNIT, None, None)},
    ],
)
def test_options_that_a_shim_takes_are_ok(changes: dict[str, Any]) -> None:
    found = finding("handler_options", state(**changes))
    assert found is not None and found.status == "ok"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("io.containerd.runc.v2", "containerd-shim-runc-v2"),
        ("io.containerd.kata-qemu.v2", "containerd-shim-kata-qemu-v2"),
        ("/opt/bin/shim", "/opt/bin/shim"),
        ("io.containerd.runtime.v1.linux", ""),
        ("runc", ""),
    ],
)
def test_the_shim_follows_from_the_type(kind: str, name: str) -> None:
    assert shim_name(kind) == name
