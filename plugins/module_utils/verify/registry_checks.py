# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of the files of registries."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import ipv6_mirror, refuse_ipv6
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.plan import plan_present
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import (
    CONFIGURE,
    Expectation,
    Finding,
    NodeState,
    check,
    fail,
    ok,
    unread,
    warn,
)


@check
def registry_files(state: NodeState, expectation: Expectation) -> Finding | None:
    """containerd can read the hosts.toml files, and other users can't read the secrets in them."""
    expected = "readable hosts.toml files with all their certificates, and private secrets"
    if state.config is not None and not state.config.cri_enabled:
        return None
    if state.registry_files is None:
        return unread(expected, state, "config", "version", "registry_files")
    broken = [f"{one.path} {problem}" for one in state.registry_files for problem in one.problems]
    if broken:
        remedy = "repair or remove the named files; slipway.node.provision writes those of containerd_registries"
        return fail(expected, "; ".join(broken), remedy)
    exposed = [path for one in state.registry_files for path in one.exposed]
    if exposed:
        remedy = f"run 'chmod o-r {' '.join(exposed)}'"
        return warn(expected, f"secrets that every user can read: {', '.join(exposed)}", remedy)
    return ok(expected, f"{len(state.registry_files)} files")


@check
def registry_hosts(state: NodeState, expectation: Expectation) -> Finding | None:
    """The files of the registries are those that provisioning would write."""
    if expectation.registries is None:
        return None
    expected = f"the files of containerd_registries in {expectation.hosts_dir}"
    if state.hosts is None:
        return unread(expected, state, "hosts")
    try:
        if state.version is not None:
            refuse_ipv6(state.version, ipv6_mirror(expectation.registries))
        plan = plan_present(state.hosts, expectation.registries, config_path=expectation.hosts_dir, purge=True, adopt=False)
    except ValueError as error:
        cause, _colon, remedy = str(error).rpartition(": ")
        return fail(expected, cause, f"{remedy}, then {CONFIGURE}")
    if plan.changes:
        return fail(expected, "; ".join(change.difference() for change in plan.changes), CONFIGURE)
    return ok(expected, f"{len(expectation.registries)} registries")
