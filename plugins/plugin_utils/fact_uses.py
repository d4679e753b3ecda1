# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether variables of an inventory depend on facts, which the roles gather before they use them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What the roles need of the facts: they gather some unless these are known.
_KNOWN = ("os_family", "architecture")
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*")


def lacks_facts(names: Iterable[str], variables: Mapping[str, Any]) -> bool:
    """Return whether one of these variables can have another value once facts are gathered.

    The values are as the inventory has them, with their templates.
    """
    if all(fact in (variables.get("ansible_facts") or {}) for fact in _KNOWN):
        return False
    waiting, seen = [name for name in names if name in variables], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        used = {word for text in _texts(variables[name]) if "{{" in text or "{%" in text for word in _IDENTIFIER.findall(text)}
        if any(word == "ansible_facts" or (word.startswith("ansible_") and word not in variables) for word in used):
            return True
        waiting += [word for word in used if word in variables]
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)
