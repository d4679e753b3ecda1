# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings as configuration tables, in each schema that a daemon reads.

containerd docs/cri/config.md, docs/PLUGINS.md, and the Config structs of the plugins concerned.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Runtime, Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import (
    CRI_IMAGES,
    CRI_RUNTIME,
    CRI_V2,
    DIFF_SERVICE,
    DIFFER_PREFIX,
    EROFS,
    RUNC_TYPE,
    SNAPSHOTTER_PREFIX,
    TRANSFER,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import CRI_SERVICE_KEYS, in_schema
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import (
    DISABLE_SNAPSHOT_ANNOTATIONS,
    DISCARD_UNPACKED_LAYERS,
    PULL_SWITCHES,
    SETTINGS,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.snapshotters import (
    BUILTIN_SNAPSHOTTERS,
    SNAPSHOTTER_SINCE,
    differ_keys,
    own_keys,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, Tree, lookup, merge, nest

# The differ of all snapshotters but erofs; and what a proxy plugin exports: containerd docs/remote-snapshotter.md.
_WALKING = "walking"
_WANTS_ANNOTATIONS = "enable_remote_snapshot_annotations"


def require_version(settings: Settings, version: Version) -> None:
    """Raise ValueError, naming the option and the first version that knows it, for a setting that this version lacks."""
    for row in SETTINGS:
        if settings.scalars.get(row.name, False) is not False and row.since and not version.at_least(*row.since):
            raise ValueError(
                f"{row.name} needs containerd {row.since[0]} or newer, and this is {version}: "
                f"upgrade containerd, or {row.otherwise}"
            )
    for runtime in settings.runtimes:
        if runtime.snapshotter and not version.at_least("1.7.0", "2.0.0"):
            raise ValueError(
                f"runtimes[{runtime.name}].snapshotter needs containerd 1.7 or newer, and this is {version}: "
                "upgrade containerd, or leave it out"
            )
    wanted = {name: SNAPSHOTTER_SINCE.get(name, ()) for name in (*settings.chosen_snapshotters(), *settings.snapshotters)}
    for name, table in settings.snapshotters.items():
        keys = BUILTIN_SNAPSHOTTERS.get(name, {})
        wanted.update({f"{name}.{key}": keys[key].since for key in table if key in keys})
    for option, since in wanted.items():
        if since and not version.at_least(*since):
            line = next((one for one in since if one.startswith(f"{version.major}.{version.minor}.")), since[-1])
            raise ValueError(
                f"snapshotters.{option} needs containerd {line} or newer, and this is {version}: "
                "upgrade containerd, or leave it out"
            )


def _runtime_table(runtime: Runtime) -> Tree:
    table: Tree = {"runtime_type": runtime.type}
    if runtime.path:
        table["runtime_path"] = runtime.path
    if runtime.snapshotter:
        table["snapshotter"] = runtime.snapshotter
    if runtime.privileged_without_host_devices is not None:
        table["privileged_without_host_devices"] = runtime.privileged_without_host_devices
    if runtime.pod_annotations:
        table["pod_annotations"] = list(runtime.pod_annotations)
    options = dict(runtime.options)
    if runtime.config_path:
        options["ConfigPath"] = runtime.config_path
    if options:
        table["options"] = options
    return table


def _scalar_leaves(settings: Settings, version: Version, number: int) -> Iterator[tuple[Path, Any]]:
    """Yield the leaves of scalar settings. A switch that this version doesn't know needs no key, as it is off."""
    for row in SETTINGS:
        if row.name in settings.scalars and (not row.since or version.at_least(*row.since)):
            yield row.path(number), settings.scalars[row.name]


def _pull_leaves(settings: Settings, version: Version, number: int) -> Iterator[tuple[Path, Any]]:
    on = settings.image_pull_sync_fs
    diff, local = PULL_SWITCHES
    if on is not None and version.at_least(*diff.since):
        yield diff.path(number), on
    # The transfer service goes around both, so CRI has to pull by itself.
    if on and version.at_least(*local.since):
        yield local.path(number), True


def _snapshotter_leaves(settings: Settings, version: Version, number: int, architecture: str) -> Iterator[tuple[Path, Any]]:
    chosen = settings.chosen_snapshotters()
    for name, table in settings.snapshotters.items():
        if name in BUILTIN_SNAPSHOTTERS:
            yield ("plugins", SNAPSHOTTER_PREFIX + name), own_keys(name, table)
            if differ_keys(name, table):
                yield ("plugins", DIFFER_PREFIX + name), differ_keys(name, table)
        else:
            yield ("proxy_plugins", name), _proxy_table(name, table, chosen, version)
    if any(name not in BUILTIN_SNAPSHOTTERS for name in chosen):
        # Without them, a snapshotter that fetches layers by itself isn't told which ones.
        yield DISABLE_SNAPSHOT_ANNOTATIONS.path(number), False
    if EROFS in (*chosen, *settings.snapshotters):
        # The others' differ goes last: it takes whatever it is given.
        yield ("plugins", DIFF_SERVICE, "default"), [EROFS, _WALKING]
    if version.major >= 2 and any(name != "overlayfs" for name in chosen):
        # The transfer service unpacks for the listed snapshotters only, and a list replaces the default's.
        unpack: list[Tree] = [
            {"platform": f"linux/{architecture}", "snapshotter": name} for name in dict.fromkeys(("overlayfs", *chosen))
        ]
        for entry in unpack if EROFS in chosen else ():
            entry["differ"] = EROFS if entry["snapshotter"] == EROFS else _WALKING
        yield ("plugins", TRANSFER, "unpack_config"), unpack


def _discard_leaves(settings: Settings, number: int) -> Iterator[tuple[Path, Any]]:
    """Keep blobs where a handler has its own snapshotter: images are unpacked for it from them (containerd#11390)."""
    if any(runtime.snapshotter not in (None, settings.snapshotter) for runtime in settings.runtimes):
        yield DISCARD_UNPACKED_LAYERS.path(number), False


def _proxy_table(name: str, table: Mapping[str, Any], chosen: Container[str], version: Version) -> Tree:
    """Return the table of a proxy. From 2.1 on, the transfer service reads from it whether the proxy wants annotations."""
    whole: Tree = {"type": "snapshot", **table}
    if name in chosen and version.at_least("2.1.0"):
        whole["exports"] = {_WANTS_ANNOTATIONS: "true", **(table.get("exports") or {})}
    return whole


def _runtime_leaves(settings: Settings, version: Version, number: int) -> Iterator[tuple[Path, Any]]:
    containerd: Path = ("plugins", CRI_V2 if number < 3 else CRI_RUNTIME, "containerd")
    for handler in settings.runtimes:
        yield (*containerd, "runtimes", handler.name), _runtime_table(handler)
        # 2.0 to 2.2 take a handler's snapshotter for the pull from here alone.
        if handler.snapshotter and version.major >= 2:
            yield ("plugins", CRI_IMAGES, "runtime_platforms", handler.name, "snapshotter"), handler.snapshotter


def _leaves(settings: Settings, version: Version, number: int, architecture: str) -> Iterator[tuple[Path, Any]]:
    yield from _pull_leaves(settings, version, number)
    yield from _snapshotter_leaves(settings, version, number, architecture)
    yield from _runtime_leaves(settings, version, number)
    yield from _discard_leaves(settings, number)
    yield from _scalar_leaves(settings, version, number)


def tables(settings: Settings, version: Version, schema: int, architecture: str) -> Tree:
    """Write the settings as the tables of one schema; ``extra_config`` is merged last, in the places of this schema.

    ``architecture`` is Go's name of the node's. Raises ValueError for what this version can't do.
    """
    require_version(settings, version)
    tree: Tree = {}
    for path, value in _leaves(settings, version, schema, architecture):
        tree = merge(tree, nest({path: value}))
    extra = in_schema(settings.extra_config, schema)
    service = lookup(extra, ("plugins", CRI_V2)) if version.major >= 2 else None
    for key in service if isinstance(service, dict) else ():
        if key not in CRI_SERVICE_KEYS:
            raise ValueError(
                f'extra_config.plugins."{CRI_V2}".{key} is a name of containerd 1.x, and this is {version}: '
                f'write it under "{CRI_IMAGES}" or "{CRI_RUNTIME}"'
            )
    return merge(tree, extra)


def completions(tree: Tree, version: Version, schema: int) -> Tree:
    """List the keys that these tables need beside them.

    On 1.x a file that declares runtime handlers but not runc loses runc (containerd#7982). On 2.x a file of schema 2 whose CRI
    table ``containerd`` has no table of handlers loses the snapshotter when it is migrated, and 2.3 and newer migrate each file
    by itself. An empty table is enough, and leaves the handlers of other files as they are.
    """
    if schema >= 3:
        return {}
    containerd: Path = ("plugins", CRI_V2, "containerd")
    if version.major >= 2:
        return nest({(*containerd, "runtimes"): {}}) if lookup(tree, containerd) else {}
    touched = lookup(tree, (*containerd, "runtimes"))
    return nest({(*containerd, "runtimes", "runc", "runtime_type"): RUNC_TYPE}) if touched else {}
