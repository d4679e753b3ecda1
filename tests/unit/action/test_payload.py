# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python's garbage collection is off while Ansible builds the payload of a module with an action."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.slipway.node.plugins.plugin_utils.payload import without_garbage_collection

ACTIONS = sorted(path.stem for path in (Path(__file__).parents[3] / "plugins" / "action").glob("*.py"))


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_builds_its_payload_without_garbage_collection(name: str) -> None:
    task = SimpleNamespace(args={}, async_val=0, environment=None, check_mode=False, action=f"slipway.node.{name}")
    loader = DataLoader()
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"), has_native_async=False)
    module = importlib.import_module(f"ansible_collections.slipway.node.plugins.action.{name}")
    action = module.ActionModule(task, connection, SimpleNamespace(), loader, Templar(loader=loader), None)
    enabled = []

    def execute(**_: Any) -> dict[str, Any]:
        enabled.append(gc.isenabled())
        return {"changed": False, "parts": []}

    action._execute_module = execute
    action._remove_tmp_path = lambda *_: None
    assert action.run(task_vars={})["changed"] is False
    assert enabled == [False]
    assert gc.isenabled()


def test_garbage_collection_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="cause"), without_garbage_collection():
        raise ValueError("cause")
    assert gc.isenabled()


def test_garbage_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_of_the_payload_is_not_searched_later() -> None:
    frozen = gc.get_freeze_count()
    try:
        with without_garbage_collection():
            garbage: list[list[Any]] = [[] for _ in range(1000)]
            for one in garbage:
                one.append(one)
        assert gc.get_freeze_count() >= frozen + 1000
    finally:
        gc.unfreeze()
