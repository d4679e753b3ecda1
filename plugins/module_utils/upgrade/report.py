# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on an upgrade: the settings that a node would lose with the new version, and those that would change.

To report another kind, write a function with the decorator ``@rule``, or add a row to meanings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config.losses import is_own, keys_in_both
from ansible_collections.slipway.node.plugins.module_utils.containerd.dropped_keys import DroppedKey, dropped_keys
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import SNAPSHOTTER_PREFIX
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import RENAMED, FileKey, place
from ansible_collections.slipway.node.plugins.module_utils.core.files import is_secret, without_secrets
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Path, agrees, dotted
from ansible_collections.slipway.node.plugins.module_utils.upgrade.meanings import MEANINGS
from ansible_collections.slipway.node.plugins.module_utils.upgrade.state import (
    FAIL,
    INFO,
    STATUSES,
    UNKNOWN,
    WARN,
    Entry,
    UpgradeState,
)

Rule = Callable[[UpgradeState], Iterator[Entry]]
# A rule that compares the two configurations. It doesn't run if one of them couldn't be read.
Comparison = Callable[[UpgradeState, EffectiveConfig, EffectiveConfig], Iterator[Entry]]

RULES: list[Rule] = []
_MISSING = object()
_NOTHING: tuple[Any, ...] = ("", [], {})
# Plugins and runtimes that 2.0 has removed: containerd docs/containerd-2.0.md
_GONE_IN_2 = ("io.containerd.runtime.v1.linux", "io.containerd.snapshotter.v1.aufs")
_GONE_TYPES = ("io.containerd.runtime.v1.linux", "io.containerd.runc.v1")
_CGROUP_V1 = "cgroup-v1"
_NO_DEFAULTS = ("version", "imports", "disabled_plugins", "required_plugins", "plugin_dir")


def report(state: UpgradeState) -> list[Entry]:
    """Return every entry, the worst first, and otherwise in the order of the rules."""
    entries = [entry for rule in RULES for entry in rule(state)]
    return sorted(entries, key=lambda entry: STATUSES.index(entry.status))


def rule(function: Rule) -> Rule:
    """Add a rule to the report."""
    RULES.append(function)
    return function


def comparison(function: Comparison) -> Comparison:
    """Add a rule that needs both configurations."""

    def compare(state: UpgradeState) -> Iterator[Entry]:
        if state.before is not None and state.after is not None:
            yield from function(state, state.before, state.after)

    RULES.append(compare)
    return function


@rule
def refused_files(state: UpgradeState) -> Iterator[Entry]:
    """Yield files that a program refuses: nothing else of them can be compared."""
    for broken in state.broken_imports:
        yield Entry("broken_import", FAIL, broken.path, broken.reason, broken.reason, broken.remedy(), broken.source)
    if state.refused_now and not state.broken_imports:
        remedy = "correct the files first, then compare again"
        yield Entry(
            "refused", FAIL, "the configuration today", without_secrets(state.refused_now), None, remedy, state.config_file
        )
    if state.refused and not state.broken_imports:
        remedy = f"write the files in a schema that containerd {state.then} reads, or correct the key"
        yield Entry("refused", FAIL, "the configuration", None, without_secrets(state.refused), remedy, state.config_file)


@rule
def cri_refusal(state: UpgradeState) -> Iterator[Entry]:
    """Yield a configuration that ``config dump`` accepts, and on which CRI fails when the daemon starts."""
    then = state.after.cri_config_error() if state.after else None
    if then:
        now = state.before.cri_config_error() if state.before else None
        cause, _colon, remedy = then.partition(": ")
        yield Entry("cri_refusal", FAIL, "the configuration of CRI", now or "accepted", cause, remedy or "correct it")


@comparison
def lost_keys(state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield keys of others that the daemon has today, and would not have."""
    dropped = {(one.source, one.path): one for one in dropped_keys(state.others, state.then) if _is_news(one, state)}
    for key, later in keys_in_both(state.others, before.schema, after.schema):
        gone = dropped.pop((key.file, key.path), None)
        # 2.x also prints the tables of plugins that it doesn't have.
        removed = _is_of(key, state.default_before) and not _is_of(later, state.default_after)
        found = _MISSING if removed else after.lookup(later.place, _MISSING)
        kept = gone is None and agrees(later.value, found)
        if kept or not agrees(key.value, before.lookup(key.place)) or is_own(later.place, state.own):
            continue
        if gone is None and (key.value in _NOTHING or (found is _MISSING and _is_default(key, state.default_before))):
            continue
        remedy = gone.remedy() if gone else _remedy(key, state, removed=removed, unknown=found is _MISSING)
        then = None if found is _MISSING or gone else _shown(key.path, found)
        yield Entry("lost_key", FAIL, dotted(key.path), _shown(key.path, key.value), then, remedy, key.file)


def _is_news(dropped: DroppedKey, state: UpgradeState) -> bool:
    return dropped.is_dropped_by(state.then) and not dropped.is_dropped_by(state.now)


def _is_of(key: FileKey, defaults: EffectiveConfig | None) -> bool:
    """Return whether a key is one of a plugin that a version has."""
    return key.place[0] == "plugins" and defaults is not None and not defaults.plugins.isdisjoint(key.place[1:2])


def _is_default(key: FileKey, defaults: EffectiveConfig | None) -> bool:
    """Return whether a key has its default value: ``config default`` writes all defaults to a file."""
    return defaults is not None and agrees(key.value, defaults.lookup(key.place, _MISSING))


def _remedy(key: FileKey, state: UpgradeState, *, removed: bool, unknown: bool) -> str:
    """Return what to do about a key. ``removed``: the new version lacks its plugin, ``unknown``: the key itself."""
    if removed:
        return f"containerd {state.then} has no plugin {key.place[1]}: remove its table from {key.file} if nothing uses it"
    if key.dropped_without_handlers:
        return f"declare a runtime handler in {key.file}, such as runc, beside this key: without one its migration drops the key"
    if unknown:
        return (
            f"containerd {state.then} has no such key there: write {key.file} in the newest schema that this version reads, with "
            "the key in its place, or remove the key if nothing depends on it"
        )
    return (
        f"set it with settings of this collection, or write {key.file} in the newest schema that containerd {state.then} "
        "reads, with the key in its place there"
    )


def _shown(path: Path, value: Any) -> Any:
    """Return a value for people and logs."""
    if value is not None and any(is_secret(part) for part in path):
        return "a secret"
    return without_secrets(value) if isinstance(value, str) else value


@comparison
def new_keys(state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield keys of others that do nothing today, and would take effect."""
    for key, later in keys_in_both(state.others, before.schema, after.schema):
        found = after.lookup(later.place, _MISSING)
        if agrees(key.value, before.lookup(key.place)) or not agrees(later.value, found) or is_own(later.place, state.own):
            continue
        if later.value in _NOTHING or agrees(later.value, _looked_up(state.default_after, later.place)):
            continue
        if later.place[0] == "plugins" and not _is_of(later, state.default_after):
            continue
        now = _shown(key.path, before.lookup(key.place))
        remedy = f"remove the key from {key.file} if it shall not take effect"
        yield Entry("new_key", WARN, dotted(key.path), now, _shown(key.path, later.value), remedy, key.file)


def _looked_up(config: EffectiveConfig | None, path: Path) -> Any:
    return config.lookup(path, _MISSING) if config is not None else _MISSING


@comparison
def meanings(state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield settings with another meaning."""
    for row in MEANINGS:
        yield from row.compare(state, before, after)


@comparison
def gone_runtimes(state: UpgradeState, _before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield runtime handlers whose shim is gone."""
    for name, handler in after.handlers.items() if state.then.at_least("2.0.0") > state.now.at_least("2.0.0") else ():
        if handler.type in _GONE_TYPES:
            what = f"the type of the runtime handler {name}"
            yield Entry("gone_runtime", FAIL, what, handler.type, None, f"declare {name} with the type io.containerd.runc.v2")


@comparison
def plugin_names(state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield plugins that are disabled or required by a name that 2.0 has changed."""
    if not state.then.at_least("2.0.0") > state.now.at_least("2.0.0"):
        return
    renamed = [name for name in RENAMED if name in after.disabled_plugins]
    for name in renamed:
        remedy = f"name {RENAMED[name]} in disabled_plugins after the upgrade"
        yield Entry("disabled_plugin", FAIL, name, "disabled", "loaded", remedy)
    required = after.lookup(("required_plugins",)) or ()
    for name in required:
        if name in RENAMED or name in _GONE_IN_2:
            remedy = "remove the name from required_plugins" + (f", or name {RENAMED[name]}" if name in RENAMED else "")
            yield Entry("required_plugin", FAIL, name, "loaded", "the daemon does not start", remedy)


@comparison
def defaults(state: UpgradeState, before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield settings that no file makes, and for which the new version has another default."""
    forward = before.schema <= after.schema
    older, newer = (before, after) if forward else (after, before)
    covered = {place(path, "", 2, newer.schema)[0] for row in MEANINGS for path in row.keys}
    covered |= {key.place for _key, key in keys_in_both(state.others, older.schema, newer.schema) if key.value != {}}
    for path, value in older.leaves().items():
        where, moved = place(path, value, older.schema, newer.schema)
        found = newer.lookup(where, _MISSING)
        if path[0] in _NO_DEFAULTS or found in (_MISSING, *_NOTHING) or moved in _NOTHING or agrees(moved, found):
            continue
        if is_own(where, covered) or (forward and is_own(where, state.own)):
            continue
        now, then = (moved, found) if forward else (found, moved)
        yield Entry("default", INFO, dotted(where), _shown(where, now), _shown(where, then))


@rule
def network(state: UpgradeState) -> Iterator[Entry]:
    """Yield faults of the pods' network that come with the new version."""
    if state.network_problems:
        remedy = "install the missing plugins, or name their directory in cni.bin_dirs in settings.extra_config"
        yield Entry("cni", FAIL, "the network of pods", "found", list(state.network_problems), remedy)


@rule
def snapshots(state: UpgradeState) -> Iterator[Entry]:
    """Yield snapshots that the new version would not find."""
    if state.moved_snapshots and not any(f".{name}." in state.moved_snapshots for name in state.held or ()):
        cause, _colon, remedy = state.moved_snapshots.partition(": ")[2].partition(": ")
        yield Entry("snapshots", FAIL, "the directory of a snapshotter", "found", cause, remedy)
    if state.held is None:
        yield _unknown(state, "held", "snapshots of snapshotters that the new version lacks")
    for name, holders in (state.held or {}).items():
        remedy = "copy the data that you need, and unpack the images for another snapshotter, before the upgrade"
        yield Entry("snapshotter_gone", FAIL, f"the snapshotter {name}", list(holders), None, remedy)


@comparison
def used_snapshotters(state: UpgradeState, _before: EffectiveConfig, after: EffectiveConfig) -> Iterator[Entry]:
    """Yield snapshotters that CRI would use, and that are no part of the new version."""
    known = state.default_after.plugins if state.default_after is not None else frozenset()
    for name in after.used_snapshotters if known else ():
        if SNAPSHOTTER_PREFIX + name not in known and name not in (*after.proxy_snapshotters, *(state.held or ())):
            remedy = "choose another one with settings.snapshotter or settings.runtimes before the upgrade"
            yield Entry("snapshotter_gone", FAIL, f"the snapshotter {name}", "used by CRI", None, remedy)


@rule
def deprecations(state: UpgradeState) -> Iterator[Entry]:
    """Yield deprecated features that the running daemon has seen in use."""
    if state.deprecations is None:
        yield _unknown(state, "deprecations", "deprecated features in use")
    for one in state.deprecations or ():
        if one.name == _CGROUP_V1:
            continue  # The rule surroundings reports it, also for versions that don't record it.
        gone = one.is_gone_in(state.then)
        then = "removed" if gone else "deprecated"
        yield Entry("deprecation", FAIL if gone else WARN, one.name, "in use", then, without_secrets(one.message))


@rule
def surroundings(state: UpgradeState) -> Iterator[Entry]:
    """Yield programs, kernel interfaces and room that the node lacks for the new version, and files that no version reads."""
    for path in state.missing_programs:
        yield Entry("program", FAIL, path, None, "missing", "install it beside the new containerd, as its release contains it")
    if state.cgroup_v1 and state.then.at_least("2.2.0"):
        remedy = "start the node with cgroup v2 (systemd.unified_cgroup_hierarchy=1) before May 2029"
        yield Entry("cgroup", WARN, "cgroup v1", "supported", "deprecated", remedy)
    for one in state.room:
        if one.free < one.needed:
            remedy = f"free {one.needed - one.free} bytes there"
            yield Entry("room", FAIL, f"room in {', '.join(one.directories)}", one.free, one.needed, remedy)
    for path in state.unread:
        # The daemon follows only imports that a file names, although ``config dump`` of 2.2 and newer prints a default for it.
        yield Entry("unread_file", INFO, path, "not read", "not read, as no file imports it", source=path)


def _unknown(state: UpgradeState, name: str, what: str) -> Entry:
    reason = state.trouble.get(name, "it can't be read")
    return Entry("unknown", UNKNOWN, what, None, reason, "start the daemon if it doesn't run, then compare again")
