# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the daemon (its unit and process, its configuration, its plugins), and all checks together.

Those of the images are in image_checks.py, those of toolboxes in toolbox_checks.py, those of Kata in kata_checks.py, those
of devmapper's thin pool in pool_checks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.model import (
    durability,
    image_checks,
    kata_checks,
    mismatches,
    pool_checks,
    snapshotter_checks,
    toml_text,
    toolbox_checks,
)
from ansible_collections.slipway.node.plugins.module_utils.model.daemon import SPARING_KILL_MODES
from ansible_collections.slipway.node.plugins.module_utils.model.findings import (
    CONFIGURE,
    DEAF,
    Check,
    Expectation,
    Finding,
    NodeState,
    fail,
    not_running,
    ok,
    registering,
    unknown,
    unread,
    warn,
)
from ansible_collections.slipway.node.plugins.module_utils.model.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.model.tree import dotted
from ansible_collections.slipway.node.plugins.module_utils.model.version import NEWEST_LINE, OLDEST, Version

STATUSES = ("fail", "unknown", "warn", "ok")
# A daemon that crashed is called stable again after this many seconds without another crash.
STABLE_SECONDS = 600

CHECKS: dict[str, Check] = {}
check = registering(CHECKS)


def run_checks(state: NodeState, expectation: Expectation, only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Finding]:
    """The findings of all checks that apply. Raises ValueError for an id that no check has."""
    wanted = chosen(only, skip)
    findings = (CHECKS[name](state, expectation) for name in wanted)
    return [finding for finding in findings if finding is not None]


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The ids of the checks to run. Raises ValueError for an id that no check has."""
    for option, names in (("only", only), ("skip", skip)):
        for name in names:
            if name not in CHECKS:
                raise ValueError(f"{option} names no check {name!r}: take of {', '.join(CHECKS)}")
    return [name for name in CHECKS if (not only or name in only) and name not in skip]


def summarize(findings: Sequence[Finding]) -> dict[str, Any]:
    """How many findings of each status, and the worst of them."""
    counts: dict[str, Any] = {status: sum(one.status == status for one in findings) for status in STATUSES}
    worst = next((status for status in STATUSES if counts[status]), "unknown")
    return {**counts, "worst": worst}


@check("version")
def version(state: NodeState, expectation: Expectation) -> Finding:
    expected = f"{OLDEST} to {NEWEST_LINE[0]}.{NEWEST_LINE[1]}"
    found = state.version
    if found is None:
        return fail("version", expected, state.trouble.get("version", "not installed"), CONFIGURE)
    if found < OLDEST:
        return fail("version", expected, str(found), "upgrade containerd")
    if (found.major, found.minor) > NEWEST_LINE:
        return unknown("version", expected, f"{found} is newer than what is known here", "upgrade slipway.node")
    if found >= Version(2, 2, 0) and found < Version(2, 2, 3):
        remedy = "upgrade to 2.2.3 or newer; keep max_concurrent_unpacks at 1 until then"
        return warn("version", expected, f"{found}, which may lose deleted files when it unpacks layers at once", remedy)
    return ok("version", expected, str(found))


@check("daemon_running")
def daemon_running(state: NodeState, expectation: Expectation) -> Finding:
    expected = f"{state.unit} active, socket answering"
    if state.daemon is None:
        # The one thing that has to be seen: a run that couldn't look at the daemon must not pass.
        why = state.trouble.get("daemon", "the daemon wasn't looked at")
        return fail("daemon_running", expected, why, "run as root (become: true) on a node with systemd")
    problem = state.daemon.liveness_problem()
    if problem:
        return fail("daemon_running", expected, problem, f"read 'journalctl -u {state.unit}', then {CONFIGURE}")
    return ok("daemon_running", expected, f"process {state.daemon.unit.pid}")


@check("daemon_stable")
def daemon_stable(state: NodeState, expectation: Expectation) -> Finding:
    expected = f"no crash within {STABLE_SECONDS} seconds"
    if state.daemon is None or (state.daemon.process is None and not state.daemon.unit.restarts):
        return not_running("daemon_stable", expected, state)
    crashes = state.daemon.unit.restarts
    remedy = f"read 'journalctl -u {state.unit}' for the cause of the crashes"
    if not crashes:
        return ok("daemon_stable", expected, "no crash since it was last started")
    if state.daemon.process is None or state.now - state.daemon.process.started < STABLE_SECONDS:
        return fail("daemon_stable", expected, f"{crashes} crashes, the last one just now", remedy)
    return warn("daemon_stable", expected, f"{crashes} crashes, none lately", remedy)


@check("unit_enabled")
def unit_enabled(state: NodeState, expectation: Expectation) -> Finding:
    if state.daemon is not None and state.daemon.unit.masked:
        return fail("unit_enabled", "enabled", state.daemon.unit.enabled, f"run 'systemctl unmask {state.unit}'")
    if state.daemon is None or not state.daemon.unit.loaded:
        return not_running("unit_enabled", "enabled", state)
    found = state.daemon.unit.enabled or "unknown"
    if found in ("enabled", "static", "indirect", "generated", "alias"):
        return ok("unit_enabled", "enabled", found)
    return fail("unit_enabled", "enabled", found, f"run 'systemctl enable {state.unit}'")


@check("kill_mode")
def kill_mode(state: NodeState, expectation: Expectation) -> Finding:
    if state.daemon is None or not state.daemon.unit.loaded:
        return not_running("kill_mode", "process", state)
    found = state.daemon.unit.kill_mode
    if found in SPARING_KILL_MODES:
        return ok("kill_mode", "process", found)
    return fail("kill_mode", "process", found, f"set KillMode=process in {state.unit}, or every restart kills its containers")


@check("config_loads")
def config_loads(state: NodeState, expectation: Expectation) -> Finding:
    expected = f"containerd can load {state.config_file}"
    if state.version is None:
        return unread("config_loads", expected, state, "version")
    if state.dump is None:
        return fail(
            "config_loads",
            expected,
            state.trouble.get("dump", "not read"),
            f"mend {state.config_file}, or {CONFIGURE}",
        )
    trouble = next(iter(state.missing_imports), None) or state.dump.cri_config_error()
    if trouble:
        return fail("config_loads", expected, trouble, f"mend {state.config_file}, or {CONFIGURE}")
    return ok("config_loads", expected, f"{len(state.sources)} files")


@check("config_file")
def config_file(state: NodeState, expectation: Expectation) -> Finding:
    if state.daemon is None or state.daemon.process is None:
        return not_running("config_file", state.config_file, state)
    found = state.daemon.reads()
    if found == state.config_file:
        return ok("config_file", state.config_file, found)
    return fail("config_file", state.config_file, found, "name the file that the daemon reads, or mend the unit")


@check("daemon_fresh")
def daemon_fresh(state: NodeState, expectation: Expectation) -> Finding:
    expected = "started after its newest file was changed"
    if state.daemon is None or state.daemon.process is None:
        return not_running("daemon_fresh", expected, state)
    newer = state.daemon.newer
    if newer:
        return fail("daemon_fresh", expected, f"changed since: {', '.join(newer)}", CONFIGURE)
    return ok("daemon_fresh", expected, "started later than all of them")


@check("daemon_binary")
def daemon_binary(state: NodeState, expectation: Expectation) -> Finding:
    expected = "the program that is on disk"
    if state.daemon is None or state.daemon.process is None:
        return not_running("daemon_binary", expected, state)
    if state.daemon.binary is None:
        return unread("daemon_binary", expected, state, "version")
    found = state.daemon.process.executable
    if found == state.daemon.binary:
        return ok("daemon_binary", state.daemon.binary, found)
    return fail("daemon_binary", state.daemon.binary, found or "a file that has been replaced", CONFIGURE)


@check("interrupted_change")
def interrupted_change(state: NodeState, expectation: Expectation) -> Finding:
    expected = "no change cut short"
    if "record" in state.trouble:
        return unread("interrupted_change", expected, state, "record")
    if state.pending:
        return fail("interrupted_change", expected, f"unproven: {', '.join(state.pending)}", CONFIGURE)
    return ok("interrupted_change", expected, "none")


@check("config_schema")
def config_schema(state: NodeState, expectation: Expectation) -> Finding | None:
    expected = "one schema in all files, written in each"
    if "sources" in state.trouble:
        return unread("config_schema", expected, state, "sources")
    versions: dict[str, Any] = {}
    for source in state.sources:
        try:
            versions[source.path] = toml_text.parse(source.text).get("version")
        except ValueError as error:
            return unknown("config_schema", expected, f"{source.path}: {error}", f"mend {source.path}")
    if not versions:
        return None
    if len(set(versions.values())) == 1 and None not in versions.values():
        return ok("config_schema", expected, f"version = {next(iter(versions.values()))}")
    remedy = "write the same version key into each file: containerd drops settings where they differ"
    return warn("config_schema", expected, {path: value or "no version key" for path, value in versions.items()}, remedy)


@check("unknown_keys")
def unknown_keys(state: NodeState, expectation: Expectation) -> Finding:
    expected = "every key known to the daemon"
    if state.dump is None or state.known_plugins is None or "sources" in state.trouble:
        return unread("unknown_keys", expected, state, "dump", "known_plugins", "sources", "version")
    ignored = mismatches.unknown_keys(state.sources, state.dump, state.known_plugins)
    if ignored:
        return warn("unknown_keys", expected, ignored, "correct or remove these keys: the daemon ignores them")
    return ok("unknown_keys", expected, "all known")


@check("cri")
def cri(state: NodeState, expectation: Expectation) -> Finding:
    if state.daemon is None or state.dump is None:
        return unread("cri", "ok", state, "dump", "daemon", "version")
    wanted = mismatches.needs_cri(expectation.settings)
    if not state.dump.cri_enabled:
        if wanted:
            remedy = "take cri out of disabled_plugins (containerd_enable_cri: true)"
            return fail("cri", "ok", "disabled by disabled_plugins", remedy)
        return ok("cri", "disabled or ok", "disabled by disabled_plugins")
    if state.daemon.plugins is None:
        return unknown("cri", "ok", DEAF, "start the daemon")
    problem = state.daemon.plugin_problem((), cri=True)
    if problem:
        return fail("cri", "ok", problem, f"read 'journalctl -u {state.unit}' for CRI's reason")
    return ok("cri", "ok", "ok")


@check("settings")
def settings(state: NodeState, expectation: Expectation) -> Finding | None:
    if expectation.settings == Settings():
        return None
    if state.version is None:
        return unread("settings", "as in the inventory", state, "version")
    if state.dump is None:
        return unknown("settings", "as in the inventory", "the configuration can't be loaded", CONFIGURE)
    try:
        wrong = mismatches.mismatches(expectation.settings, state.version, state.architecture, state.dump, state.known_plugins)
    except ValueError as error:
        return fail("settings", "possible with this version", str(error), "change the inventory, or upgrade containerd")
    if not wrong:
        return ok("settings", "as in the inventory", "all as expected")
    expected = {dotted(one.path): one.shown()[0] for one in wrong}
    return fail("settings", expected, {dotted(one.path): one.shown()[1] for one in wrong}, CONFIGURE)


@check("proxy")
def proxy(state: NodeState, expectation: Expectation) -> Finding | None:
    if not expectation.environment:
        return None
    expected = sorted(expectation.environment)
    if state.environment is None:
        return unknown("proxy", expected, "the daemon's environment can't be read", "start the daemon")
    wrong = sorted(name for name, value in expectation.environment.items() if state.environment.get(name) != value)
    if wrong:
        return fail("proxy", expected, f"missing or different: {', '.join(wrong)}", CONFIGURE)
    return ok("proxy", expected, expected)


def _durability(name: str, path: str, state: NodeState, required: bool, remedy: str) -> Finding | None:
    if state.dump is None or state.version is None:
        return unread(name, durability.DURABLE, state, "dump", "version")
    if path not in durability.paths(state.version):
        return None
    verdict = state.dump.pull_durability(state.version)[path]
    found = f"{verdict['durability']}: {verdict['reason']}"
    if verdict["durability"] == durability.DURABLE:
        return ok(name, durability.DURABLE, found)
    if verdict["durability"] == durability.UNKNOWN:
        return unknown(name, durability.DURABLE, found, "run 'sync -f' on the daemon's root after a pull")
    return (fail if required else warn)(name, durability.DURABLE, found, remedy)


@check("durability_cri")
def durability_cri(state: NodeState, expectation: Expectation) -> Finding | None:
    if state.dump is not None and not state.dump.cri_enabled:
        return None
    required = bool(expectation.settings.image_pull_sync_fs)
    remedy = "set image_pull_sync_fs to true (containerd 1.7.14 or newer)"
    finding = _durability("durability_cri", "cri", state, required, remedy)
    if finding is None or finding.status != "ok" or state.dump is None or state.version is None:
        return finding
    others = state.dump.handlers_durability(state.version)
    for verdict, judged in ((durability.NOT_DURABLE, warn), (durability.UNKNOWN, unknown)):
        found = [f"for {name} {verdict}: {one['reason']}" for name, one in others.items() if one["durability"] == verdict]
        if found:
            remedy = (
                "list the images of the handlers that use it in containerd_images, with snapshotter: that brings them to disk"
            )
            return judged("durability_cri", durability.DURABLE, "; ".join(found), remedy)
    return finding


@check("durability_ctr")
def durability_ctr(state: NodeState, expectation: Expectation) -> Finding | None:
    # 1.6 knows no other way.
    local = " --local" if state.version is None or "transfer" in durability.paths(state.version) else ""
    remedy = f"after 'ctr images pull{local}', run 'sync -f' on the daemon's root"
    return _durability("durability_ctr", "ctr", state, False, remedy)


@check("durability_transfer")
def durability_transfer(state: NodeState, expectation: Expectation) -> Finding | None:
    remedy = "after 'ctr images pull', run 'sync -f' on the daemon's root"
    return _durability("durability_transfer", "transfer", state, False, remedy)


CHECKS.update(snapshotter_checks.CHECKS)
CHECKS.update(image_checks.CHECKS)
CHECKS.update(toolbox_checks.CHECKS)
CHECKS.update(kata_checks.CHECKS)
CHECKS.update(pool_checks.CHECKS)
