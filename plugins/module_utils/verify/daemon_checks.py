# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the daemon: its unit and process, its configuration, its plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.config import losses, mismatches
from ansible_collections.slipway.node.plugins.module_utils.config.plan import is_foreign
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import drop_in_path, overridden_variables
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd import durability, names
from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import SPARING_KILL_MODES
from ansible_collections.slipway.node.plugins.module_utils.containerd.dropped_keys import dropped_keys as find_dropped_keys
from ansible_collections.slipway.node.plugins.module_utils.containerd.schemas import FileKey
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import BY_NAME, METADATA_NO_SYNC
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import (
    NEWEST,
    OLDEST,
    Version,
    is_past_end_of_life,
    line_of,
    upgrade_target,
)
from ansible_collections.slipway.node.plugins.module_utils.core import toml
from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source
from ansible_collections.slipway.node.plugins.module_utils.core.tree import dotted
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    cause_of,
    check,
    daemon_cause,
    fail,
    not_answering,
    not_running,
    ok,
    unknown,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.surroundings_checks import CRI_PLUGINS

# Seconds without a crash after which a daemon that crashed is stable again.
STABLE_SECONDS = 600
_FLUSH = "after such a pull, run 'sync -f' on the daemon's root"


@check
def containerd_version(state: NodeState, expectation: Expectation) -> Finding:
    """The installed containerd is a supported release of a line that upstream supports."""
    expected = f"{OLDEST} to {NEWEST.major}.{NEWEST.minor}, of a line that upstream supports"
    found = state.version
    if found is None:
        why = state.trouble.get("version", "not installed")
        return unread(expected, state, "version") if why.startswith(LATE) else fail(expected, why, CONFIGURE)
    if found < OLDEST:
        return fail(expected, str(found), "upgrade containerd")
    line, today = line_of(found), datetime.fromtimestamp(state.now, timezone.utc).date()
    if line is None:
        return warn(expected, f"{found}, a line that slipway.node was not tested with", "upgrade slipway.node")
    if found >= Version(2, 2, 0) and found < Version(2, 2, 3):
        remedy = "upgrade to 2.2.3 or newer; keep max_concurrent_unpacks at 1 until then"
        return warn(expected, f"{found}, which may lose deleted files when it unpacks layers at once", remedy)
    if is_past_end_of_life(line, today):
        return warn(expected, f"{found}, a line whose upstream support ended in {line.end_of_life:%Y-%m}", _upgrade(today))
    return ok(expected, str(found))


def _upgrade(today: date) -> str:
    target = upgrade_target(today)
    if target is None:
        return "upgrade slipway.node, which knows no line that upstream still supports, and containerd"
    return f"upgrade to containerd {target}, which upstream supports until {target.end_of_life:%Y-%m}"


@check
def daemon_running(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon runs, and answers on its socket."""
    expected = f"{state.unit} active, socket answering"
    if state.daemon is None:
        # A run that couldn't read the state of the daemon must not pass.
        why = state.trouble.get("daemon", "the daemon wasn't read")
        return fail(expected, why, "run as root (become: true) on a node with systemd", cause_of(state, why))
    problem = state.daemon.liveness_problem()
    if problem:
        return fail(expected, problem, f"read 'journalctl -u {state.unit}', then {CONFIGURE}", daemon_cause(state))
    pid = state.daemon.unit.pid
    if state.listener is not None:
        found = f"process {state.listener} answers on the socket, and not the unit's process {pid}"
        return fail(expected, found, f"end process {state.listener}, a second daemon, and restart {state.unit}")
    return ok(expected, f"process {pid}")


@check
def daemon_stable(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon hasn't crashed lately."""
    expected = f"no crash within {STABLE_SECONDS} seconds"
    if state.daemon is None or (state.daemon.process is None and not state.daemon.unit.restarts):
        return not_running(expected, state)
    crashes = state.daemon.unit.restarts
    remedy = f"read 'journalctl -u {state.unit}' for the cause of the crashes"
    if not crashes:
        return ok(expected, "no crash since the last start")
    if state.daemon.process is None or state.now - state.daemon.process.started < STABLE_SECONDS:
        cause = "" if state.daemon.plugins is not None else daemon_cause(state)
        return fail(expected, f"{crashes} crashes, the last one within {STABLE_SECONDS} seconds", remedy, cause)
    return warn(expected, f"{crashes} crashes, none recently", remedy)


@check
def unit_enabled(state: NodeState, expectation: Expectation) -> Finding:
    """The unit is started at boot."""
    if state.daemon is not None and state.daemon.unit.masked:
        return fail("enabled", state.daemon.unit.enabled, f"run 'systemctl unmask {state.unit}'")
    if state.daemon is None or not state.daemon.unit.loaded:
        return not_running("enabled", state)
    found = state.daemon.unit.enabled or "unknown"
    if state.starts_at_boot is False:
        remedy = f"run 'systemctl reenable {state.unit}', or choose a default target that starts it ('systemctl set-default')"
        return fail("enabled", "enabled, and no unit of the default target starts it", remedy)
    if found in ("enabled", "static", "indirect", "generated", "alias"):
        return ok("enabled", found)
    return fail("enabled", found, f"run 'systemctl enable {state.unit}'")


@check
def kill_mode(state: NodeState, expectation: Expectation) -> Finding:
    """A restart of the unit leaves containers running."""
    if state.daemon is None or not state.daemon.unit.loaded:
        return not_running("process", state)
    found = state.daemon.unit.kill_mode
    if found in SPARING_KILL_MODES:
        return ok("process", found)
    return fail("process", found, f"set KillMode=process in {state.unit}, or every restart kills its containers")


@check
def config_loads(state: NodeState, expectation: Expectation) -> Finding:
    """containerd can load the configuration, with all imports."""
    expected = f"containerd can load {state.config_file}"
    if state.version is None or state.trouble.get("config", "").startswith(LATE):
        return unread(expected, state, "version", "config")
    if state.broken_imports:
        sentences = [broken.sentence() for broken in state.broken_imports]
        return fail(expected, "; ".join(sentences), "; ".join(broken.remedy() for broken in state.broken_imports))
    if state.config is None:
        return fail(
            expected,
            state.trouble.get("config", "not read"),
            f"repair {state.config_file} or the file that it imports",
        )
    trouble = state.config.cri_config_error()
    if trouble:
        return fail(expected, trouble, f"repair {state.config_file} or the file that it imports, then {CONFIGURE}")
    return ok(expected, f"{len(state.sources)} files")


@check
def config_file(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon was started with the configuration file that the checks read."""
    if state.daemon is None or state.daemon.process is None:
        return not_running(state.config_file, state)
    found = state.daemon.reads()
    if found == state.config_file:
        return ok(state.config_file, found)
    return fail(state.config_file, found, "set config_file to the file that the daemon reads, or correct the unit")


@check
def restart_pending(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon was started after the last change of its files."""
    expected = "started after the last change of its files"
    if state.daemon is None or state.daemon.process is None:
        return not_running(expected, state)
    newer = state.daemon.newer
    if newer:
        return fail(expected, f"changed since: {', '.join(newer)}", CONFIGURE)
    if state.daemon.undated:
        paths = state.daemon.undated
        remedy = f"set the clock, run 'touch {' '.join(paths)}', then {CONFIGURE}"
        return unknown(expected, f"changed at a time that is still to come, by the node's clock: {', '.join(paths)}", remedy)
    return ok(expected, "started after the last change")


@check
def daemon_binary(state: NodeState, expectation: Expectation) -> Finding:
    """The daemon runs the program that is installed."""
    expected = "the program on disk"
    if state.daemon is None or state.daemon.process is None:
        return not_running(expected, state)
    if state.daemon.binary is None:
        return unread(expected, state, "version")
    found = state.daemon.process.executable
    if found == state.daemon.binary:
        return ok(state.daemon.binary, found)
    # Another program in its place has no version.
    cause = "containerd_version" if state.version is None else ""
    return fail(state.daemon.binary, found or "a file that has been replaced", CONFIGURE, cause)


@check
def daemon_databases(state: NodeState, expectation: Expectation) -> Finding:
    """The databases that the daemon has open are those that it opens at its next start."""
    expected = "the databases on disk"
    if state.daemon is None or state.daemon.process is None:
        return not_running(expected, state)
    if state.lost_databases is None:
        return unread(expected, state, "lost_databases")
    if not state.lost_databases:
        return ok(expected, "the databases on disk")
    pid = state.daemon.process.pid
    found = f"deleted, replaced, or below another mount: {', '.join(state.lost_databases)}. A restart loses what they hold"
    remedy = (
        f"don't restart {state.unit} yet: unmount what hides the files, or copy them back from /proc/{pid}/fd; then restart it"
    )
    return fail(expected, found, remedy)


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
    """The daemon's environment has the expected HTTP proxy."""
    if not expectation.environment:
        return None
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
    return ok(expected, expected)


def _durability(path: str, state: NodeState, asked: bool | None, remedy: str) -> Finding | None:
    """Judge a pull path. ``asked``: whether the inventory asks for its durability; None if it says nothing."""
    if state.config is None or state.version is None:
        return unread(durability.DURABLE, state, "config", "version")
    if path not in durability.paths(state.version):
        return None
    verdict = state.config.pull_durability(state.version)[path]
    found = f"{verdict['durability']}: {verdict['reason']}"
    if verdict["durability"] == durability.DURABLE:
        return ok(durability.DURABLE, found)
    if state.config.metadata_no_sync:
        remedy = f"remove {dotted(METADATA_NO_SYNC)}"
    elif asked is False:
        return ok("any, because the inventory asks for none", f"{found}; {remedy}")
    elif verdict["durability"] == durability.UNKNOWN:
        return unknown(durability.DURABLE, found, _FLUSH)
    return (fail if asked else warn)(durability.DURABLE, found, remedy)


@check
def registry_directories(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI reads each directory of registries that it was given."""
    expected = "CRI reads each directory of hosts.toml files"
    if state.config is None or state.version is None or state.unread_hosts_dirs is None:
        return unread(expected, state, "config", "version", "unread_hosts_dirs")
    if not state.config.cri_enabled:
        return None
    if not state.unread_hosts_dirs:
        return ok(expected, list(state.config.hosts_dirs(state.version)))
    found = f"not read, because CRI pulls through the transfer service: {', '.join(state.unread_hosts_dirs)}"
    # With image_pull_sync_fs, CRI would not ask the verifiers.
    remedy = "set registry_config_path to one directory" + ("" if state.verifiers else ", or image_pull_sync_fs to true")
    return fail(expected, found, remedy)


@check
def image_verifiers(state: NodeState, expectation: Expectation) -> Finding | None:
    """CRI asks the image verifiers of the node before it pulls."""
    expected = "CRI asks the image verifiers"
    if state.config is None or state.version is None or state.verifiers is None:
        return unread(expected, state, "config", "version", "verifiers")
    if not state.config.cri_enabled:
        return None
    found = state.config.unverified_pulls(state.version, state.verifiers)
    if not found:
        return ok(expected, list(state.verifiers))
    remedy = "set image_pull_sync_fs to false, and the named keys to their defaults"
    if not state.version.at_least("2.1.0"):
        remedy = "upgrade containerd to 2.1 or newer"
    allowed = expectation.settings.allow_unverified_pulls
    return (warn if allowed else fail)(expected, found, remedy)


@check
def durability_cri(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that CRI pulls are on disk when the pull ends."""
    if state.config is not None and not state.config.cri_enabled:
        return None
    remedy = "set image_pull_sync_fs to true"
    if state.verifiers:
        remedy = "list the images in containerd_images, which flushes them to disk; with image_pull_sync_fs CRI asks no verifiers"
    elif state.version is not None and not state.version.at_least(*BY_NAME["image_pull_sync_fs"].since):
        remedy = "list the images in containerd_images, which flushes them to disk"
    finding = _durability("cri", state, expectation.settings.image_pull_sync_fs, remedy)
    if finding is None or finding.status != "ok" or state.config is None or state.version is None:
        return finding
    others = state.config.handlers_durability(state.version)
    for verdict, judged in ((durability.NOT_DURABLE, warn), (durability.UNKNOWN, unknown)):
        found = [f"for {name} {verdict}: {one['reason']}" for name, one in others.items() if one["durability"] == verdict]
        if found:
            remedy = "list the images of these handlers in containerd_images, with snapshotter, which flushes them to disk"
            return judged(durability.DURABLE, "; ".join(found), remedy)
    return finding


@check
def durability_ctr(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that ``ctr`` pulls are on disk when the pull ends, where image_pull_sync_fs also flushes these pulls."""
    known = state.version is not None and state.version.at_least(*BY_NAME["diff_sync_fs"].since)
    asked = known and bool(expectation.settings.image_pull_sync_fs)
    return _durability("ctr", state, asked, CONFIGURE if asked else _FLUSH)


@check
def durability_transfer(state: NodeState, expectation: Expectation) -> Finding | None:
    """Images that the transfer service pulls are on disk when the pull ends."""
    return _durability("transfer", state, False, _FLUSH)
