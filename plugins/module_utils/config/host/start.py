# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a container on a changed daemon."""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.kata.state import declared
from ansible_collections.slipway.node.plugins.module_utils.probe.host.probe import probe
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import CONTAINER, FAILED, STARTED


def check_container_starts(containerd: Containerd) -> str:
    """Start a container with the default handler; return why that couldn't be tried, or an empty text.

    Raises HostError if the container doesn't start. ``containerd`` has read nothing of an earlier configuration.
    """
    try:
        config = containerd.config
        name = config.default_runtime
        # Whether its guests could be given the host's own disk depends on files that node_verify reads.
        unsafe = {handler.name: "it is a Kata handler" for handler in declared(config, containerd.version)}
        report = probe(containerd, CONTAINER, only=[name] if name else None, unsafe=unsafe)
    except HostError as error:
        return str(error)
    failed = next((one for one in report.outcomes if one.state == FAILED), None)
    if failed is not None:
        raise HostError(f"no container starts with the runtime handler {failed.handler}: {failed.reason}")
    untried = [f"{one.handler}: {one.reason}" for one in report.outcomes if one.state != STARTED]
    return report.left or "; ".join(untried) or ("" if report.outcomes else "the default runtime handler isn't declared")
