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
# These read variables whose names are in no template of the inventory.
_DYNAMIC = re.compile(r"\b(?:lookup|query|q)\(\s*['\"](?:ansible\.builtin\.)?(?:template|vars|varnames)['\"]|\bvars\s*[\[.]")

# Not read: a run over many hosts would template the variables of every host for every host.
_MAGIC = frozenset({"hostvars", "vars", "groups"})


def lacks_facts(names: Iterable[str], variables: Mapping[str, Any]) -> bool:
    """Return whether one of these variables can have another value once facts are gathered.

    The values are as the inventory has them, with their templates.
    """
    if all(fact in (variables.get("ansible_facts") or {}) for fact in _KNOWN):
        return False
    for text in _templates(names, variables):
        words = _IDENTIFIER.findall(text)
        unknown = any(word == "ansible_facts" or (word.startswith("ansible_") and word not in variables) for word in words)
        if unknown or _DYNAMIC.search(text):
            return True
    return False


def uses(names: Iterable[str], variables: Mapping[str, Any], wanted: Iterable[str]) -> bool:
    """Return whether a template of one of these variables uses one of the wanted names, directly or through others."""
    sought = frozenset(wanted)
    return any(not sought.isdisjoint(_IDENTIFIER.findall(text)) for text in _templates(names, variables))


def _templates(names: Iterable[str], variables: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over the templates of these variables, and of the variables that they use."""
    waiting, seen = [name for name in names if name in variables], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in _texts(variables[name]):
            if "{{" in text or "{%" in text:
                yield text
                waiting += [word for word in _IDENTIFIER.findall(text) if word in variables and word not in _MAGIC]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)
