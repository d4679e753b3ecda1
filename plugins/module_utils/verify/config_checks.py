# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of the configuration that the daemon reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config import losses, mismatches
from ansible_collections.slipway.node.plugins.module_utils.config.plan import is_foreign
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path, overridden_variables
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd import names
from ansible_collections.slipway.node.plugins.module_utils.containerd.dropped_keys import dropped_keys as find_dropped_keys
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import FileKey
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import (
    Version,
)
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.options import go_reads_proxy
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    daemon_cause,
    fail,
    not_answering,
    ok,
    unknown,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings_checks import CRI_PLUGINS

# What Go reads for requests of each kind, or the same in lower case.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY")


@check
def interrupted_config_change(state: NodeState, expectation: Expectation) -> Finding:
    """No change of the configuration and no upgrade was interrupted."""
    expected = "no interrupted change"
    if state.interrupted_upgrade:
        return fail(expected, "an upgrade was interrupted", "run slipway.node.upgrade, which takes it back first")
    if "record" in state.trouble:
        return unread(expected, state, "record")
    if state.pending:
        return fail(expected, f"not verified: {', '.join(state.pending)}", CONFIGURE)
    return ok(expected, "none")


@check
def config_schema(state: NodeState, expectation: Expectation) -> Finding | None:
    """No setting is lost between files of different schemas, or in the migration of an old one."""
    expected = "every setting of each file effective"
    if state.config is None or state.defaults is None or "sources" in state.trouble:
        return unread(expected, state, "config", "defaults", "sources", "version")
    if not state.sources:
        return None
    versions: dict[str, Any] = {}
    for source in state.sources:
        try:
            versions[source.path] = toml.parse(source.text).get("version")
        except ValueError as error:
            return unknown(expected, f"{source.path}: {error}", f"repair {source.path}")
    lost = losses.lost_keys(state.sources, state.config, state.defaults)
    if not lost:
        found = sorted({f"version = {value}" if value else "no version key" for value in versions.values()})
        return ok(expected, ", ".join(found))
    return warn(expected, [str(key) for key in lost], _remedy_for_lost(lost, state.config.schema, versions))


def _remedy_for_lost(lost: Sequence[FileKey], printed: int, versions: Mapping[str, Any]) -> str:
    if printed < 3:
        return "write these settings into the last file with a table for the plugin: containerd 1.x reads only that table"
    if printed == 3 and len(set(versions.values())) > 1:
        return "write the same version key into each file: containerd drops settings if the versions differ"
    if all(key.dropped_without_handlers for key in lost):
        table = f'[plugins."{names.CRI_V2}".containerd.runtimes]'
        return f"add the empty table {table} to {lost[0].file}: without one, containerd 2.x drops the keys beside it"
    return f"write these settings in schema {printed}: the daemon drops them when it migrates the older one"


@check
def unknown_keys(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon knows every key of its files."""
    expected = "every key known to the daemon"
    if state.config is None or state.defaults is None or "sources" in state.trouble:
        return unread(expected, state, "config", "defaults", "sources", "version")
    ignored = mismatches.unknown_keys(state.sources, state.config, state.defaults.plugins)
    if ignored:
        return warn(expected, ignored, "correct or remove these keys: the daemon ignores them")
    return ok(expected, "all known")


@check
def dropped_keys(state: NodeState, expectation: Expectation) -> Finding:
    """No newer containerd ignores a key of the files: an upgrade would lose it."""
    expected = "no key that a newer containerd ignores"
    if state.version is None or "sources" in state.trouble:
        return unread(expected, state, "version", "sources")
    found = list(find_dropped_keys(state.sources, state.version))
    if found:
        return warn(expected, [one.sentence() for one in found], "; ".join(one.remedy() for one in found))
    return ok(expected, "none")


@check
def cri_plugin(state: NodeState, expectation: Expectation) -> Finding:
    """CRI's plugin is loaded, unless it is disabled on purpose."""
    if state.daemon is None or state.config is None:
        return unread("ok", state, "config", "daemon", "version")
    wanted = mismatches.needs_cri(expectation.settings)
    if not state.config.cri_enabled:
        if wanted:
            remedy = "remove cri from disabled_plugins (containerd_enable_cri: true)"
            return fail("ok", "disabled by disabled_plugins", remedy)
        return ok("disabled or ok", "disabled by disabled_plugins")
    if state.daemon.plugins is None:
        return not_answering("ok", state)
    problem = state.daemon.plugin_problem((), cri=True)
    if problem:
        reason = next((state.plugin_reasons[name] for name in CRI_PLUGINS if state.plugin_reasons.get(name)), "")
        said = f"{problem}: {reason}" if reason else problem
        return fail("ok", said, f"correct the tables of CRI in {state.config_file} as its reason says, and restart {state.unit}")
    return ok("ok", "ok")


@check
def config_settings(state: NodeState, expectation: Expectation) -> Finding | None:
    """The configuration has the expected settings."""
    if expectation.settings == Settings():
        return None
    if state.version is None:
        return unread("as in the inventory", state, "version")
    if state.config is None:
        remedy = f"repair {state.config_file}, then {CONFIGURE}"
        return unknown("as in the inventory", "the configuration can't be loaded", remedy, "config_loads")
    known = state.defaults.plugins if state.defaults is not None else None
    try:
        others = _later_files(state, state.version)
        wrong = mismatches.mismatches(expectation.settings, state.version, state.architecture, state.config, known, others)
    except ValueError as error:
        return fail("possible with this version", str(error), "change the inventory, or upgrade containerd")
    if not wrong:
        return ok("as in the inventory", "all as expected")
    expected = {dotted(one.path): one.shown()[0] for one in wrong}
    # A run refuses to write what another file overrides.
    foreign = [f"remove {dotted(one.path)} from {one.culprit}" for one in wrong if one.culprit is not None]
    remedy = f"{', '.join(foreign)}, then {CONFIGURE}" if foreign else CONFIGURE
    return fail(expected, {dotted(one.path): one.shown()[1] for one in wrong}, remedy)


def _later_files(state: NodeState, version: Version) -> list[Source]:
    """Return the files that override the file that the collection writes. On 1.x, that is the root file."""
    places = [place for place, one in enumerate(state.sources) if not is_foreign(one.text)]
    first = 1 if version.major == 1 else (places[0] + 1 if places else len(state.sources))
    return list(state.sources[first:])


@check
def http_proxy(state: NodeState, expectation: Expectation) -> Finding | None:
    """The daemon's environment has the expected HTTP proxy, and none that Go can't read."""
    if not expectation.environment:
        return _unreadable_proxy(state)
    expected = sorted(expectation.environment)
    if state.environment is None:
        return unknown(expected, "the daemon's environment can't be read", "start the daemon", daemon_cause(state))
    wrong = sorted(name for name, value in expectation.environment.items() if state.environment.get(name) != value)
    if wrong:
        own = drop_in_path(state.unit)
        named = overridden_variables(state.unit_files or (), own, expectation.environment, state.environment_files)
        if named:
            found = "; ".join(f"{name} is set by {path}" for name, path in named.items())
            paths = ", ".join(dict.fromkeys(named.values()))
            return fail(expected, found, f"remove these variables from {paths}, then {CONFIGURE}")
        return fail(expected, f"missing or different: {', '.join(wrong)}", CONFIGURE)
    return _unreadable_proxy(state) or ok(expected, expected)


def _unreadable_proxy(state: NodeState) -> Finding | None:
    """Return which proxy of the daemon's environment Go can't read, but not its value, which may have a password."""
    environment = state.environment or {}
    names = [next((name for name in (variable, variable.lower()) if environment.get(name)), "") for variable in _PROXIES]
    unreadable = ", ".join(name for name in names if name and not go_reads_proxy(environment[name]))
    if not unreadable:
        return None
    remedy = (
        f"correct it in the unit ('systemctl cat {state.unit}'), with special characters of a password as %XX, and restart it"
    )
    return fail("a URL that Go can read", f"{unreadable} is no URL of a proxy, and requests to registries fail", remedy)
