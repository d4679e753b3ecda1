# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan for each configuration file, so that the daemon has the requested settings.

On 1.x an imported file replaces whole plugin tables, so the settings go into the root file, key by
key. From 2.0 on plugin tables are merged, so they go into a drop-in that the collection owns, and
the root file has to import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config import tables as schema
from ansible_collections.slipway.node.plugins.module_utils.config.record import OwnedKey, Record
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import MANAGED
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd import imports, names
from ansible_collections.slipway.node.plugins.module_utils.containerd.names import CRI_NAMES
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import NEED_HANDLERS, moved_in_4
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version, schema_support
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import FileChange, holds_secrets
from ansible_collections.slipway.node.plugins.module_utils.core.tree import (
    Path,
    Tree,
    dotted,
    edited_tree,
    flatten,
    lookup,
    merge,
    nest,
)

HEADER = f"{MANAGED} Change the inventory instead."
FILE_HEADER = "Created by slipway.node, because there was no file. Other settings can be added."
_MISSING = object()


@dataclass(frozen=True)
class CurrentConfig:
    """The configuration on the node: texts are None where there is no file."""

    version: Version
    architecture: str
    config_file: str
    drop_in_file: str
    root_text: str | None
    drop_in_text: str | None
    record: Record


@dataclass(frozen=True)
class ConfigPlan:
    """The files in the order in which they are written, and what is remembered of them."""

    files: tuple[FileChange, ...]
    record: Record
    schema: int

    @property
    def changes(self) -> tuple[FileChange, ...]:
        """Return the files that change."""
        return tuple(change for change in self.files if change.changed)


def _parsed(found: CurrentConfig) -> Tree:
    try:
        return toml.parse(found.root_text or "")
    except ValueError as error:
        raise ValueError(f"{found.config_file} is not valid TOML: {error}. Repair it by hand, or move it away") from error


def file_schema(root: Mapping[str, Any], found: CurrentConfig) -> int:
    """Return the schema that the root file is, or is to be, written in.

    A file without ``version`` is schema 1 to a 1.x daemon, and the newest one to 2.0 to 2.2. 2.3 and newer migrate it from
    schema 1 on, so what it says in any newer schema counts; schema 2 keeps all of that but short names of plugins.
    Raises ValueError for a file that has to be migrated by its owner first.
    """
    newest = schema_support(found.version).newest
    version = root.get("version", 0)
    if not isinstance(version, int) or version < 0 or version > newest:
        raise ValueError(
            f"{found.config_file} is written in schema {version!r}, and containerd {found.version} reads up to {newest}: "
            "upgrade containerd, or migrate the file"
        )
    if version >= 2:
        return version
    plugins = root.get("plugins")
    short = [name for name in plugins if not name.startswith("io.containerd.")] if isinstance(plugins, dict) else []
    if newest > 2 and (version == 1 or short):
        where = f" (plugins.{short[0]})" if short else ""
        raise ValueError(
            f"{found.config_file} is written in schema 1{where}: "
            "replace it with the output of 'containerd config migrate' first, and check that nothing is missing there"
        )
    if short:
        raise ValueError(
            f"{found.config_file} is written in schema 1 (plugins.{short[0]}): "
            "rewrite it in schema 2, with version = 2 and full plugin names, first"
        )
    if newest == 4 and not (plugins or any(moved_in_4(path) for path in flatten(root))):
        return newest
    return 3 if newest == 3 else 2


def _enabled_cri(theirs: Mapping[str, Any], found: CurrentConfig, enable: bool) -> dict[Path, Any]:
    """Return the edit of ``disabled_plugins`` that gives CRI back; schema 1's short names become full ones."""
    puts: dict[Path, Any] = {}
    for key in ("disabled_plugins", "required_plugins"):
        listed = theirs.get(key, [])
        if not isinstance(listed, list):
            raise ValueError(f"{found.config_file}: {key} has to be a list of names")
        wanted = [name for name in listed if not (enable and key == "disabled_plugins" and name in CRI_NAMES)]
        if theirs.get("version", 0) < 2:
            short = [name for name in wanted if not str(name).startswith("io.containerd.") and name != "cri"]
            if short:
                raise ValueError(
                    f"{found.config_file} names {short[0]!r} in {key} without a version key: "
                    "add version = 2 and write the full plugin name"
                )
            wanted = [names.CRI_V2 if name == "cri" else name for name in wanted]
        if wanted != listed:
            puts[(key,)] = wanted
    return puts


def plan_config(found: CurrentConfig, settings: Settings, *, present: bool = True, enable_cri: bool = False) -> ConfigPlan:
    """Plan the contents of the files. Raises ValueError, naming file or option, if it can't be done.

    The plan depends on the settings and on the root file as others wrote it, not on an earlier run.
    """
    number = file_schema(_parsed(found), found)
    known = found.record.knows(found.root_text)
    base = replace(found, root_text=found.record.original, record=Record()) if known else found
    root = _parsed(base)
    theirs = _without_ours(root, base.record)
    merges = schema_support(found.version).merges_plugin_tables
    tree = schema.tables(settings, found.version, number, found.architecture) if present else {}
    drop_in = None
    puts: dict[Path, Any] = {}
    if tree:
        completions = schema.completions(tree, found.version, number)
        if merges:
            drop_in = toml.render({"version": number, **merge(completions, tree)}, HEADER)
            puts = _handlers_for_migration(theirs) if number == 2 else {}
        else:
            puts = {**_unset(theirs, completions), **_filled(theirs, flatten(tree))}
    if present and (puts or drop_in or enable_cri):
        puts = {**_enabled_cri(theirs, found, enable_cri), **puts}
    if (puts or drop_in) and theirs.get("version", 0) < 2:
        puts[("version",)] = number
    root_text, record = _edit_root(root, theirs, base, puts, import_drop_in=drop_in is not None)
    root_change = FileChange(found.config_file, found.root_text, root_text, _mode(root_text))
    drop_in = own_text("drop_in_file", found.drop_in_file, found.drop_in_text, drop_in)
    drop_in_change = FileChange(found.drop_in_file, found.drop_in_text, drop_in, _mode(drop_in))
    # The daemon fails on an import that isn't there, so the drop-in comes first and goes last.
    files = (root_change, drop_in_change) if drop_in is None else (drop_in_change, root_change)
    return ConfigPlan(files, record, number)


def _handlers_for_migration(theirs: Mapping[str, Any]) -> dict[Path, Any]:
    """Return the empty table of handlers without which 2.x doesn't migrate the keys of others in a root file of schema 2.

    2.0 to 2.2 find one in the drop-in, and 2.3 and newer look for it in the root file.
    """
    containerd: Path = ("plugins", names.CRI_V2, "containerd")
    table = lookup(theirs, containerd)
    needed = isinstance(table, Mapping) and "runtimes" not in table and any((key,) in NEED_HANDLERS for key in table)
    return {(*containerd, "runtimes"): {}} if needed else {}


def own_text(option: str, path: str, before: str | None, wanted: str | None) -> str | None:
    """Return the content of a file of the collection's own: as wanted, or as it is if others wrote it and nothing is wanted.

    Raises ValueError, naming the option that moves the file elsewhere, if others wrote the file and something is wanted.
    """
    if not is_foreign(before):
        return wanted
    if wanted is not None:
        raise ValueError(f"{option}: {path} was not written by slipway.node, and is not replaced: move it away, or merge it")
    return before


def is_foreign(text: str | None) -> bool:
    """Return whether a file at a path of the collection's own was written by others."""
    return text is not None and not text.startswith(f"# {MANAGED}")


def _mode(text: str | None) -> int:
    return 0o600 if text is not None and holds_secrets(text) else 0o644


def _unset(theirs: Mapping[str, Any], tree: Tree) -> dict[Path, Any]:
    """Return the leaves of a tree for the places where no other file puts a value."""
    return {path: value for path, value in flatten(tree).items() if lookup(theirs, path) is None}


def _filled(theirs: Mapping[str, Any], leaves: Mapping[Path, Any]) -> dict[Path, Any]:
    """Return the leaves without empty tables in the place of tables that others have filled, or made."""
    return {path: leaf for path, leaf in leaves.items() if leaf != {} or not isinstance(lookup(theirs, path), dict)}


def _before(theirs: Mapping[str, Any], path: Path) -> tuple[bool, Any]:
    before = lookup(theirs, path, _MISSING)
    if before is _MISSING:
        return False, None
    try:
        toml.value_text(before)
    except ValueError as error:
        raise ValueError(
            f"{dotted(path)} is {before} there, which is not the type of a setting of containerd: remove it first"
        ) from error
    return True, before


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and type(one) is type(other)


def _edit_root(
    root: Mapping[str, Any], theirs: Mapping[str, Any], found: CurrentConfig, puts: Mapping[Path, Any], *, import_drop_in: bool
) -> tuple[str | None, Record]:
    record = found.record
    put, drop = _returned(root, record, puts)
    keys: dict[Path, OwnedKey] = {}
    for path, value in puts.items():
        key = record.keys.get(path) or OwnedKey(value, *_before(theirs, path))
        if not (key.had and _same(key.before, value)):
            keys[path] = replace(key, value=value, earlier=())
        if not _same(lookup(root, path, _MISSING), value):
            put[path] = value
    imported = _import_edit(root, found, put, drop, wanted=import_drop_in)
    had_imports = imported is not None and (record.had_imports if record.imported else "imports" in root)
    tables = {path[:depth] for path in keys for depth in range(1, len(path)) if lookup(theirs, path[:depth]) is None}
    text = found.root_text
    created = record.created or (text is None and bool(put))
    if put or drop:
        try:
            if text is None:
                text = toml.render(nest(put), FILE_HEADER)
            else:
                # It imports tomlkit, which a run that edits no file doesn't need.
                from ansible_collections.slipway.node.plugins.module_utils.core.toml_edit import edit  # noqa: PLC0415

                empty = (record.tables | tables) - set(put)
                text = edit(text, put=put, drop=drop, drop_if_empty=empty)
        except ValueError as error:
            raise ValueError(f"{found.config_file}: {error}") from error
    if record.created and (text or "").strip() in ("", f"# {FILE_HEADER}"):
        text, created = None, False
    ours = Record(keys=keys, tables=frozenset(tables), created=created, imported=imported, had_imports=had_imports)
    return text, ours.with_original(found.root_text, text) if record == Record() else ours


def _without_ours(root: Mapping[str, Any], record: Record) -> Tree:
    """Return the root file as it would be had the collection never set a key in it."""
    put, drop = _returned(root, record, {})
    return edited_tree(root, put=put, drop=drop, drop_if_empty=record.tables)


def _returned(root: Mapping[str, Any], record: Record, puts: Mapping[Path, Any]) -> tuple[dict[Path, Any], list[Path]]:
    """Return the managed keys that are no longer wanted: those that get their old value again, and those to remove.

    An entry that was changed since is kept.
    """
    put: dict[Path, Any] = {}
    drop: list[Path] = []
    for path, key in record.keys.items():
        if path in puts or lookup(root, path, _MISSING) not in (key.value, *key.earlier):
            continue
        if key.had:
            put[path] = key.before
        else:
            drop.append(path)
    return put, drop


def _import_edit(
    root: Mapping[str, Any], found: CurrentConfig, put: dict[Path, Any], drop: list[Path], *, wanted: bool
) -> str | None:
    """Add the edit of ``imports`` to put and drop; return the entry that is ours, if any."""
    imports.patterns(root, found.config_file)
    current = list(root.get("imports", []))
    ours = found.record.imported
    if wanted:
        if imports.covered(root, found.config_file, found.drop_in_file):
            return ours
        put[("imports",)] = [one for one in current if one != ours] + [found.drop_in_file]
        return found.drop_in_file
    if ours is not None and ours in current:
        rest = [one for one in current if one != ours]
        if rest or found.record.had_imports:
            put[("imports",)] = rest
        else:
            drop.append(("imports",))
    return None


def disabled_in(sources: Mapping[str, Tree]) -> str | None:
    """Find the first of the files (by path) whose ``disabled_plugins`` names CRI."""
    for path, tree in sources.items():
        if any(name in CRI_NAMES for name in tree.get("disabled_plugins", [])):
            return path
    return None
