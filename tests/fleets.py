# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic fleets: the results of node_verify that a run leaves in the variables of many hosts.

The texts are those of the checks. A fleet of one size and one seed is always the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2

from ansible_collections.slipway.node.plugins.module_utils.verify.checks import CHECKS
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import CONFIGURE, REPAIR
from ansible_collections.slipway.node.plugins.plugin_utils.fleet import read_fleet, to_json
from ansible_collections.slipway.node.plugins.plugin_utils.fleet_page import page_of

ROLE = Path(__file__).parents[1] / "roles" / "verify"

STARTED = 1_795_961_000.0
PODS = "the sandbox image is on the node"
VERSIONS = ("2.3.7", "2.3.7", "2.3.7", "2.3.7", "2.3.7", "2.3.7", "1.7.24", "1.7.24", "1.7.24", "2.2.9")
KATA = tuple(check for check in CHECKS if check.startswith("kata_"))
THIN_POOL = tuple(check for check in CHECKS if check.startswith("thin_pool"))
Fault = Callable[[random.Random], tuple[str, Any, Any, str]]


def _low_space(chance: random.Random) -> tuple[str, Any, Any, str]:
    device = f"/dev/nvme{chance.randrange(2)}n1p{chance.randint(1, 3)}"
    found = f"/var/lib/containerd ({device}, ext4): {chance.randint(1, 49) / 10} % free"
    return "warn", "space and inodes, writable", found, "free space on the file system, or enlarge it"


def _unlisted(chance: random.Random) -> tuple[str, Any, Any, str]:
    found = {f"k8s.io/{chance.getrandbits(256):064x}": f"{chance.randint(5, 900)} MiB" for _one in range(chance.randint(1, 3))}
    return "warn", "writable snapshots that belong to a container or to toolbox_snapshots", found, "list them, or remove them"


def _missing_images(chance: random.Random) -> tuple[str, Any, Any, str]:
    images = ["docker.io/library/debian:13", "registry.example/base:2026.11", "registry.example/agent:4"]
    found = dict.fromkeys(chance.sample(images, chance.randint(1, 2)), "missing")
    return "fail", "present, unpacked and mountable", found, CONFIGURE


def _pool(chance: random.Random) -> tuple[str, Any, Any, str]:
    found = f"data {chance.randint(80, 94)} %, metadata {chance.randint(5, 60)} %"
    return "warn", "less than 80 %", found, "extend the pool, or remove images"


def _settings(_chance: random.Random) -> tuple[str, Any, Any, str]:
    key = "plugins.'io.containerd.cri.v1.images'.max_concurrent_downloads"
    return "fail", {key: 6}, {key: 3}, CONFIGURE


def _fixed(status: str, expected: Any, found: Any, remedy: str) -> Fault:
    return lambda _chance: (status, expected, found, remedy)


# By check: how many of a thousand nodes have the fault.
FAULTS: dict[str, tuple[int, Fault]] = {
    "daemon_stable": (
        6,
        lambda chance: (
            "warn",
            "no crashes",
            f"{chance.randint(1, 40)} crashes, none recently",
            "read 'journalctl -u containerd'",
        ),
    ),
    "unit_enabled": (3, _fixed("fail", "enabled", "disabled", "run 'systemctl enable containerd.service'")),
    "restart_pending": (9, _fixed("fail", "started after its files", "changed since: /etc/containerd/config.toml", CONFIGURE)),
    "unknown_keys": (
        4,
        _fixed("warn", "no key is ignored", ["plugins.cri.sandbox"], "correct or remove these keys: the daemon ignores them"),
    ),
    "config_settings": (15, _settings),
    "handler_programs": (
        2,
        _fixed(
            "fail",
            "programs that run",
            {"kata": "containerd-shim-kata-v2 is not on the PATH of the daemon"},
            "install the shim of kata",
        ),
    ),
    "storage_space": (25, _low_space),
    "cgroup_driver": (5, _fixed("fail", "systemd, as the kubelet", {"runc": "cgroupfs"}, CONFIGURE)),
    "sandbox_image": (12, _fixed("warn", PODS, "registry.k8s.io/pause:3.10 is missing", CONFIGURE)),
    "registry_files": (
        3,
        _fixed(
            "warn",
            "files that containerd can read, and no other user",
            ["/etc/containerd/certs.d/registry.example/hosts.toml: every user can read the credentials"],
            "run 'chmod 600' for these files",
        ),
    ),
    "images_present": (14, _missing_images),
    "image_integrity": (
        4,
        _fixed(
            "fail", "files as in the layers", {"registry.example/agent:4": "3 files differ, such as usr/bin/agent: empty"}, REPAIR
        ),
    ),
    "daemon_uuid": (1, _fixed("fail", "readable", "the file is empty", REPAIR)),
    "storage_filesystem": (
        8,
        _fixed("unknown", "keeps flushed data", {"/var/lib/containerd": "nfs4"}, "check that the server keeps flushed data"),
    ),
    "unlisted_snapshots": (30, _unlisted),
    "kata_devices": (
        10,
        _fixed("fail", "/dev/kvm and the vhost devices", "missing: /dev/vhost-vsock", "load the module vhost_vsock"),
    ),
    "thin_pool_space": (120, _pool),
}


def host_variables(count: int, seed: int = 1) -> dict[str, dict[str, Any]]:
    """The variables of ``count`` hosts by name."""
    chance = random.Random(seed)
    return {name: _variables(chance, name) for name in names(count)}


def names(count: int) -> Iterator[str]:
    """Names of hosts in three clusters."""
    for number in range(count):
        yield f"{('worker', 'worker', 'edge')[number % 3]}-{number // 3 + 1:04}.{('ams', 'fra', 'ber')[number % 3]}.example.net"


def _variables(chance: random.Random, name: str) -> dict[str, Any]:
    began = {"__verify_started": STARTED}
    fate = chance.random()
    if fate < 0.003:
        address = f"10.{chance.randrange(4)}.{chance.randrange(256)}.{chance.randrange(256)}"
        reason = f"Failed to connect to the host via ssh: ssh: connect to host {address} port 22: Connection timed out"
        return {**began, "verify_node": {"unreachable": True, "changed": False, "msg": reason}}
    if fate < 0.0035:
        return {**began, "verify_node": {"failed": True, "msg": "sudo: a password is required"}}
    if fate < 0.004:
        return began
    version = chance.choice(VERSIONS)
    checks = [_finding(chance, check, version, fate < 0.008) for check in _checks(chance)]
    return {**began, "verify_node": {"changed": False, "version": version, "checks": checks, "summary": summary(checks)}}


def _checks(chance: random.Random) -> list[str]:
    """The checks that apply to a node."""
    left_out = {"handler_starts", "http_proxy"}
    left_out.update(() if chance.random() < 0.2 else KATA)
    left_out.update(() if chance.random() < 0.1 else THIN_POOL)
    return [check for check in CHECKS if check not in left_out]


def _finding(chance: random.Random, check: str, version: str, stopped: bool) -> dict[str, Any]:
    status, expected, found, remedy = "ok", "as in the inventory", "as in the inventory, and on disk", ""
    if check in FAULTS and chance.random() * 1000 < FAULTS[check][0]:
        status, expected, found, remedy = FAULTS[check][1](chance)
    elif check == "containerd_version" and version.startswith("1.7"):
        found = f"{version}, a line whose upstream support ended in 2026-09"
        status, expected, remedy = "warn", "a supported line of containerd", "upgrade to 2.3, which is supported until 2028-04"
    elif stopped and check == "daemon_running":
        found, remedy = "the unit is failed", f"read 'journalctl -u containerd.service', then {CONFIGURE}"
        status, expected = "fail", "the unit is active and the socket answers"
    elif stopped and check in ("cri_plugin", "snapshotters", "images_present", "restart_pending"):
        status, expected, found, remedy = "unknown", "ok", "the daemon doesn't answer", "start the daemon"
    return {"id": check, "status": status, "expected": expected, "found": found, "remedy": remedy}


def summary(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """What node_verify counts."""
    statuses = [check["status"] for check in checks]
    counts: dict[str, Any] = {status: statuses.count(status) for status in ("fail", "unknown", "warn", "ok")}
    return {**counts, "worst": next(status for status in counts if counts[status])}


def page(variables: dict[str, dict[str, Any]], now: float = STARTED + 754) -> str:
    """fleet.html, as the role's template renders it."""
    style, script = ((ROLE / "files" / name).read_text().rstrip() for name in ("fleet.css", "fleet.js"))
    fleet = read_fleet(variables, list(variables), now)
    report = {"json": to_json(fleet), "page": page_of(fleet, script, style)}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True)  # as Ansible does
    template = environment.get_template("fleet.html.j2")
    return template.render(__verify_report=report, __verify_style=style, __verify_script=script)
