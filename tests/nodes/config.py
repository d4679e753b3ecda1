# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containerd_config in tests, and check the promises of each run."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SETTINGS_SPEC
from nodes import daemon
from nodes.daemon import CRI, IMAGES
from nodes.node import Node
from nodes.payload import run_module

DURABLE: dict[str, Any] = {"image_pull_sync_fs": True}


def durable(node: Node) -> dict[str, Any]:
    """The same for any node: containerd 1.6 can't pull durably, so that another setting stands for it."""
    return DURABLE if node.line >= (1, 7) else {"max_concurrent_downloads": 6}


def arguments(**options: Any) -> dict[str, Any]:
    """The module's arguments; those that are settings go where the module takes them."""
    settings = {name: value for name, value in options.items() if name in SETTINGS_SPEC}
    return {"settings": settings, **{name: value for name, value in options.items() if name not in settings}}


def configure(node: Node, *, check: bool = False, **options: Any) -> dict[str, Any]:
    result = run_module(node, "containerd_config", arguments(**options), check=check)
    assert "Traceback" not in str(result), result
    return result


def refused(node: Node, *words: str, **options: Any) -> str:
    """The module fails with one sentence that has these words, predicts that in check mode, and touches nothing."""
    before, pid = daemon.etc_hashes(node), daemon.main_pid(node)
    predicted = configure(node, check=True, **options)
    result = configure(node, **options)
    assert result.get("failed") and predicted.get("failed"), result
    assert predicted["msg"] == result["msg"]
    assert all(word in result["msg"] for word in words), result["msg"]
    assert "\n" not in result["msg"].strip()
    assert daemon.etc_hashes(node) == before
    assert daemon.main_pid(node) == pid
    return str(result["msg"])


def pulls_durably(node: Node) -> bool:
    """By the daemon's own dump, and a daemon that is younger than its files."""
    plugin = daemon.dump(node)["plugins"][IMAGES if node.line >= (2,) else CRI]
    return daemon.is_well(node) and plugin.get("image_pull_with_sync_fs") is True


def converges(node: Node, **options: Any) -> dict[str, Any]:
    """Predicted, done, and not done again."""
    predicted = configure(node, check=True, **options)
    done = configure(node, **options)
    assert not done.get("failed"), done
    assert done["changed"] and predicted["changed"]
    assert predicted["diff"] == done["diff"]
    assert predicted["effective"] == done["effective"]
    again = configure(node, **options)
    assert not again.get("failed"), again
    assert not again["changed"], again
    assert not again["restarted"]
    return done
