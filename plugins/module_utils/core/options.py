# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single option values. Each names the option in its ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.tree import nanoseconds

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,75}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def absolute_path(option: str, value: str) -> str:
    """Return the path. Raises ValueError that names the option unless it is absolute, normal and printable."""
    if _CONTROL.search(value):
        raise ValueError(f"{option} holds a control character: give a plain absolute path")
    parts = value.split("/")
    if not value.startswith("/") or ".." in parts:
        raise ValueError(f"{option} has to be an absolute path without '..', not {value!r}")
    return value


def absolute_paths(option: str, value: str) -> str:
    """Return paths that are joined by colons, each checked as ``absolute_path`` does."""
    for part in value.split(":"):
        absolute_path(option, part)
    return value


def plain_name(option: str, value: str) -> str:
    """Return the name. Raises ValueError that names the option unless it is letters, digits, '.', '_' and '-'."""
    if not _NAME.match(value):
        raise ValueError(
            f"{option} has to be a name of at most 76 letters, digits, '.', '_' and '-', "
            f"starting with a letter or digit, not {value!r}"
        )
    return value


def one_line(option: str, value: str) -> str:
    """Return the text. Raises ValueError that names the option if it is empty or has control characters."""
    if not value or _CONTROL.search(value):
        raise ValueError(f"{option} has to be one line of text, not {value!r}")
    return value


def duration(option: str, value: str) -> str:
    """Return the text. Raises ValueError that names the option unless it is a Go duration with units."""
    if nanoseconds(value) is None:
        raise ValueError(f"{option} has to be a duration with units, such as 90s, 5m or 1h30m, not {value!r}")
    return value


def at_least(least: int) -> Callable[[str, Any], Any]:
    """Make a check that raises ValueError, naming the option, for smaller numbers."""

    def check(option: str, value: int) -> int:
        if value < least:
            raise ValueError(f"{option} has to be {least} or more")
        return value

    return check


_UNIT = re.compile(r"^[A-Za-z0-9:_.@-]{1,240}\Z")


def unit_name(name: str) -> str:
    """Return a service's full name. Raises ValueError that names the option."""
    if not _UNIT.match(name) or name.startswith("-"):
        raise ValueError(f"unit has to be the name of a systemd service, not {name!r}")
    return name if name.endswith(".service") else f"{name}.service"
