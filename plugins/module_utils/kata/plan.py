# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan for a directory of Kata configurations.

Kata reads every name in ``config.d`` beside the main file, so a handler has a directory of its own, and nothing but
drop-ins ever lies in its ``config.d``. A mark in the handler's directory says that it is this collection's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.files import without_secrets
from ansible_collections.slipway.node.plugins.module_utils.core.tree import Tree
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import (
    DIRECTORY,
    DROP_IN,
    DROP_IN_DIRECTORY,
    FILE,
    MAIN,
    MARK,
    MODE,
    OTHER,
    TEMPORARY_PREFIX,
    DirectoryEntry,
    HandlerDirectory,
    KataDirectory,
    check_drop_in,
    reading_order,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import (
    KATA_DEPLOY_MARK,
    Handler,
    Vendor,
    check_known,
    combination,
    drop_in_text,
    drop_in_tree,
    effective_settings,
    merged,
    missing_program,
    overridden,
    parse_file,
    section_of,
    unknown_keys,
    vendor_tree,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import REFUSED, Verdict, classify
from ansible_collections.slipway.node.plugins.module_utils.kata.options import GO, RUST, dangers, unread

MARK_TEXT = b"slipway.node.kata_config made this directory, and removes its own files from it.\n"

# A snapshotter that isn't a block snapshotter.
_SHARED = "overlayfs"


@dataclass(frozen=True)
class Change:
    """One file to write, or to remove where ``after`` is None. ``name`` is relative to the handler's directory."""

    name: str
    before: DirectoryEntry | None
    after: bytes | None


@dataclass(frozen=True)
class DirectoryChange:
    """One handler's directory. ``create``: it isn't there, and appears whole. ``remove``: it goes if nothing is left in it."""

    path: str
    changes: tuple[Change, ...]
    leftovers: tuple[str, ...] = ()
    create: bool = False
    remove: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.changes or self.leftovers or self.remove)


@dataclass(frozen=True)
class Plan:
    """The changes in their order. Paths are absolute; ``reports`` is what the module says of each handler.

    ``deferred`` are the handlers that are left for a run after containerd's, ``unlisted`` our others.
    """

    config_dir: str
    directories: tuple[DirectoryChange, ...]
    leftovers: tuple[str, ...]
    reports: tuple[Mapping[str, Any], ...] = ()
    deferred: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.leftovers) or any(one.changed for one in self.directories)

    def result(self) -> dict[str, Any]:
        """Return the module's result."""
        changes = [(f"{one.path}/{change.name}", change) for one in self.directories for change in one.changes]
        leftovers = [f"{self.config_dir}/{name}" for name in self.leftovers]
        leftovers += [f"{one.path}/{name}" for one in self.directories for name in one.leftovers]
        return {
            "changed": self.changed,
            "handlers": [dict(report) for report in self.reports],
            "files": [path for path, change in changes if change.after is not None],
            "removed": [path for path, change in changes if change.after is None] + leftovers,
            "deferred": list(self.deferred),
            "unlisted": list(self.unlisted),
            "diff": [_diff(path, change) for path, change in changes if not path.endswith(f"/{MARK}")],
        }


def is_ours(directory: HandlerDirectory) -> bool:
    """Return whether this module made the directory, or its part of it."""
    return MARK in directory


def plan_present(
    found: KataDirectory,
    handlers: Sequence[Handler],
    vendors: Mapping[str, Vendor],
    *,
    config_dir: str,
    purge: bool,
    defer_unsafe: bool = False,
) -> Plan:
    """Plan the directories of the handlers, and the removal of our others if ``purge``.

    ``vendors`` has each handler's vendor file by the handler's name. ``defer_unsafe``: containerd is configured later, so a
    handler waits whose new settings could endanger the host as long as it has another snapshotter. Raises ValueError, naming
    the handler or the file, for what Kata couldn't run, what would endanger the host, and what belongs to others.
    """
    directories, reports, deferred = [], [], []
    for handler in handlers:
        path = f"{config_dir}/{handler.name}"
        directory = found.directories.get(handler.name)
        if handler.name in found.others:
            raise ValueError(f"{path} is not a directory: move it away, or choose another config_dir")
        _refuse_foreign(path, directory)
        state = _State(handler, vendors[handler.name], path, directory or {})
        reports.append(state.report())
        if defer_unsafe and state.waits_for_daemon():
            deferred.append(handler.name)
            continue
        directories.append(state.change(create=directory is None))
    listed = {handler.name for handler in handlers}
    unlisted = [name for name, directory in sorted(found.directories.items()) if name not in listed and is_ours(directory)]
    directories += [_removal(f"{config_dir}/{name}", found.directories[name]) for name in unlisted if purge]
    changes = tuple(one for one in directories if one.changed)
    return Plan(config_dir, changes, found.leftovers, tuple(reports), tuple(deferred), tuple(unlisted))


def plan_absent(found: KataDirectory, names: Sequence[str], *, config_dir: str) -> Plan:
    """Plan the removal of what is ours of the named handlers; of all if none are named."""
    gone = [name for name, directory in sorted(found.directories.items()) if is_ours(directory) and (not names or name in names)]
    directories = [_removal(f"{config_dir}/{name}", found.directories[name]) for name in gone]
    return Plan(config_dir, tuple(directories), found.leftovers)


def _refuse_foreign(path: str, directory: HandlerDirectory | None) -> None:
    if directory is None or is_ours(directory):
        return
    for name, entry in sorted(directory.items()):
        if name.startswith("configuration") and name.endswith(".toml"):
            mark = KATA_DEPLOY_MARK.encode() in (entry.content or b"")
            owner = "is kata-deploy's, and left to it" if mark else "was not created by this module"
            raise ValueError(f"{path}/{name} {owner}: choose another name or config_dir, or move it away")


def _removal(path: str, directory: HandlerDirectory) -> DirectoryChange:
    """Plan the removal: the main file first, as it is unsafe without the drop-in, and the mark last."""
    changes = tuple(Change(name, directory[name], None) for name in (MAIN, DROP_IN, MARK) if name in directory)
    return DirectoryChange(path, changes, _leftovers(directory), remove=True)


def _leftovers(directory: HandlerDirectory) -> tuple[str, ...]:
    return tuple(sorted(name for name in directory if name.startswith(TEMPORARY_PREFIX)))


class _State:
    """One handler's directory as it is and as it is to be."""

    def __init__(self, handler: Handler, vendor: Vendor, path: str, directory: HandlerDirectory) -> None:
        self.handler = handler
        self.vendor = vendor
        self.path = path
        self.directory = directory
        self.base = vendor_tree(handler, vendor)
        self.section = section_of(handler, self.base)
        _check_places(path, directory)
        self.foreign = list(_foreign(directory))
        for name in self.foreign:
            check_drop_in(handler.runtime, f"{path}/{name}", directory[name])
        self.trees = {name: parse_file(f"{path}/{name}", directory[name].content or b"") for name in self.foreign}
        for name, tree in self.trees.items():
            self._check_sections(name, tree)
        self.warnings = list(check_known(handler, vendor, self.section))
        tree = self._merged(self.base, drop_in_tree(handler, self.section))
        self.effective = effective_settings(tree, self.section)
        self.program = tree["hypervisor"][self.section].get("path", "")
        self.verdict = self._judge(self.effective)
        if self.verdict.transport == REFUSED:
            raise ValueError(self._refusal())

    def _merged(self, base: Tree, own: Tree) -> Tree:
        tree = base
        for _name, drop_in in sorted([*self.trees.items(), (DROP_IN, own)], key=lambda one: reading_order(one[0])):
            tree = merged(self.handler.runtime, tree, drop_in)
        return tree

    def _judge(self, effective: Mapping[str, Any]) -> Verdict:
        return classify(combination(self.handler, self.vendor, effective))

    def _refusal(self) -> str:
        sentence = f"{self.handler.option}: {self.verdict.reason} ({self.verdict.source})"
        files = [f"{self.path}/{name}" for name in self._overriding()]
        return f"{sentence}; {', '.join(files)} overrides this module's settings" if files else sentence

    def _overriding(self) -> dict[str, list[str]]:
        """Return, by later drop-in, the module's keys to which it gives another value."""
        own = drop_in_tree(self.handler, self.section)
        later = {name: tree for name, tree in self.trees.items() if reading_order(name) > reading_order(DROP_IN)}
        found = {name: overridden(own, tree) for name, tree in later.items()}
        return {name: keys for name, keys in found.items() if keys}

    def _check_sections(self, name: str, tree: Tree) -> None:
        others = [section for section in tree.get("hypervisor", {}) if section != self.section]
        if others and self.handler.runtime == GO:
            raise ValueError(
                f"{self.path}/{name} has a table [hypervisor.{others[0]}], which can make Kata start that hypervisor "
                f"instead of {self.handler.hypervisor}: remove it there"
            )

    def change(self, *, create: bool) -> DirectoryChange:
        main, drop_in = self.vendor.text.encode(), drop_in_text(self.handler, self.section).encode()
        own = [(MAIN, main), (DROP_IN, drop_in)]
        wanted = [(MARK, MARK_TEXT), *(own if self._main_first() else reversed(own))]
        changes = [Change(name, self.directory.get(name), content) for name, content in wanted]
        return DirectoryChange(
            self.path,
            tuple(change for change in changes if _differs(change)),
            _leftovers(self.directory),
            create=create,
        )

    def _main_first(self) -> bool:
        """Return whether the new main file is safe beside the old drop-in. A first drop-in is written before its main file."""
        old = self._old(DROP_IN)
        if old is None or MAIN not in self.directory:
            return False
        between = effective_settings(self._merged(self.base, old), self.section)
        return self._judge(between).transport != REFUSED

    def waits_for_daemon(self) -> bool:
        """Return whether the files that are there are safe with any snapshotter, and the new ones aren't.

        A handler without files waits for nothing: nothing starts by it.
        """
        base, own = self._old(MAIN), self._old(DROP_IN)
        if base is None or own is None or not self._needs_its_snapshotter(self.effective):
            return False
        old = self._merged(base, own)
        other_hypervisor = self.section not in old.get("hypervisor", {})
        return other_hypervisor or not self._needs_its_snapshotter(effective_settings(old, self.section))

    def _needs_its_snapshotter(self, effective: Mapping[str, Any]) -> bool:
        asked = combination(replace(self.handler, snapshotter=_SHARED), self.vendor, effective)
        return classify(asked).transport == REFUSED

    def _old(self, name: str) -> Tree | None:
        """Return one of the module's files as it was found; None if it is missing or can't be read."""
        entry = self.directory.get(name)
        if entry is None or entry.content is None:
            return None
        try:
            return parse_file(name, entry.content)
        except ValueError:
            return None

    def report(self) -> dict[str, Any]:
        handler, overriding = self.handler, self._overriding()
        return {
            "name": handler.name,
            "config_path": f"{self.path}/{MAIN}",
            "drop_in": f"{self.path}/{DROP_IN}",
            "snapshotter": handler.snapshotter,
            "version": str(handler.version or self.vendor.version or "") or None,
            "effective": self.effective,
            "rootfs_transport": self.verdict.transport,
            "reason": self.verdict.reason,
            "source": self.verdict.source,
            "warnings": [*self.verdict.warnings, *self._sentences(overriding)],
            "other_drop_ins": [f"{self.path}/{name}" for name in self.foreign],
            "overridden": [{"path": f"{self.path}/{name}", "settings": keys} for name, keys in overriding.items()],
        }

    def _sentences(self, overriding: Mapping[str, list[str]]) -> Iterator[str]:
        handler = self.handler
        if self.vendor.assumed:
            yield f"{handler.base_config} doesn't exist yet: its content is assumed"
        if self.program and self.program == self.vendor.missing_program:
            yield missing_program(self.program)
        yield from self.warnings
        yield from unread(handler.kind, handler.version or self.vendor.version, handler.settings, self.effective)
        yield from dangers(handler.kind, self.effective)
        for name, keys in overriding.items():
            yield f"{self.path}/{name} overrides {', '.join(keys)}"
        yield from (sentence for name in self.foreign for sentence in self._doubts(name))

    def _doubts(self, name: str) -> Iterator[str]:
        """Yield what may be wrong with a drop-in that this module didn't write."""
        path, tables = f"{self.path}/{name}", self.trees[name].get("hypervisor", {})
        if not name.endswith(".toml"):
            yield f"{path} is read by Kata like any other drop-in: remove it if it is a backup"
        if self.handler.runtime == RUST:
            for section in tables:
                if section != self.section:
                    yield f"{path} has a table [hypervisor.{section}], which is not this handler's"
            return
        for key in unknown_keys(self.handler, self.vendor, tables.get(self.section, {})):
            yield f"{path}: Kata doesn't start unless it knows {key}, and {self.handler.base_config} doesn't mention it"


def _foreign(directory: HandlerDirectory) -> Iterator[str]:
    """Return the names in config.d that aren't ours, in the order in which they are read."""
    for name in sorted(directory, key=reading_order):
        if name.startswith(f"{DROP_IN_DIRECTORY}/") and name != DROP_IN:
            yield name


def _check_places(path: str, directory: HandlerDirectory) -> None:
    """Raise ValueError where something else is in the place of one of our files, or of config.d."""
    if DROP_IN_DIRECTORY in directory:
        raise ValueError(f"{path}/{DROP_IN_DIRECTORY} is not a directory of its own: move it away")
    for name in (MARK, MAIN, DROP_IN):
        if name in directory and directory[name].kind in (DIRECTORY, OTHER):
            raise ValueError(f"{path}/{name} is not a file: move it away")


def _differs(change: Change) -> bool:
    before = change.before
    return before is None or replace(before, content=b"") != DirectoryEntry(FILE, b"", MODE) or before.content != change.after


def _diff(path: str, change: Change) -> dict[str, str]:
    before = _shown(change.before.content) if change.before else ""
    after = _shown(change.after)
    if change.before and change.after is not None and before == after:
        before += f"# {change.before.kind}, mode {change.before.mode:04o}\n"
        after += f"# {FILE}, mode {MODE:04o}\n"
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def _shown(content: bytes | None) -> str:
    return "" if content is None else without_secrets(content.decode(errors="replace"))
