# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of all Kata handlers of a node."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.tree import Tree
from ansible_collections.slipway.node.plugins.module_utils.kata.directory import check_drop_in, reading_order
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import (
    effective_settings,
    merged,
    parse_file,
    runtime_of,
)
from ansible_collections.slipway.node.plugins.module_utils.kata.matrix import REFUSED, UNKNOWN, Combination, Verdict, classify
from ansible_collections.slipway.node.plugins.module_utils.kata.options import GO, HYPERVISORS, RUST
from ansible_collections.slipway.node.plugins.module_utils.kata.state import DEVICES, DeclaredHandler
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unknown,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.handler_checks import is_runc

# The values of shared_fs with which Kata starts the program virtio_fs_daemon.
_SHARED_BY_DAEMON = ("virtio-fs", "virtio-fs-nydus")
# The hypervisor that is part of the Rust runtime: its path leads to no program.
_BUILT_IN = "dragonball"
# The keys of programs among those of files.
PROGRAM_KEYS = ("path", "jailer_path", "virtio_fs_daemon")


class NotReadable(ValueError):
    """Kata couldn't start with this handler's files."""


@dataclass(frozen=True)
class Inspection:
    """The effective configuration of a handler's files. A verdict of None: they name an unknown hypervisor.

    ``files`` are the programs and files that the hypervisor needs, by key. ``confidential``: the firmware may bring them.
    """

    runtime: str
    effective: Mapping[str, Any]
    verdict: Verdict | None
    files: Mapping[str, str] = field(default_factory=dict)
    confidential: bool = False


def inspect(handler: DeclaredHandler, default_snapshotter: str = "overlayfs", *, risk_accepted: bool = False) -> Inspection:
    """Read the handler's files as Kata does. Raises NotReadable for files with which Kata can't start."""
    if handler.main is None or handler.path is None:
        raise NotReadable(f"there is no file {handler.path}" if handler.path else "no ConfigPath, and no file in Kata's places")
    try:
        tree = parse_file(handler.path, handler.main)
        runtime = runtime_of(tree)
        tree = _with_drop_ins(handler, runtime, tree)
        section = _section(handler, runtime, tree)
    except ValueError as error:
        raise NotReadable(str(error)) from error
    settings = effective_settings(tree, section)
    files = _named_files(section, tree["hypervisor"][section])
    known = [one.name for one in HYPERVISORS if one.runtime == runtime and section in one.sections]
    if not known:
        return Inspection(runtime, settings, None, files)
    combination = Combination(
        runtime,
        known[0],
        handler.snapshotter or default_snapshotter,
        version=handler.version,
        disable_block_device_use=bool(settings["disable_block_device_use"]),
        block_device_driver=settings["block_device_driver"] or None,
        shared_fs=settings["shared_fs"] or None,
        allow_host_disk_hotplug=risk_accepted,
        guest_pull=settings["force_guest_pull"],
    )
    confidential = tree["hypervisor"][section].get("confidential_guest") is True
    return Inspection(runtime, settings, classify(combination), files, confidential)


def _named_files(section: str, table: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths that a hypervisor's table names, by key, as far as the hypervisor reads them."""
    keys = ["path", "jailer_path", "kernel", "image", "initrd", "firmware"]
    if table.get("shared_fs", "virtio-fs") in _SHARED_BY_DAEMON:
        keys.append("virtio_fs_daemon")
    if section == _BUILT_IN:
        keys.remove("path")
    return {key: table[key] for key in keys if isinstance(table.get(key), str) and table[key]}


def image_problem(inspection: Inspection) -> str:
    """Return why the Go runtime can't choose between image and initrd, empty if it can: CONFIG_GO, getInitrdAndImage."""
    if inspection.runtime != GO or inspection.verdict is None or inspection.confidential:
        return ""
    number = len({"image", "initrd"}.intersection(inspection.files))
    return ("neither image nor initrd is set", "", "image and initrd are both set, and Kata accepts only one")[number]


def _starts_runc(kind: str, path: str | None) -> bool:
    """Return whether a handler's shim is runc's. A path replaces the shim of the type."""
    return posixpath.basename(path).startswith("containerd-shim-runc-") if path else is_runc(kind)


def _with_drop_ins(handler: DeclaredHandler, runtime: str, tree: Tree) -> Tree:
    for name in sorted(handler.drop_ins, key=reading_order):
        check_drop_in(runtime, name, handler.drop_ins[name])
        tree = merged(runtime, tree, parse_file(name, handler.drop_ins[name].content or b""))
    return tree


def _section(handler: DeclaredHandler, runtime: str, tree: Tree) -> str:
    sections = list(tree.get("hypervisor", {}))
    if runtime == RUST:
        # The Rust runtime starts the one that is named.
        sections = [name for name in sections if name == tree["runtime"]["hypervisor_name"]]
    if len(sections) != 1:
        raise ValueError(f"{handler.path} and its drop-ins have {len(sections)} hypervisors to start, not one")
    return str(sections[0])


def _default_snapshotter(state: NodeState) -> str:
    return state.config.default_snapshotter if state.config is not None else "overlayfs"


def _unread(expected: Any, state: NodeState, expectation: Expectation) -> Finding | None:
    """Return unknown if the node should or may have handlers. If the daemon can't be read, other checks report that."""
    concerned = expectation.kata or "kata" in state.trouble
    return unread(expected, state, "kata", "config", "version") if concerned else None


def _of_each(
    expected: str,
    state: NodeState,
    expectation: Expectation,
    look: Callable[[DeclaredHandler], str | None],
    remedy: str,
) -> Finding | None:
    """Return one finding on all handlers of the node: ok, or the faults that ``look`` returns for each handler."""
    if state.kata is None:
        return _unread(expected, state, expectation)
    if not state.kata.handlers:
        return None
    wrong = {handler.name: problem for handler in state.kata.handlers for problem in [look(handler)] if problem}
    if wrong:
        return fail(expected, wrong, remedy)
    return ok(expected, [handler.name for handler in state.kata.handlers])


@check
def kata_handlers(state: NodeState, expectation: Expectation) -> Finding | None:
    """Expected handlers are declared."""
    expected = [handler.name for handler in expectation.kata]
    if not expected:
        return None
    if state.kata is None:
        return unread(expected, state, "kata", "config", "version")
    declared = [handler.name for handler in state.kata.handlers]
    others = {name: handler.type for name, handler in state.config.handlers.items()} if state.config is not None else {}
    missing = [
        f"{name} is declared with {others[name]}, which doesn't start Kata" if name in others else f"not declared: {name}"
        for name in expected
        if name not in declared
    ]
    if missing:
        return fail(expected, "; ".join(missing), CONFIGURE)
    return ok(expected, declared)


@check
def kata_isolation(state: NodeState, expectation: Expectation) -> Finding | None:
    """No handler with Kata's configuration starts containers without a guest."""
    expected = "each handler with a configuration of Kata starts Kata"
    if state.kata is None or state.config is None:
        return _unread(expected, state, expectation)
    wrong = [
        f"{name} has Kata's ConfigPath {handler.config_path}, and {handler.path or handler.type} starts runc"
        for name, handler in state.config.handlers.items()
        if handler.config_path and _starts_runc(handler.type or "", handler.path)
    ]
    if wrong:
        return fail(expected, "; ".join(wrong), "correct runtime_type and runtime_path of these handlers, and restart the daemon")
    return ok(expected, [handler.name for handler in state.kata.handlers]) if state.kata.handlers else None


@check
def kata_config_files(state: NodeState, expectation: Expectation) -> Finding | None:
    """Kata can start with each handler's files, and ``config.d`` contains only drop-ins."""
    expected = "each handler names its file, and config.d contains only drop-ins"
    remedy = "repair or remove the named file, or correct ConfigPath or KATA_CONF_FILE, which lead Kata to it"

    named = (state.environment or {}).get("KATA_CONF_FILE")

    def look(handler: DeclaredHandler) -> str | None:
        try:
            runtime = inspect(handler).runtime
        except NotReadable as error:
            return str(error)
        if runtime == RUST and named and handler.config_path and named != handler.config_path:
            return f"KATA_CONF_FILE in the environment of {state.unit} makes it read {named}, not {handler.config_path}"
        return None

    finding = _of_each(expected, state, expectation, look, remedy)
    if finding is None or finding.status != "ok" or state.kata is None:
        return finding
    assumed = [f"{one.name}: {one.assumed_path}" for one in state.kata.handlers if one.config_path is None]
    if assumed:
        remedy = "set ConfigPath in the options of these handlers"
        return warn(expected, f"no ConfigPath, so Kata searches its file and probably reads {', '.join(assumed)}", remedy)
    odd = [name for handler in state.kata.handlers for name in sorted(handler.drop_ins) if not name.endswith(".toml")]
    if odd:
        return warn(expected, f"read as drop-ins: {', '.join(dict.fromkeys(odd))}", "remove them if they are backups")
    return finding


@check
def kata_files(state: NodeState, expectation: Expectation) -> Finding | None:
    """The hypervisor, the kernel and the image of each handler exist."""
    expected = "the programs and files that each handler's configuration names"
    if "kata_file_problems" in state.trouble:
        return unread(expected, state, "kata_file_problems")
    remedy = "install Kata, or correct the named keys"
    return _of_each(expected, state, expectation, lambda handler: state.kata_file_problems.get(handler.name), remedy)


@check
def kata_settings(state: NodeState, expectation: Expectation) -> Finding | None:
    """The settings of each handler are those of the inventory."""
    expected: dict[str, Any] = {handler.name: dict(handler.settings) for handler in expectation.kata if handler.settings}
    if not expected:
        return None
    if state.kata is None:
        return unread(expected, state, "kata", "config", "version")
    found: dict[str, Any] = {}
    for handler in state.kata.handlers:
        if handler.name in expected:
            try:
                settings = inspect(handler).effective
                found[handler.name] = {key: settings[key] for key in expected[handler.name]}
            except NotReadable as error:
                found[handler.name] = str(error)
    if found == expected:
        return ok(expected, found)
    return fail(expected, {name: found.get(name, "not declared") for name in expected}, CONFIGURE)


@check
def kata_rootfs_transport(state: NodeState, expectation: Expectation) -> Finding | None:
    """No handler has a combination that can't work or that endangers the host."""
    expected = "each guest gets its root file systems, and never the host's disk"
    if state.kata is None or not state.kata.handlers:
        return _of_each(expected, state, expectation, lambda handler: None, "")
    refused, doubtful, found = {}, {}, {}
    accepted = {handler.name for handler in expectation.kata if handler.allow_host_disk_hotplug}
    for handler in state.kata.handlers:
        try:
            verdict = inspect(handler, _default_snapshotter(state), risk_accepted=handler.name in accepted).verdict
        except NotReadable as error:
            doubtful[handler.name] = str(error)
            continue
        if verdict is None or verdict.transport == UNKNOWN:
            doubtful[handler.name] = verdict.reason if verdict else "an unknown hypervisor"
        elif verdict.transport == REFUSED:
            refused[handler.name] = f"{verdict.reason} ({verdict.source})"
        else:
            found[handler.name] = verdict.transport
    if refused:
        return fail(expected, refused, "set the named options of these handlers with kata_config")
    if doubtful:
        return unknown(expected, f"{doubtful}", "see docs/kata.md for the known combinations")
    return ok(expected, found)


@check
def kata_snapshotters(state: NodeState, expectation: Expectation) -> Finding | None:
    """Each handler has the expected snapshotter in every place that the daemon reads, and the snapshotter is ok."""
    default = _default_snapshotter(state)
    wanted = {handler.name: handler.snapshotter for handler in expectation.kata}
    plugins = state.daemon.plugins if state.daemon is not None else None
    states = {one.id: one.status for one in plugins or () if one.is_snapshotter}

    def look(handler: DeclaredHandler) -> str | None:
        places = {place: name or default for place, name in handler.snapshotters.items()}
        if len(set(places.values())) > 1:
            return f"{places}: images are unpacked for one and searched in another"
        name = next(iter(places.values()), default)
        if handler.name in wanted and name != wanted[handler.name]:
            return f"{name}, but {wanted[handler.name]} is expected"
        if plugins is not None and states.get(name, "not loaded") != "ok":
            return f"{name} is {states.get(name, 'not loaded')} in the daemon"
        return None

    # A run sets that of the inventory's handlers alone.
    remedy = CONFIGURE if expectation.kata else "name one snapshotter for each handler in the daemon's configuration"
    return _of_each("one snapshotter for each handler, in state ok", state, expectation, look, remedy)


@check
def kata_devices(state: NodeState, expectation: Expectation) -> Finding | None:
    """The devices that guests need exist."""
    if state.kata is None:
        return _unread(list(DEVICES), state, expectation)
    if not (state.kata.handlers or expectation.kata):
        return None
    expected = list(state.kata.devices)
    missing = [path for path, found in state.kata.devices.items() if not found]
    if missing:
        remedy = "enable virtualisation in the firmware or the outer hypervisor, and load kvm, vhost_net and vhost_vsock"
        return fail(expected, f"missing: {', '.join(missing)}", remedy)
    return ok(expected, "all present")
