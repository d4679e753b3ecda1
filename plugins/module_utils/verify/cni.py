# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRI reads of the configuration of CNI, and what it refuses: libcni/conf.go, pkg/types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

# The files of CNI that CRI reads: github.com/containerd/go-cni, opts.go.
CNI_SUFFIXES = (".conf", ".conflist", ".json")
# containernetworking pkg/utils, ValidateNetworkName.
_CNI_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def cni_plugins(text: str, *, several: bool, before_2: bool) -> tuple[str, ...]:
    """Return the types of the plugins that a CNI configuration names. Raises ValueError if CRI can't use it.

    ``several``: it is a list of plugins, as in files with the suffix .conflist. Others have one plugin: CNI's libcni/conf.go.
    ``before_2``: containerd 1.x reads it, whose switches can't be texts.
    """
    tree = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(tree, Mapping):
        raise ValueError("it is no object")
    name, plugins = tree.get("name"), tree.get("plugins") if several else [tree]
    if not isinstance(name, str) or not _CNI_NAME.fullmatch(name):
        raise ValueError(
            "it has no name of a network" if name is None else f"it has the name {name!r}, which is none of a network"
        )
    if not isinstance(tree.get("cniVersion", ""), str):
        raise ValueError("its cniVersion is of another type")
    for switch in _CNI_SWITCHES[:1] if before_2 else _CNI_SWITCHES:
        if several and not _is_switch(tree.get(switch, False), before_2=before_2):
            raise ValueError(f"its {switch} is neither true nor false")
    if not isinstance(plugins, list) or not plugins or not all(isinstance(one, Mapping) for one in plugins):
        raise ValueError("it has no list of plugins")
    types: list[str] = []
    for plugin in plugins:
        types += _plugin_types(plugin, "a plugin has no type" if several else "it has no type of a plugin")
    return tuple(dict.fromkeys(types))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_switch(value: object, *, before_2: bool) -> bool:
    if isinstance(value, str) and not before_2:
        return value.lower() in ("true", "false")
    return isinstance(value, bool)


def _plugin_types(plugin: Mapping[str, object], without: str) -> Iterator[str]:
    """Yield the types of a plugin and of its IPAM plugin. Raises ValueError, with the words ``without`` if it has none."""
    for key, is_valid in _CNI_FIELDS.items():
        value = _field(plugin, key)
        if value is not None and not is_valid(value):
            raise ValueError(f"the {key} of a plugin is of another type")
    kind, ipam = _field(plugin, "type"), _field(plugin, "ipam")
    if not kind:
        raise ValueError(without)
    for one in (kind, _field(ipam, "type") if isinstance(ipam, Mapping) else None):
        if "/" in str(one):
            raise ValueError(f"{one} is no name of a plugin")
        if one:
            yield str(one)


def _field(table: Mapping[str, object], key: str) -> object:
    """Return the value that Go's encoding/json decodes for a field: its case doesn't matter, and the last one counts."""
    return next((table[one] for one in reversed(list(table)) if one.lower() == key.lower()), None)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_dns(value: object) -> bool:
    lists = ("nameservers", "search", "options")
    return isinstance(value, Mapping) and all(_field(value, key) is None or isinstance(_field(value, key), list) for key in lists)


# What CNI decodes of each plugin: types.NetConf of its pkg/types.
_CNI_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "cniVersion": _is_text,
    "name": _is_text,
    "type": _is_text,
    "capabilities": lambda value: isinstance(value, Mapping) and all(isinstance(one, bool) for one in value.values()),
    "ipam": lambda value: isinstance(value, Mapping) and isinstance(_field(value, "type") or "", str),
    "dns": _is_dns,
}
# containerd 1.x reads the first one alone.
_CNI_SWITCHES = ("disableCheck", "disableGC", "loadOnlyInlinedPlugins")
