# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of each runtime handler: its shim, the runtime that the shim starts, and their options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import Handler
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unread,
)

# containerd pkg/shim/util.go, BinaryName: the last two parts of the name of a runtime.
_TYPE = re.compile(r"(?:[\w-]+\.)*([\w-]+)\.([\w-]+)\Z")
_RUNC_TYPES = ("io.containerd.runc.v1", "io.containerd.runc.v2")
# The first runtime of containerd, which 2.0 removed, has another shim.
_LINUX_V1 = "io.containerd.runtime.v1.linux"
# The types of options: containerd api/types/runc/options/oci.proto; of other shims, api/types/runtimeoptions/v1/api.proto.
_RUNC_OPTIONS: Mapping[str, type] = {
    "NoPivotRoot": bool,
    "NoNewKeyring": bool,
    "ShimCgroup": str,
    "IoUid": int,
    "IoGid": int,
    "BinaryName": str,
    "Root": str,
    "CriuPath": str,
    "SystemdCgroup": bool,
    "CriuImagePath": str,
    "CriuWorkPath": str,
}
_OTHER_OPTIONS: Mapping[str, type] = {"TypeUrl": str, "ConfigPath": str}
_WORDS = {bool: "true or false", str: "a text", int: "a number"}
# The sandboxer that leaves sandboxes to the shim.
_SHIM = "shim"
# containerd internal/cri/sputil, generateSecurityProfile. Another one begins with the last of these.
_PROFILES = ("", "unconfined", "runtime/default", "docker/default", "localhost/")
_SANDBOX_CONTROLLERS = ("io.containerd.podsandbox.controller.v1", "io.containerd.sandbox.controller.v1")


def is_runc(kind: str) -> bool:
    """Return whether a runtime's shim starts runc."""
    return kind in _RUNC_TYPES


def shim_name(kind: str) -> str:
    """Return the name of the shim of a runtime type, or its path if the type is one; empty if it is unknown."""
    if kind.startswith("/"):
        return kind
    found = _TYPE.match(kind) if kind != _LINUX_V1 else None
    return f"containerd-shim-{found[1]}-{found[2]}" if found else ""


@check
def handler_programs(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon can run the shim of each handler, and the shim its runtime."""
    expected = "each handler's shim and runtime can be run"
    if state.programs is None:
        return unread(expected, state, "config", "environment", "programs", "daemon", "version")
    wrong = {
        name: "; ".join(sentences)
        for name, programs in state.programs.items()
        for sentences in [[one.sentence() for one in programs if one.sentence()]]
        if sentences
    }
    if not wrong:
        return ok(expected, {name: [one.path for one in programs] for name, programs in state.programs.items()})
    remedy = "install the named programs, correct the PATH of the unit, or correct runtime_type, runtime_path or BinaryName"
    return fail(expected, wrong, remedy)


@check
def handler_options(state: NodeState, expectation: Expectation) -> Finding | None:
    """The options of each handler are valid: its runtime, the types of the options, its specification and its sandboxer."""
    expected = "names of runtimes, options of the right types, and a known sandboxer"
    if state.config is None:
        return unread(expected, state, "config", "version")
    if not state.config.handlers:
        return None
    if {"runtime_root_problems", "base_spec_problems"}.intersection(state.trouble):
        return unread(expected, state, "runtime_root_problems", "base_spec_problems")
    wrong = {name: "; ".join(found) for name in state.config.handlers for found in [list(_option_faults(state, name))] if found}
    profile = state.config.unset_seccomp_profile
    if profile not in _PROFILES and not profile.startswith(_PROFILES[-1]):
        wrong["unset_seccomp_profile"] = f"no pod starts with {profile!r}: it has to be {', '.join(_PROFILES[1:])}PATH"
    if wrong:
        return fail(expected, wrong, f"correct these keys in {state.config_file} or in the file that it imports")
    return ok(expected, list(state.config.handlers))


@check
def stream_processors(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon can run the programs that its configuration puts before the unpacking of layers."""
    expected = "the programs of stream processors can be run"
    if state.stream_processor_problems is None:
        return unread(expected, state, "config", "environment", "programs", "daemon", "version")
    if state.stream_processor_problems:
        remedy = f"install the named programs, or remove the tables of stream_processors from {state.config_file}"
        return fail(expected, f"no image can be unpacked: {'; '.join(state.stream_processor_problems.values())}", remedy)
    return ok(expected, "none is missing that plain layers need")


def _option_faults(state: NodeState, name: str) -> Iterator[str]:
    if state.config is None:
        return
    options = state.config.handler_options(name)
    types = _RUNC_OPTIONS if is_runc(state.config.handlers[name].type or "") else _OTHER_OPTIONS
    by_key = {key.casefold(): kind for key, kind in types.items()}
    for key, value in options.items():
        kind = by_key.get(key.casefold())
        if kind is not None and not _is_of(kind, value):
            yield f"{key} has to be {_WORDS[kind]}, not {value!r}"
    yield from _type_faults(state, state.config.handlers[name])
    if name in state.runtime_root_problems:
        yield f"Root: {state.runtime_root_problems[name]}"
    if name in state.base_spec_problems:
        yield state.base_spec_problems[name]
    handler, sandboxer = state.config.handlers[name], state.config.handler_sandboxer(name)
    if sandboxer == _SHIM and is_runc(handler.type or "") and not handler.path:
        yield f"the shim of runc starts no sandboxes, which the sandboxer {_SHIM} needs"
    known = _sandboxers(state)
    if sandboxer and known and sandboxer not in known:
        yield f"the sandboxer {sandboxer} is not loaded: the daemon has {', '.join(known)}"


def _type_faults(state: NodeState, handler: Handler) -> Iterator[str]:
    if handler.path and not handler.path.startswith("/"):
        yield f"runtime_path {handler.path} isn't an absolute path"
    if not handler.type or handler.path:
        return
    if handler.type != _LINUX_V1 and not shim_name(handler.type):
        yield f"runtime_type {handler.type} is no name of a runtime: it has to be like {_RUNC_TYPES[-1]}, or a path"
    if handler.type == _LINUX_V1 and state.version is not None and state.version.at_least("2.0.0"):
        yield f"runtime_type {handler.type} was removed in containerd 2.0: use {_RUNC_TYPES[-1]}"


def _is_of(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _sandboxers(state: NodeState) -> tuple[str, ...]:
    """Return the names of the daemon's sandbox controllers, empty for a daemon that has none or doesn't answer."""
    plugins = (state.daemon.plugins if state.daemon is not None else None) or ()
    return tuple(plugin.id for plugin in plugins if plugin.type in _SANDBOX_CONTROLLERS)
