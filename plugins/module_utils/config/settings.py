# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requested settings of containerd, validated without the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import RUNTIME_SPEC, SETTINGS, SETTINGS_SPEC
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import BUILTIN_SNAPSHOTTERS, check_table
from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, one_line, plain_name
from ansible_collections.slipway.node.plugins.module_utils.core.toml import value_text
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted, flatten, lookup
from ansible_collections.slipway.node.plugins.module_utils.store import reference

_PROXY_KEYS: dict[str, type] = {"address": str, "platform": str, "exports": dict, "capabilities": list}

# What a value of each of Ansible's types is, for values that no argument spec has converted.
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "str": (str, "a text"),
    "path": (str, "a text"),
    "list": ((list, tuple), "a list"),
    "dict": (Mapping, "a dictionary"),
}


def _check_kinds(params: Mapping[str, Any], spec: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in params.items():
        kind, words = _KINDS[spec[key]["type"]]
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise ValueError(f"{prefix}{key} has to be {words}, not {value!r}")


def _check_proxy(option: str, table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if key not in _PROXY_KEYS:
            raise ValueError(f"{option} has no key {key!r}: its keys are {', '.join(sorted(_PROXY_KEYS))}")
        if not isinstance(value, _PROXY_KEYS[key]):
            raise ValueError(f"{option}.{key} has to be of type {_PROXY_KEYS[key].__name__}, not {value!r}")
    absolute_path(f"{option}.address", table["address"])


@dataclass(frozen=True)
class Runtime:
    """A runtime handler of the CRI plugin."""

    name: str
    type: str = "io.containerd.runc.v2"
    path: str | None = None
    config_path: str | None = None
    snapshotter: str | None = None
    privileged_without_host_devices: bool | None = None
    pod_annotations: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Runtime:
        """Check one entry of the option ``settings.runtimes``. Raises ValueError that names the option."""
        if not isinstance(params, Mapping) or not isinstance(params.get("name"), str):
            raise ValueError(f"runtimes must be a list of dictionaries with a name, not {params!r}")
        name = plain_name("runtimes.name", params["name"])
        option = f"runtimes[{name}]"
        unknown = sorted(set(params) - set(RUNTIME_SPEC))
        if unknown:
            raise ValueError(f"{option} has no key {unknown[0]!r}: its keys are {', '.join(RUNTIME_SPEC)}")
        _check_kinds(params, RUNTIME_SPEC, f"{option}.")
        kind = params.get("type") or "io.containerd.runc.v2"
        one_line(f"{option}.type", kind)
        for key in ("path", "config_path"):
            if params.get(key):
                absolute_path(f"{option}.{key}", params[key])
        if params.get("snapshotter"):
            plain_name(f"{option}.snapshotter", params["snapshotter"])
        _writable(f"{option}.options", params.get("options") or {})
        return cls(
            name=name,
            type=kind,
            path=params.get("path") or None,
            config_path=params.get("config_path") or None,
            snapshotter=params.get("snapshotter") or None,
            privileged_without_host_devices=params.get("privileged_without_host_devices"),
            pod_annotations=tuple(params.get("pod_annotations") or ()),
            options=dict(params.get("options") or {}),
        )


def _writable(option: str, tree: Mapping[str, Any]) -> None:
    for path, value in flatten(tree).items():
        if not all(isinstance(part, str) and part for part in path):
            raise ValueError(f"{option}: the keys of a table have to be texts, not {path!r}")
        where = f"{option}.{dotted(path)}"
        try:
            (where + value_text(value)).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where!r}: it is not text that can be written as UTF-8") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Settings:
    """The settings of a node's containerd. Settings that aren't named stay as they are.

    ``scalars`` are values by the names of the rows in containerd/setting_rows.py. ``snapshotters`` maps a
    snapshotter's name to its table; a name that containerd doesn't know is a proxy plugin and needs
    an ``address``. ``extra_config`` holds raw tables, merged last. ``allow_unverified_pulls``: CRI may pull without asking the
    image verifiers.
    """

    scalars: Mapping[str, Any] = field(default_factory=dict)
    snapshotters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runtimes: tuple[Runtime, ...] = ()
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    allow_unverified_pulls: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Settings:
        """Take the option ``settings`` of a module. Raises ValueError that names the option."""
        unknown = sorted(set(params) - set(SETTINGS_SPEC))
        if unknown:
            raise ValueError(f"there is no setting {unknown[0]!r}: use one of {', '.join(SETTINGS_SPEC)}")
        _check_kinds(params, SETTINGS_SPEC)
        runtimes = tuple(Runtime.from_params(one) for one in params.get("runtimes") or ())
        names = [runtime.name for runtime in runtimes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"runtimes names {twice[0]} twice: list each handler once")
        settings = cls(
            scalars={row.name: params[row.name] for row in SETTINGS if params.get(row.name) not in (None, "")},
            snapshotters={name: {} if table is None else table for name, table in (params.get("snapshotters") or {}).items()},
            runtimes=runtimes,
            extra_config=dict(params.get("extra_config") or {}),
            allow_unverified_pulls=bool(params.get("allow_unverified_pulls")),
        )
        settings._check()
        return settings

    @property
    def snapshotter(self) -> str | None:
        """Return CRI's default snapshotter."""
        return self.scalars.get("snapshotter")

    @property
    def image_pull_sync_fs(self) -> bool | None:
        """Return whether CRI's pulls are flushed to disk."""
        return self.scalars.get("image_pull_sync_fs")

    def with_snapshotter(self, name: str) -> Settings:
        """Return the same settings with another default snapshotter."""
        return replace(self, scalars={**self.scalars, "snapshotter": name})

    def _check(self) -> None:
        for row in SETTINGS:
            if row.check is not None and row.name in self.scalars:
                row.check(row.name, self.scalars[row.name])
        if "sandbox_image" in self.scalars:
            try:
                reference.parse(self.scalars["sandbox_image"])
            except ValueError as error:
                raise ValueError(f"sandbox_image: {error}") from error
        self._check_snapshotters()
        _writable("extra_config", self.extra_config)
        for key in ("version", "imports"):
            if key in self.extra_config:
                raise ValueError(f"extra_config can't hold {key!r}: the module keeps that key itself")

    def _check_snapshotters(self) -> None:
        for name, table in self.snapshotters.items():
            option = f"snapshotters.{plain_name('snapshotters', name)}"
            if not isinstance(table, Mapping):
                raise ValueError(f"{option} has to be a dictionary, not {table!r}")
            if name in BUILTIN_SNAPSHOTTERS:
                check_table(option, name, table)
            elif "address" not in table:
                raise ValueError(
                    f"{option}: containerd has no snapshotter of that name ({', '.join(BUILTIN_SNAPSHOTTERS)}); "
                    "a proxy plugin needs an address"
                )
            else:
                _check_proxy(option, table)
        for option, value in [("snapshotter", self.snapshotter)] + [
            (f"runtimes[{one.name}].snapshotter", one.snapshotter) for one in self.runtimes
        ]:
            if value is not None and not self._declared(value):
                raise ValueError(
                    f"{option}: containerd has no snapshotter {value!r} ({', '.join(BUILTIN_SNAPSHOTTERS)}); "
                    "declare a proxy plugin under snapshotters"
                )

    def _declared(self, name: str) -> bool:
        return (
            name in BUILTIN_SNAPSHOTTERS or name in self.snapshotters or bool(lookup(self.extra_config, ("proxy_plugins", name)))
        )

    def chosen_snapshotters(self) -> tuple[str, ...]:
        """List every snapshotter that these settings make the daemon use, the default first."""
        chosen = [self.snapshotter] + [runtime.snapshotter for runtime in self.runtimes]
        return tuple(dict.fromkeys(name for name in chosen if name))
