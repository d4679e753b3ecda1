# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the daemon: its version, unit, process and databases."""

from __future__ import annotations

from datetime import date, datetime, timezone

from ansible_collections.slipway.node.plugins.module_utils.containerd.daemon import SPARING_KILL_MODES
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import (
    NEWEST,
    OLDEST,
    Version,
    is_past_end_of_life,
    line_of,
    upgrade_target,
)
from ansible_collections.slipway.node.plugins.module_utils.core.errors import LATE
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    cause_of,
    check,
    daemon_cause,
    fail,
    not_running,
    ok,
    unknown,
    unread,
    warn,
)

# Seconds without a crash after which a daemon that crashed is stable again.
STABLE_SECONDS = 600


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
    return _boot_fault(state) or ok("enabled", state.daemon.unit.enabled)


def _boot_fault(state: NodeState) -> Finding | None:
    """Return why the unit may not be started at boot, None if it is."""
    found = (state.daemon.unit.enabled if state.daemon is not None else "") or "unknown"
    if found not in ("enabled", "static", "indirect", "generated", "alias"):
        return fail("enabled", found, f"run 'systemctl enable {state.unit}'")
    if state.starts_at_boot is False:
        remedy = f"run 'systemctl reenable {state.unit}', or choose a default target that starts it ('systemctl set-default')"
        return fail("enabled", "enabled, and no unit of the default target starts it", remedy)
    if state.boot_complaints:
        remedy = f"correct the named lines or units ('systemctl cat {state.unit}'), and run 'systemctl daemon-reload'"
        return fail("enabled", f"systemd may not start it at boot: {'; '.join(state.boot_complaints)}", remedy)
    return unread("enabled", state, "boot_complaints") if "boot_complaints" in state.trouble else None


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
