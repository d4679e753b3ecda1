# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stages that roles do with Ansible's own modules: requirements, packages, files. Each check returns the reason for work."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming, read_bytes

# The role node_spec has the same names in node_spec_architecture.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_APT_BINDINGS = "/usr/lib/python3/dist-packages/apt"


def release_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of release_install for this node. Raises ValueError if there is no release for it."""
    machine = os.uname().machine
    architecture, release = _ARCHITECTURES.get(machine, machine), arguments["release"]
    source = arguments["releases"].get(architecture) or {}
    if not (source.get("src") and source.get("sha256") and release["version"]):
        raise ValueError(f"the inventory has no release of {release['name']} for {architecture}")
    return {**release, "src": source["src"], "sha256": source["sha256"]}


def _requirements(module: AnsibleModule, _arguments: Mapping[str, Any]) -> str:
    """Return the requirement that is missing. The role bootstrap searches the Python that runs this module, too."""
    if find_spec("tomlkit") is None:
        return "tomlkit is missing"
    if Runner(module).find("apt-get") is not None and not os.path.isdir(_APT_BINDINGS):
        return "python3-apt is missing"
    return ""


def _packages(module: AnsibleModule, arguments: Mapping[str, Any]) -> str:
    """Return why packages have to be installed, as the role containerd does on Debian. Other package managers aren't asked."""
    runner = Runner(module)
    if not os.path.exists("/etc/debian_version") or runner.find("dpkg-query") is None:
        return "only the package manager of the distribution knows"
    names = arguments["names"]
    found = runner.try_run("dpkg-query", "--show", "--showformat=${db:Status-Status}\n", *names)
    if found.code != 0 or set(found.stdout.splitlines()) != {"installed"}:
        return f"one of {', '.join(names)} is not installed"
    return ""


def _files(_module: AnsibleModule, arguments: Mapping[str, Any]) -> str:
    for file in arguments["files"]:
        reason = _differs(file["path"], file.get("content"), file["mode"])
        if reason:
            return reason
    for path in arguments.get("unwanted", ()):
        if arguments["mark"].encode() in (read_bytes(path) or b""):
            return f"{path} is no longer wanted"
    wanted = arguments.get("filesystem")
    if wanted is not None:
        names = (read_bytes("/proc/filesystems") or b"").decode().split()
        if wanted not in names:
            return f"the kernel module of {wanted} isn't loaded"
    return ""


def _differs(path: str, content: str | None, mode: int) -> str:
    """Return how a file differs, or a directory if ``content`` is None. Links are not followed, as in the roles."""
    try:
        with naming("read", path):
            found = os.lstat(path)
    except HostError:
        return f"{path} is missing"
    if not (stat.S_ISDIR if content is None else stat.S_ISREG)(found.st_mode):
        return f"{path} is of another type"
    if stat.S_IMODE(found.st_mode) != mode:
        return f"{path} has another mode"
    return "" if content is None or read_bytes(path) == content.encode() else f"{path} differs"


def _program(_module: AnsibleModule, arguments: Mapping[str, Any]) -> str:
    return "" if os.path.exists(arguments["path"]) else f"{arguments['path']} is missing"


CHECKS: Mapping[str, Callable[[AnsibleModule, Mapping[str, Any]], str]] = {
    "requirements": _requirements,
    "packages": _packages,
    "files": _files,
    "program": _program,
}
