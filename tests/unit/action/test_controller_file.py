# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions fit their modules. tests/integration/test_controller_file.py runs them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGINS = "ansible_collections.slipway.node.plugins"
FILES = sorted((Path(__file__).parents[3] / "plugins" / "action").glob("*.py"))
ACTIONS = [path.stem for path in FILES if "ControllerFileAction" in path.read_text()]


def documentation(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)
    return found


def test_there_are_actions() -> None:
    assert ACTIONS == ["containerd_image", "release_install"]


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_sends_an_option_of_its_module(name: str) -> None:
    option = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule.option
    described = documentation(name)
    assert "O(remote_src)" in str(described["options"][option]["description"])
    assert described["options"]["remote_src"]["type"] == "bool"
    assert described["options"]["remote_src"]["default"] is False


@pytest.mark.parametrize("name", ACTIONS)
def test_a_module_says_that_it_has_an_action(name: str) -> None:
    attributes = documentation(name)["attributes"]
    assert (attributes["action"]["support"], attributes["async"]["support"]) == ("full", "partial")
