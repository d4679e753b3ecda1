# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node's containerd should be: the settings, checked for sense on their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model.toml_text import value_text
from ansible_collections.slipway.node.plugins.module_utils.model.tree import dotted, flatten, lookup

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,75}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Snapshotters that are part of containerd, and the keys of their tables with the type of each.
# containerd plugins/snapshots/*/plugin/plugin.go
BUILTIN_SNAPSHOTTERS: dict[str, dict[str, type]] = {
    "overlayfs": {
        "root_path": str,
        "upperdir_label": bool,
        "sync_remove": bool,
        "slow_chown": bool,
        "mount_options": list,
    },
    "native": {"root_path": str},
    "btrfs": {"root_path": str},
    "zfs": {"root_path": str},
    "devmapper": {
        "root_path": str,
        "pool_name": str,
        "base_image_size": str,
        "async_remove": bool,
        "discard_blocks": bool,
        "fs_type": str,
        "fs_options": str,
    },
    "blockfile": {
        "root_path": str,
        "scratch_file": str,
        "fs_type": str,
        "mount_options": list,
        "recreate_scratch": bool,
    },
    "erofs": {
        "root_path": str,
        "ovl_mount_options": list,
        "enable_fsverity": bool,
        "set_immutable": bool,
        "default_size": str,
    },
}
_PROXY_KEYS: dict[str, type] = {"address": str, "platform": str, "exports": dict, "capabilities": list}


# What each setting has to be, for values that no argument spec has converted; runtimes' keys come last.
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("image_pull_sync_fs", "systemd_cgroup", "privileged_without_host_devices"), (bool, "true or false")),
    **dict.fromkeys(("snapshotter", "default_runtime", "sandbox_image"), (str, "a text")),
    **dict.fromkeys(("registry_config_path", "root"), (str, "a text")),
    **dict.fromkeys(("snapshotters", "extra", "options"), (Mapping, "a dictionary")),
    **dict.fromkeys(("runtimes", "pod_annotations"), ((list, tuple), "a list")),
    "max_concurrent_downloads": (int, "a whole number"),
    **dict.fromkeys(("name", "type", "path", "config_path"), (str, "a text")),
}


def _check_kinds(params: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in params.items():
        kind, words = _KINDS[key]
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise ValueError(f"{prefix}{key} has to be {words}, not {value!r}")


def absolute_path(option: str, value: str) -> str:
    """A path as it is. Raises ValueError that names the option unless it is absolute, normal and printable."""
    if _CONTROL.search(value):
        raise ValueError(f"{option} holds a control character: give a plain absolute path")
    parts = value.split("/")
    if not value.startswith("/") or ".." in parts:
        raise ValueError(f"{option} has to be an absolute path without '..', not {value!r}")
    return value


def plain_name(option: str, value: str) -> str:
    """A name as it is. Raises ValueError that names the option unless it is letters, digits, '.', '_' and '-'."""
    if not _NAME.match(value):
        raise ValueError(
            f"{option} has to be a name of at most 76 letters, digits, '.', '_' and '-', "
            f"starting with a letter or digit, not {value!r}"
        )
    return value


def one_line(option: str, value: str) -> str:
    """A text as it is. Raises ValueError that names the option if it is empty or has control characters."""
    if not value or _CONTROL.search(value):
        raise ValueError(f"{option} has to be one line of text, not {value!r}")
    return value


def _typed_table(option: str, table: Mapping[str, Any], types: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in types:
            raise ValueError(f"{option} has no key {key!r}: it takes {', '.join(sorted(types))}")
        if not isinstance(value, types[key]):
            raise ValueError(f"{option}.{key} has to be of type {types[key].__name__}, not {value!r}")
        if isinstance(value, str) and key in ("root_path", "scratch_file", "address"):
            absolute_path(f"{option}.{key}", value)


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
        """Raises ValueError that names the option."""
        if not isinstance(params, Mapping) or not isinstance(params.get("name"), str):
            raise ValueError(f"runtimes takes dictionaries with a name, not {params!r}")
        name = plain_name("runtimes.name", params["name"])
        option = f"runtimes[{name}]"
        unknown = sorted(set(params) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"{option} has no key {unknown[0]!r}: it takes {', '.join(cls.__dataclass_fields__)}")
        _check_kinds(params, f"{option}.")
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
    """The settings of a node's containerd. None means: not this collection's business.

    ``snapshotters`` maps a snapshotter's name to its table; a name that containerd doesn't know
    is a proxy plugin and needs an ``address``. ``extra`` holds raw tables, merged last.
    """

    image_pull_sync_fs: bool | None = None
    snapshotter: str | None = None
    snapshotters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runtimes: tuple[Runtime, ...] = ()
    default_runtime: str | None = None
    systemd_cgroup: bool | None = None
    sandbox_image: str | None = None
    registry_config_path: str | None = None
    max_concurrent_downloads: int | None = None
    root: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Settings:
        """From module parameters (or the same keys in ``expect``). Raises ValueError that names the option."""
        unknown = sorted(set(params) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"there is no setting {unknown[0]!r}: take one of {', '.join(cls.__dataclass_fields__)}")
        _check_kinds(params)
        runtimes = tuple(Runtime.from_params(one) for one in params.get("runtimes") or ())
        names = [runtime.name for runtime in runtimes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"runtimes names {twice[0]} twice: list each handler once")
        settings = cls(
            image_pull_sync_fs=params.get("image_pull_sync_fs"),
            snapshotter=params.get("snapshotter") or None,
            snapshotters={name: {} if table is None else table for name, table in (params.get("snapshotters") or {}).items()},
            runtimes=runtimes,
            default_runtime=params.get("default_runtime") or None,
            systemd_cgroup=params.get("systemd_cgroup"),
            sandbox_image=params.get("sandbox_image") or None,
            registry_config_path=params.get("registry_config_path") or None,
            max_concurrent_downloads=params.get("max_concurrent_downloads"),
            root=params.get("root") or None,
            extra=dict(params.get("extra") or {}),
        )
        settings._check()
        return settings

    def _check(self) -> None:
        for option in ("snapshotter", "default_runtime"):
            value = getattr(self, option)
            if value is not None:
                plain_name(option, value)
        if self.sandbox_image is not None:
            one_line("sandbox_image", self.sandbox_image)
        if self.registry_config_path is not None:
            for part in self.registry_config_path.split(":"):
                absolute_path("registry_config_path", part)
        if self.root is not None:
            absolute_path("root", self.root)
        if self.max_concurrent_downloads is not None and self.max_concurrent_downloads < 1:
            raise ValueError("max_concurrent_downloads has to be 1 or more")
        self._check_snapshotters()
        _writable("extra", self.extra)
        for key in ("version", "imports"):
            if key in self.extra:
                raise ValueError(f"extra can't hold {key!r}: the module keeps that key itself")

    def _check_snapshotters(self) -> None:
        for name, table in self.snapshotters.items():
            option = f"snapshotters.{plain_name('snapshotters', name)}"
            if not isinstance(table, Mapping):
                raise ValueError(f"{option} has to be a dictionary, not {table!r}")
            if name in BUILTIN_SNAPSHOTTERS:
                _typed_table(option, table, BUILTIN_SNAPSHOTTERS[name])
            elif "address" not in table:
                raise ValueError(
                    f"{option}: containerd has no snapshotter of that name ({', '.join(BUILTIN_SNAPSHOTTERS)}); "
                    "a proxy plugin needs an address"
                )
            else:
                _typed_table(option, table, _PROXY_KEYS)
        for option, value in [("snapshotter", self.snapshotter)] + [
            (f"runtimes[{one.name}].snapshotter", one.snapshotter) for one in self.runtimes
        ]:
            if value is not None and not self._declared(value):
                raise ValueError(
                    f"{option}: containerd has no snapshotter {value!r} ({', '.join(BUILTIN_SNAPSHOTTERS)}); "
                    "declare a proxy plugin under snapshotters"
                )

    def _declared(self, name: str) -> bool:
        return name in BUILTIN_SNAPSHOTTERS or name in self.snapshotters or bool(lookup(self.extra, ("proxy_plugins", name)))

    def chosen_snapshotters(self) -> tuple[str, ...]:
        """Every snapshotter that these settings make the daemon use, the default first."""
        chosen = [self.snapshotter] + [runtime.snapshotter for runtime in self.runtimes]
        return tuple(dict.fromkeys(name for name in chosen if name))
