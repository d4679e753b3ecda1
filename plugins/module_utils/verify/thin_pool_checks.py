# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the thin pool of a node's devmapper snapshotter."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.snapshotters.thin_pool import (
    FOREIGN,
    LEFTOVERS,
    UNKNOWN,
    PoolState,
    PoolStatus,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    not_running,
    ok,
    unknown,
    unread,
    warn,
)

_MIB = 1 << 20
_FREE = "remove unused images, containers or toolboxes"


def _absent(expected: str, state: NodeState) -> Finding | None:
    """Return the finding if no pool was read: unknown if the node should or may have one."""
    return unread(expected, state, "thin_pool") if "thin_pool" in state.trouble else None


def _loaded(state: NodeState) -> tuple[PoolState, PoolStatus] | None:
    """Return the pool if it works. Only the check thin_pool reports the faults of any other."""
    pool = state.thin_pool
    return (pool, pool.status) if pool is not None and pool.status is not None and not pool.status.failed else None


@check
def thin_pool(state: NodeState, expectation: Expectation) -> Finding | None:
    """The pool is loaded, and takes reads and writes."""
    expected = "loaded and writable"
    pool = state.thin_pool
    if pool is None:
        return _absent(expected, state)
    if pool.status is None:
        remedy = "run 'systemctl restart slipway-devmapper' or activate it manually, then restart containerd"
        return fail(expected, f"{pool.name} isn't loaded", remedy)
    if pool.status.failed or pool.status.needs_check or pool.status.mode == "ro":
        found = "failed" if pool.status.failed else "needs a check" if pool.status.needs_check else "read-only"
        remedy = "stop its users, deactivate it, and run 'lvconvert --repair VG/POOL' (thin_check and thin_repair)"
        return fail(expected, f"{pool.name}: {found}, {_numbers(pool.status)}", remedy)
    if pool.status.mode == "out_of_data_space":
        remedy = f"extend it ('lvextend', 'vgextend'), or {_FREE}; file systems on it may have turned read-only"
        return fail(expected, f"{pool.name}: no data space left, {_numbers(pool.status)}", remedy)
    return ok(expected, f"{pool.name}: {_numbers(pool.status)}")


@check
def thin_pool_space(state: NodeState, expectation: Expectation) -> Finding | None:
    """Less of its data and metadata space is used than the thresholds allow."""
    expected = f"less than {expectation.thin_pool_warn_percent} % of data and metadata used"
    loaded = _loaded(state)
    if loaded is None:
        return _absent(expected, state)
    pool, status = loaded
    used = max(status.data_percent or 0, status.metadata_percent or 0)
    remedy = f"extend it ('lvextend', 'vgextend'), or {_FREE}"
    found = f"{pool.name}: {_numbers(status)}"
    if used >= expectation.thin_pool_fail_percent:
        return fail(expected, found, remedy)
    if used >= expectation.thin_pool_warn_percent:
        return warn(expected, found, remedy)
    return ok(expected, found)


@check
def thin_pool_monitored(state: NodeState, expectation: Expectation) -> Finding | None:
    """LVM's monitor watches it, and extends it if LVM's configuration or the pool's profile says so."""
    expected = "monitored by dmeventd"
    loaded = _loaded(state)
    if loaded is None:
        return _absent(expected, state)
    pool, _status = loaded
    if pool.volume is None:
        return unknown(expected, f"{pool.name} isn't an LVM volume", "monitor it by other means")
    if not pool.volume.monitored:
        return warn(expected, f"{pool.name} isn't monitored", "install dmeventd and run 'lvchange --monitor y VG/POOL'")
    return ok(expected, f"{pool.name} is monitored")


@check
def thin_pool_boot_order(state: NodeState, expectation: Expectation) -> Finding | None:
    """The pool was active before containerd was started, which searches it only then."""
    expected = "loaded before containerd started"
    loaded = _loaded(state)
    if loaded is None:
        return _absent(expected, state)
    pool, _status = loaded
    if state.daemon is not None and state.daemon.process is None:
        return not_running(expected, state)
    if pool.loaded is None or pool.started is None:
        return unknown(expected, "their start times are unknown", "check that udev and containerd run")
    found = f"{pool.name} at {pool.loaded:.1f} s after boot, containerd at {pool.started:.1f} s"
    if pool.loaded < pool.started:
        return ok(expected, found)
    remedy = "restart containerd; slipway-devmapper.service of the role devmapper loads it before containerd at boot"
    return fail(expected, found, remedy)


@check
def thin_pool_devices(state: NodeState, expectation: Expectation) -> Finding | None:
    """Its devices are those that the snapshotter's database lists."""
    expected = "the devices that the snapshotter lists"
    pool = state.thin_pool
    if pool is None:
        return _absent(expected, state)
    if pool.belonging.verdict == FOREIGN:
        return fail(expected, pool.belonging.reason, pool.belonging.remedy)
    if pool.belonging.verdict == LEFTOVERS:
        remedy = f"'dmsetup message {pool.name} 0 \"delete ID\"', with each of these IDs, frees their space"
        return warn(expected, pool.belonging.reason, remedy)
    if pool.belonging.verdict == UNKNOWN:
        return unknown(expected, pool.belonging.reason, "resolve the reported error and verify again")
    return ok(expected, "the same")


def _numbers(status: PoolStatus) -> str:
    if status.data_percent is None or status.metadata_percent is None:
        return "usage unknown"
    used = status.size * (status.used_data or 0) / (status.total_data or 1)
    return (
        f"data {status.data_percent} % ({used / _MIB:.0f} of {status.size / _MIB:.0f} MiB), metadata {status.metadata_percent} %"
    )
