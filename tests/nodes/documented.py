# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented results of the modules."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

# Keys of a result that ansible-core sets or reads itself.
RESERVED = {
    *("add_group", "add_host", "ansible_facts", "ansible_job_id", "async_result", "attempts", "censored", "changed", "cmd"),
    *("delta", "deprecations", "diff", "end", "exception", "failed", "failed_when_result", "false_condition", "finished"),
    *("invocation", "item", "module_stderr", "module_stdout", "msg", "rc", "results", "retries", "skip_reason", "skipped"),
    *("skipped_reason", "start", "started", "stderr", "stderr_lines", "stdout", "stdout_lines", "unreachable", "warnings"),
}
# Those that it adds to a result with a ``path``.
OF_A_PATH = {"gid", "group", "mode", "owner", "secontext", "size", "state", "uid"}


def returned(module: str) -> dict[str, Any]:
    """The values that a module returns, as its documentation describes them."""
    code = importlib.import_module(f"ansible_collections.slipway.node.plugins.modules.{module}")
    values: dict[str, Any] = yaml.safe_load(code.RETURN)
    return values


def keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every documented key with the path that leads to it, such as ``("name", "images[].name")``."""
    for key, value in values.items():
        yield key, f"{prefix}{key}"
        inner = f"{prefix}{key}[]." if value["type"] == "list" else f"{prefix}{key}."
        yield from keys(value.get("contains", {}), inner)


def undocumented(module: str, result: Mapping[str, Any]) -> list[str]:
    """The keys of a module's result that its documentation doesn't have; none if the module failed."""
    if result.get("failed"):
        return []
    added = RESERVED | (OF_A_PATH if "path" in result else set())
    own = {key: value for key, value in result.items() if key not in added and not key.startswith("_ansible_")}
    return sorted(set(_undocumented(returned(module), own, "")))


def check_documented(module: str, result: Mapping[str, Any]) -> None:
    """Raises AssertionError that names the keys of a module's result that its documentation doesn't have."""
    names = undocumented(module, result)
    assert not names, f"{module} returns what it doesn't document: {', '.join(names)}"


def _undocumented(values: Mapping[str, Any], found: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in found.items():
        if key not in values:
            yield f"{prefix}{key}"
            continue
        contains = values[key].get("contains")
        elements = value if isinstance(value, list) else [value]
        for element in elements if contains else ():
            if isinstance(element, dict):
                yield from _undocumented(contains, element, f"{prefix}{key}.")
