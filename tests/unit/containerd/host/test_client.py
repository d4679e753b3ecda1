# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.module_utils.basic import AnsibleModule
from unit.stand_ins import Module, Programs

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner

DEFAULTS = {name: option.get("default") for name, option in Containerd.OPTIONS.items()}
# Notes each call, and prints the file that is named after its last word.
PROGRAM = """#!/bin/sh
echo "$*" >> {directory}/calls
for word; do :; done
cat {directory}/${{word#--}}
"""


def module(**params: Any) -> AnsibleModule:
    found = Programs()
    found.params = {**DEFAULTS, **params}  # type: ignore[attr-defined]
    return cast("AnsibleModule", found)


@pytest.mark.parametrize("option", ["config_file", "address", "binary"])
@pytest.mark.parametrize("value", ["containerd", "/a/../b", "/a\nb"])
def test_refuses_what_is_no_absolute_path(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} "):
        Containerd.from_module(module(**{option: value}))


def test_refuses_what_is_no_service() -> None:
    with pytest.raises(ValueError, match=r"^unit has to be the name of a systemd service"):
        Containerd.from_module(module(unit="-containerd"))
    assert Containerd.from_module(module(unit="k3s")).unit.name == "k3s.service"


def test_each_thing_is_read_when_it_is_needed_and_once(tmp_path: Path, recorded: Callable[[str, str], str]) -> None:
    program, config = tmp_path / "containerd", tmp_path / "config.toml"
    program.write_text(PROGRAM.format(directory=tmp_path))
    program.chmod(0o755)
    config.write_text("version = 2\n")
    (tmp_path / "version").write_text(recorded("1.7.24", "version.txt"))
    (tmp_path / "dump").write_text(recorded("1.7.24", "node.dump.toml"))
    calls = tmp_path / "calls"
    calls.touch()
    node = Containerd.from_module(module(binary=str(program), config_file=str(config)))
    assert node.installed
    assert calls.read_text() == ""
    for _time in range(2):
        assert str(node.version) == "1.7.24"
        assert node.config.default_snapshotter == "native"
    assert sorted(calls.read_text().splitlines()) == [f"--config {config} config dump", "--version"]


def test_a_node_without_containerd_says_so() -> None:
    node = Containerd(Runner(Programs()), config_file="/none.toml", unit="slipway-none.service", address="/run/none.sock")
    assert not node.installed
    for read in (node.check_installed, lambda: node.version, lambda: node.config, lambda: node.known_plugins):
        with pytest.raises(HostError, match="containerd isn't installed on the node: install it first, or name the program"):
            read()


def test_the_platform_is_the_nodes_own() -> None:
    node = Containerd(Runner(Module()), config_file="/c", unit="c.service", address="/s")
    assert node.platform == {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(os.uname().machine, node.platform)
