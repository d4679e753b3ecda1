# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe: start a container or a pod with each handler, and read the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import BY_NAME
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.detached import finish
from ansible_collections.slipway.node.plugins.module_utils.probe.host.container import ASK_SECONDS, RUN_SECONDS, ContainerProbe
from ansible_collections.slipway.node.plugins.module_utils.probe.host.pod import PodProbe
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import POD, Report, Trial, plan_pods, plan_trials
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.store.reference import parse

_CRI_NAMESPACE = "k8s.io"
# To take away what a killed probe left, and what this one created.
_SWEEP_SECONDS = 10 * ASK_SECONDS


def probe(containerd: Containerd, kind: str, *, only: Iterable[str] | None = None, unsafe: Mapping[str, str]) -> Report:
    """Start a container or a pod (``kind``) with each handler of CRI, ``only`` these, and take it away again.

    It is taken away also if this process is killed. ``unsafe`` handlers aren't started, with the reason. The caller holds the
    lock of runs that change containerd. Raises HostError if nothing can be started.
    """
    config = containerd.config
    run: Callable[[Sequence[Trial]], Report]
    if kind == POD:
        trials = plan_pods(config, only, unsafe)
        run = _pod_probe(containerd).run
    else:
        trials = plan_trials(config, only, unsafe)
        run = ContainerProbe(containerd.ctr, config, containerd.architecture).run
    timeout = 2 * _SWEEP_SECONDS + len(trials) * (RUN_SECONDS + 2 * ASK_SECONDS)
    return Report.from_json(finish(lambda: run(trials).to_json(), timeout=timeout, doing=f"start a {kind}"))


def _pod_probe(containerd: Containerd) -> PodProbe:
    """Return the probe of CRI. Raises HostError where it can't start a pod, or would have to pull an image for it."""
    crictl = containerd.runner.find("crictl")
    if crictl is None:
        raise HostError("there is no program crictl on the node: install it, or use the probe 'container'")
    if not containerd.config.cri_enabled:
        raise HostError("CRI is disabled by disabled_plugins: use the probe 'container'")
    image = containerd.config.setting(BY_NAME["sandbox_image"])
    try:
        name = str(parse(str(image)))
    except ValueError as error:
        raise HostError(f"the sandbox image {image!r} can't be read as a name: {error}") from error
    images = NamespaceStore(containerd.ctr, _CRI_NAMESPACE).images.references()
    if name not in [one.name for one in images]:
        raise HostError(f"the sandbox image {name} isn't on the node: pull it, or use the probe 'container'")
    return PodProbe(crictl, containerd.address)
