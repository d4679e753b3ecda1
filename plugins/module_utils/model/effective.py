# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the daemon makes of its files, as ``containerd config dump`` prints it, against what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model import durability, schema, toml_text
from ansible_collections.slipway.node.plugins.module_utils.model.files import Source, is_secret
from ansible_collections.slipway.node.plugins.module_utils.model.settings import BUILTIN_SNAPSHOTTERS, Settings
from ansible_collections.slipway.node.plugins.module_utils.model.tree import (
    Path,
    Tree,
    agrees,
    dotted,
    flatten,
    lookup,
)
from ansible_collections.slipway.node.plugins.module_utils.model.version import Version

_MISSING = object()
# Tables that schema 4 moved under plugins."io.containerd.server.v1.*".
_MOVED_IN_V4 = ("grpc", "ttrpc", "metrics", "debug")


@dataclass(frozen=True)
class Mismatch:
    """A setting that the daemon would not have. ``culprit`` is the file that says otherwise, if one does."""

    path: Path
    wanted: Any
    found: Any
    known: bool
    culprit: str | None

    def shown(self) -> tuple[Any, Any]:
        """What is wanted and what was found, for people and logs."""
        if any(is_secret(part) for part in self.path):
            return "a secret", "something else"
        return self.wanted, self.found

    def sentence(self, version: Version) -> str:
        name = dotted(self.path)
        wanted, found = self.shown()
        if not self.known and self.culprit is None:
            return f"{name} is not known to containerd {version}: check its spelling and its plugin, or leave it out"
        if self.culprit is not None:
            return f"{self.culprit} overrides {name}: it is {found!r} there and {wanted!r} here; remove it there"
        return f"{name} would be {found!r} on the daemon, where {wanted!r} is asked for"


def schema_of(dump: Mapping[str, Any]) -> int:
    """The schema that the daemon prints in."""
    version = dump.get("version", 0)
    return version if isinstance(version, int) else 0


def wanted_leaves(settings: Settings, version: Version, architecture: str, dump: Mapping[str, Any]) -> dict[Path, Any]:
    """The settings as leaves in the schema of the dump. Tables that schema 4 moved are left out."""
    number = schema_of(dump)
    leaves = flatten(schema.tables(settings, version, number, architecture))
    return {path: value for path, value in leaves.items() if number < 4 or path[0] not in _MOVED_IN_V4}


def mismatches(
    settings: Settings,
    version: Version,
    architecture: str,
    dump: Mapping[str, Any],
    known_plugins: frozenset[str] | None = None,
    others: Sequence[Source] = (),
) -> list[Mismatch]:
    """Settings that the daemon would not have, in a stable order.

    ``known_plugins`` are the ids in ``containerd config default``: 2.x keeps tables of unknown
    plugins in the dump; None where they needn't be told apart. ``others`` are the files that this
    collection doesn't write, in the order in which the daemon reads them.
    """
    found = []
    for path, value in wanted_leaves(settings, version, architecture, dump).items():
        actual = lookup(dump, path, _MISSING)
        plugin_known = known_plugins is None or path[0] != "plugins" or len(path) < 2 or path[1] in known_plugins
        if plugin_known and actual is not _MISSING and agrees(value, actual):
            continue
        known = plugin_known and actual is not _MISSING
        shown = None if actual is _MISSING else actual
        found.append(Mismatch(path, value, shown, known, _culprit(path, others, version) if plugin_known else None))
    return found


def _culprit(path: Path, others: Sequence[Source], version: Version) -> str | None:
    """The last of the files that sets this key, or replaces its whole table.

    Every version does so with a proxy plugin's, and 1.x with any plugin's.
    """
    aliases = {path, *_aliases(path)}
    for source in reversed(others):
        try:
            tree = toml_text.parse(source.text)
        except ValueError:
            continue
        for alias in aliases:
            replaced = alias[0] == "proxy_plugins" or (version.major == 1 and alias[0] == "plugins")
            whole = alias[:2] if replaced else alias
            if lookup(tree, whole, _MISSING) is not _MISSING:
                return source.path
    return None


def _aliases(path: Path) -> list[Path]:
    """Where a file of schema 2 has what the daemon prints in schema 3."""
    if path[:2] == ("plugins", schema.CRI_IMAGES):
        rest = path[2:]
        special = {
            ("snapshotter",): ("containerd", "snapshotter"),
            ("discard_unpacked_layers",): ("containerd", "discard_unpacked_layers"),
            ("disable_snapshot_annotations",): ("containerd", "disable_snapshot_annotations"),
            ("pinned_images", "sandbox"): ("sandbox_image",),
        }
        return [("plugins", schema.CRI_V2, *special.get(rest, rest))]
    if path[:2] == ("plugins", schema.CRI_RUNTIME):
        return [("plugins", schema.CRI_V2, *path[2:])]
    return []


def cri_disabled(dump: Mapping[str, Any]) -> bool:
    """Whether ``disabled_plugins`` switches CRI off (schema 1's short name is printed as it is)."""
    return any(name in ("cri", schema.CRI_V2) for name in dump.get("disabled_plugins", []))


def needs_cri(settings: Settings) -> bool:
    """Whether any of the settings is one of the CRI plugin."""
    own = replace(settings, snapshotters={}, root=None, extra={})
    return own != Settings()


def _tables(dump: Mapping[str, Any]) -> tuple[Path, Path]:
    if schema_of(dump) < 3:
        return ("plugins", schema.CRI_V2), ("plugins", schema.CRI_V2)
    return ("plugins", schema.CRI_IMAGES), ("plugins", schema.CRI_RUNTIME)


def read(dump: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the daemon has them, under the names of the module's options; None where it has no such key."""
    images, runtime = _tables(dump)
    legacy = schema_of(dump) < 3
    handlers = lookup(dump, (*runtime, "containerd", "runtimes"), {})
    return {
        "image_pull_sync_fs": lookup(dump, (*images, "image_pull_with_sync_fs")),
        "diff_sync_fs": lookup(dump, ("plugins", schema.DIFF_SERVICE, "sync_fs")),
        "use_local_image_pull": lookup(dump, (*images, "use_local_image_pull")),
        "snapshotter": lookup(dump, (*images, "containerd", "snapshotter") if legacy else (*images, "snapshotter")),
        "default_runtime": lookup(dump, (*runtime, "containerd", "default_runtime_name")),
        "runtimes": {name: _handler(dump, name, table) for name, table in handlers.items()},
        "systemd_cgroup": lookup(handlers, ("runc", "options", "SystemdCgroup")),
        "sandbox_image": lookup(dump, (*images, "sandbox_image") if legacy else (*images, "pinned_images", "sandbox")),
        "registry_config_path": lookup(dump, (*images, "registry", "config_path")),
        "max_concurrent_downloads": lookup(dump, (*images, "max_concurrent_downloads")),
        "root": dump.get("root"),
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


def other_schema(sources: Sequence[Source], number: int) -> str | None:
    """The first of the files that is written in another schema than this; the daemon drops settings then."""
    for source in sources:
        try:
            version = toml_text.parse(source.text).get("version", number)
        except ValueError:
            continue
        if version != number:
            return source.path
    return None


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


def unknown_keys(sources: Sequence[Source], dump: Mapping[str, Any], known_plugins: frozenset[str]) -> list[str]:
    """Keys in the files that the daemon ignores, as ``FILE: key``.

    A key of schema 2's CRI table is looked for where 2.x moves it, and is not reported if it could
    have been moved out of sight.
    """
    printed = schema_of(dump)
    ignored = []
    for source in sources:
        try:
            tree = toml_text.parse(source.text)
        except ValueError:
            continue
        ignored += [
            f"{source.path}: {dotted(path)}" for path in flatten(tree) if _ignored(path, tree, dump, known_plugins, printed)
        ]
    return ignored


def _ignored(path: Path, tree: Tree, dump: Mapping[str, Any], known_plugins: frozenset[str], printed: int) -> bool:
    if path[0] in ("version", "imports"):
        return False
    if path[0] != "plugins":
        return path[0] not in dump and not (printed >= 4 and path[0] in _MOVED_IN_V4)
    if len(path) < 2 or cri_disabled(dump):
        return False
    written = tree.get("version", printed)
    if path[1] not in known_plugins:
        return True
    if path[1] == schema.CRI_V2 and written < 3 <= printed:
        return False
    return lookup(dump, path, _MISSING) is _MISSING and not _below_free_form(path, dump)


def _below_free_form(path: Path, dump: Mapping[str, Any]) -> bool:
    """Whether a table above is one that holds what anybody likes, and so may be dropped when it is empty."""
    return "options" in path and lookup(dump, path[: path.index("options")], _MISSING) is not _MISSING
