# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the daemon's effective configuration differs from the wanted settings, and which keys it ignores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config import tables
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import FileKey, file_keys, moved_in_4, older_places
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import (
    BY_NAME,
    CRI,
    METADATA_NO_SYNC,
    SETTINGS,
)
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source, is_secret
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, agrees, dotted, flatten, lookup

_MISSING = object()
# Tables of the daemon itself, whose keys it knows; the other ones that aren't plugins' take any names.
_FIXED_TABLES = ("grpc", "ttrpc", "debug", "metrics", "cgroup")


# The keys by which image_pull_sync_fs makes CRI pull by itself.
_SYNCED = tuple(BY_NAME[name].v3 for name in ("image_pull_sync_fs", "use_local_image_pull"))


@dataclass(frozen=True)
class Mismatch:
    """A setting that the daemon would not have. ``culprit`` is the file that overrides it, if one does."""

    path: Path
    wanted: Any
    found: Any
    known: bool
    culprit: str | None

    def shown(self) -> tuple[Any, Any]:
        """Return the wanted and the found value, for people and logs."""
        if any(is_secret(part) for part in self.path):
            return "a secret", "something else"
        return self.wanted, self.found

    def sentence(self, version: Version) -> str:
        """Explain the mismatch, with its remedy."""
        name = dotted(self.path)
        wanted, found = self.shown()
        if not self.known and self.culprit is None:
            return f"{name} is not known to containerd {version}: check its spelling and its plugin, or leave it out"
        if self.culprit is not None:
            return f"{self.culprit} overrides {name}: it is {found!r} there and {wanted!r} here; remove it there"
        return f"{name} would be {found!r} on the daemon, not {wanted!r}"


def wanted_leaves(settings: Settings, version: Version, architecture: str, config: EffectiveConfig) -> dict[Path, Any]:
    """Write the settings as leaves in the schema of the configuration."""
    return flatten(tables.tables(settings, version, config.schema, architecture))


def mismatches(
    settings: Settings,
    version: Version,
    architecture: str,
    config: EffectiveConfig,
    known_plugins: frozenset[str] | None = None,
    others: Sequence[Source] = (),
) -> list[Mismatch]:
    """List the settings that the daemon would not have, in a stable order.

    ``known_plugins`` are the ids in ``containerd config default``: 2.x keeps tables of unknown
    plugins in the effective configuration; None where they needn't be told apart. ``others`` are the files that this
    collection doesn't write, in the order in which the daemon reads them.
    """
    found = []
    for path, value in wanted_leaves(settings, version, architecture, config).items():
        actual = config.lookup(path, _MISSING)
        plugin_known = known_plugins is None or path[0] != "plugins" or len(path) < 2 or path[1] in known_plugins
        if plugin_known and actual is not _MISSING and agrees(value, actual):
            continue
        known = plugin_known and actual is not _MISSING
        shown = None if actual is _MISSING else actual
        found.append(Mismatch(path, value, shown, known, _culprit(path, others, version) if plugin_known else None))
    return found


def _culprit(path: Path, others: Sequence[Source], version: Version) -> str | None:
    """Return the last of the files that sets this key, or replaces its whole table.

    Every version does so with a proxy plugin's, and 1.x with any plugin's.
    """
    aliases = {path, *older_places(path)}
    for source in reversed(others):
        try:
            tree = toml.parse(source.text)
        except ValueError:
            continue
        for alias in aliases:
            replaced = alias[0] == "proxy_plugins" or (version.major == 1 and alias[0] == "plugins")
            whole = alias[:2] if replaced else alias
            if lookup(tree, whole, _MISSING) is not _MISSING:
                return source.path
    return None


def pull_conflict(
    settings: Settings, version: Version, architecture: str, config: EffectiveConfig, verifiers: Sequence[str]
) -> str:
    """Return why CRI would not pull as these settings say; empty if it would. ``verifiers`` are the node's image verifiers."""
    if settings.image_pull_sync_fs and config.metadata_no_sync:
        return f"image_pull_sync_fs has no effect with {dotted(METADATA_NO_SYNC)}: set that to false, or image_pull_sync_fs"
    leaves = wanted_leaves(settings, version, architecture, config)
    unread = config.unread_hosts_dirs(version)
    if unread and BY_NAME["registry_config_path"].path(config.schema) in leaves:
        return (
            f"registry_config_path has several directories ({', '.join(unread)}), and CRI of containerd {version} reads them "
            "only if it pulls without the transfer service: name one directory"
            + ("" if verifiers else ", or set image_pull_sync_fs to true")
        )
    unverified = config.unverified_pulls(version, verifiers)
    ours = [key for key in config.local_pull_keys if any(path[: len(key)] == key for path in leaves)]
    if not unverified or not ours or settings.allow_unverified_pulls or not version.at_least("2.1.0"):
        return ""
    remedies = [f"set {dotted(key)} to its default" for key in ours if not (settings.image_pull_sync_fs and key in _SYNCED)]
    if settings.image_pull_sync_fs:
        remedies.append("set image_pull_sync_fs to false and pull with containerd_image, which asks them and flushes to disk")
    return f"{unverified}: {'; '.join(remedies)}; or set allow_unverified_pulls to true"


def needs_cri(settings: Settings) -> bool:
    """Return whether any of the settings is one of the CRI plugin."""
    return bool(settings.runtimes) or any(row.name in settings.scalars and row.v2[:2] == CRI for row in SETTINGS)


def other_schema(sources: Sequence[Source], number: int) -> str | None:
    """Find the first of the files that is written in another schema than this; the daemon then drops settings."""
    for source in sources:
        try:
            version = toml.parse(source.text).get("version", number)
        except ValueError:
            continue
        if version != number:
            return source.path
    return None


def unknown_keys(sources: Sequence[Source], config: EffectiveConfig, known_plugins: frozenset[str]) -> list[str]:
    """List the keys in the files that the daemon ignores, as ``FILE: key``.

    A key of an older schema is looked for in the place to which the daemon moves it. One that is empty, or off in schema 2, is
    not reported: an older daemon wrote it with all of its defaults.
    """
    printed = config.schema
    return [str(key) for keys in file_keys(sources, printed) for key in keys if _ignored(key, config, known_plugins, printed)]


def _ignored(key: FileKey, config: EffectiveConfig, known_plugins: frozenset[str], printed: int) -> bool:
    place = key.place
    if key.written >= 4 and moved_in_4(key.path):
        return True
    if key.written < printed and (key.value in ("", [], {}) or (key.written < 3 and not key.value)):
        return False
    if place[0] != "plugins":
        return config.lookup(place if place[0] in _FIXED_TABLES else place[:1], _MISSING) is _MISSING
    if len(place) < 2 or not config.cri_enabled:
        return False
    if place[1] not in known_plugins:
        return True
    return config.lookup(place, _MISSING) is _MISSING and not _below_free_form(place, config)


def _below_free_form(path: Path, config: EffectiveConfig) -> bool:
    """Return whether a table above is one with arbitrary keys, which may be removed when it is empty."""
    return "options" in path and config.lookup(path[: path.index("options")], _MISSING) is not _MISSING


def handler_without_snapshotter(
    settings: Settings, states: Mapping[str, str], current: EffectiveConfig, wanted: EffectiveConfig
) -> str | None:
    """Return a sentence on the first handler that is new to a snapshotter which isn't ok and which these settings don't touch.

    ``states`` are those of the snapshotters in the running daemon, ``current`` its configuration. None if there is none.
    """
    for handler in settings.runtimes:
        name, before = handler.snapshotter, current.handlers.get(handler.name)
        if name is None or states.get(name) == "ok" or (before is not None and before.snapshotter == name):
            continue
        places: tuple[Path, ...] = (("plugins", names.SNAPSHOTTER_PREFIX + name), ("proxy_plugins", name))
        if all(current.lookup(place) == wanted.lookup(place) for place in places):
            state = f"in state {states[name]}" if name in states else "not loaded"
            return (
                f"runtimes[{handler.name}].snapshotter: the snapshotter {name} is {state} in the running daemon: configure it "
                "with snapshotters, or restart containerd if its requirements are met now"
            )
    return None
