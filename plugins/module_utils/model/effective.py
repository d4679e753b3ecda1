# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the daemon makes of its files, as ``containerd config dump`` prints it, against what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model import durability, schema, toml_text
from ansible_collections.slipway.node.plugins.module_utils.model.files import Source
from ansible_collections.slipway.node.plugins.module_utils.model.setting_rows import PULL_SWITCHES, SETTINGS
from ansible_collections.slipway.node.plugins.module_utils.model.settings import BUILTIN_SNAPSHOTTERS, Settings
from ansible_collections.slipway.node.plugins.module_utils.model.tree import (
    Path,
    lookup,
)
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version

_MISSING = object()


def schema_of(dump: Mapping[str, Any]) -> int:
    """The schema that the daemon prints in."""
    version = dump.get("version", 0)
    return version if isinstance(version, int) else 0


def cri_disabled(dump: Mapping[str, Any]) -> bool:
    """Whether ``disabled_plugins`` switches CRI off (schema 1's short name is printed as it is)."""
    return any(name in ("cri", schema.CRI_V2) for name in dump.get("disabled_plugins", []))


def _tables(dump: Mapping[str, Any]) -> tuple[Path, Path]:
    if schema_of(dump) < 3:
        return ("plugins", schema.CRI_V2), ("plugins", schema.CRI_V2)
    return ("plugins", schema.CRI_IMAGES), ("plugins", schema.CRI_RUNTIME)


def read(dump: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the daemon has them, under the names of the module's options; None where it has no such key."""
    handlers = lookup(dump, (*_tables(dump)[1], "containerd", "runtimes"), {})
    return {
        **{row.name: lookup(dump, row.path(schema_of(dump))) for row in (*SETTINGS, *PULL_SWITCHES)},
        "runtimes": {name: _handler(dump, name, table) for name, table in handlers.items()},
        "proxy_snapshotters": sorted(_proxies(dump)),
    }


def _handler(dump: Mapping[str, Any], name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    platform = lookup(dump, ("plugins", schema.CRI_IMAGES, "runtime_platforms", name, "snapshotter"))
    return {
        "type": table.get("runtime_type"),
        "path": table.get("runtime_path") or None,
        "snapshotter": table.get("snapshotter") or platform or None,
        "config_path": lookup(table, ("options", "ConfigPath")),
    }


def handler_snapshotters(dump: Mapping[str, Any], name: str, version: Version) -> dict[str, str | None]:
    """The snapshotter of a handler in each place that this version of the daemon reads for itself; None where it says nothing.

    Before 2.0 and from 2.3 on there is one place; between, pulls go by another than containers.
    """
    runtime = lookup(dump, (*_tables(dump)[1], "containerd", "runtimes", name, "snapshotter")) or None
    if schema_of(dump) < 3:
        return {"runtimes": runtime}
    platform = lookup(dump, ("plugins", schema.CRI_IMAGES, "runtime_platforms", name, "snapshotter")) or None
    if platform is None and version.at_least("2.3.0"):
        return {"runtimes": runtime}
    return {"runtimes": runtime, "runtime_platforms": platform}


def unready(settings: Settings, states: Mapping[str, str], current: Mapping[str, Any], dump: Mapping[str, Any]) -> str | None:
    """The first handler that is new to a snapshotter which isn't ok and which these settings don't touch: one sentence, or None.

    ``states`` are those of the snapshotters in the running daemon, ``current`` its configuration, ``dump`` the wanted one.
    """
    handlers = read(current)["runtimes"]
    for handler in settings.runtimes:
        name = handler.snapshotter
        if name is None or states.get(name) == "ok" or handlers.get(handler.name, {}).get("snapshotter") == name:
            continue
        places: tuple[Path, ...] = (("plugins", schema.SNAPSHOTTER_PREFIX + name), ("proxy_plugins", name))
        if all(lookup(current, place) == lookup(dump, place) for place in places):
            state = f"in state {states[name]}" if name in states else "not loaded"
            return (
                f"runtimes[{handler.name}].snapshotter: the snapshotter {name} is {state} in the running daemon: configure it "
                "with snapshotters, or, if what it needs is there by now, restart containerd"
            )
    return None


def used_snapshotters(dump: Mapping[str, Any]) -> tuple[str, ...]:
    """CRI's default, which comes first, and those of its handlers; none if CRI is off."""
    if cri_disabled(dump):
        return ()
    settings = read(dump)
    handlers = (handler["snapshotter"] for handler in settings["runtimes"].values())
    return tuple(dict.fromkeys(name for name in (settings["snapshotter"] or "overlayfs", *handlers) if name))


def own_snapshotters(dump: Mapping[str, Any]) -> tuple[str, ...]:
    """As above; the default alone if CRI is off, for that is what others take as well."""
    return used_snapshotters(dump) or (read(dump)["snapshotter"] or "overlayfs",)


def discards_layers(dump: Mapping[str, Any]) -> bool:
    """Whether CRI gives up the blobs of layers that it has unpacked."""
    images = _tables(dump)[0]
    table = (*images, "containerd") if schema_of(dump) < 3 else images
    return bool(lookup(dump, (*table, "discard_unpacked_layers")))


def _proxies(dump: Mapping[str, Any]) -> list[str]:
    return [name for name, table in dump.get("proxy_plugins", {}).items() if table.get("type") == "snapshot"]


def proxy_addresses(sources: Iterable[Source]) -> dict[str, str]:
    """The sockets of the proxy snapshotters that the files declare, by name; the last file wins."""
    addresses: dict[str, str] = {}
    for source in sources:
        try:
            tables = toml_text.parse(source.text).get("proxy_plugins", {})
        except ValueError:
            continue
        for name, table in tables.items() if isinstance(tables, Mapping) else ():
            if isinstance(table, Mapping) and table.get("type") == "snapshot":
                addresses[name] = str(table.get("address", ""))
    return addresses


def socket_of(dump: Mapping[str, Any]) -> str | None:
    """The socket that the daemon makes by its configuration; schema 4 has moved it."""
    found = lookup(dump, ("grpc", "address")) or lookup(dump, ("plugins", "io.containerd.server.v1.grpc", "address"))
    return found if isinstance(found, str) and found else None


def nonsense(dump: Mapping[str, Any]) -> str | None:
    """What ``config dump`` lets pass and CRI fails on at start: one sentence, or None.

    containerd internal/cri/config/config.go: ValidatePluginConfig and ValidateImageConfig.
    """
    if cri_disabled(dump):
        return None
    images = _tables(dump)[0]
    settings = read(dump)
    default = settings["default_runtime"]
    if default and default not in settings["runtimes"]:
        return f"the default runtime handler {default!r} is not declared: add it to runtimes"
    for name, handler in settings["runtimes"].items():
        if not handler["type"]:
            return f"the runtime handler {name!r} has no type: give runtimes[{name}] one"
    registry = lookup(dump, (*images, "registry"), {})
    if registry.get("config_path") and (registry.get("mirrors") or registry.get("configs")):
        return "the registry's mirrors or configs can't stand beside its config_path: move them into hosts.toml files"
    snapshotter = settings["snapshotter"]
    if snapshotter and snapshotter not in BUILTIN_SNAPSHOTTERS and snapshotter not in settings["proxy_snapshotters"]:
        return f"the snapshotter {snapshotter!r} is neither part of containerd nor declared under proxy_plugins"
    return None


def pull_durability(dump: Mapping[str, Any], version: Version) -> dict[str, dict[str, str]]:
    """By pull path: ``durability``, ``reason``, ``source``, for the daemon's default snapshotter."""
    default = own_snapshotters(dump)[0]
    return {path: _verdict(dump, version, path, default) for path in durability.paths(version)}


def handlers_durability(dump: Mapping[str, Any], version: Version) -> dict[str, dict[str, str]]:
    """The same of what handlers have unpacked for snapshotters other than the default, by these."""
    late: dict[str, bool] = {}
    for name, handler in read(dump)["runtimes"].items():
        if handler["snapshotter"]:
            places = handler_snapshotters(dump, name, version)
            unread = not version.at_least("2.0.0") or places.get("runtime_platforms", handler["snapshotter"]) is None
            late[handler["snapshotter"]] = late.get(handler["snapshotter"], False) or unread
    late.pop(own_snapshotters(dump)[0], None)
    return {name: _verdict(dump, version, "cri", name, late=one) for name, one in late.items()}


def _verdict(dump: Mapping[str, Any], version: Version, path: str, snapshotter: str, *, late: bool = False) -> dict[str, str]:
    settings = read(dump)
    pull = durability.Pull(
        path=path,
        version=version,
        snapshotter=snapshotter,
        image_pull_sync_fs=bool(settings["image_pull_sync_fs"]),
        diff_sync_fs=bool(settings["diff_sync_fs"]),
        local_image_pull=bool(settings["use_local_image_pull"]),
        late=late,
    )
    verdict = durability.judge(pull)
    return {"durability": verdict.durability, "reason": verdict.reason, "source": verdict.source}
