# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Managing a toolbox: the run of the module toolbox_snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import exclusive
from ansible_collections.slipway.node.plugins.module_utils.images.plan import Request
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import INTEGRITY_NONE
from ansible_collections.slipway.node.plugins.module_utils.toolbox import plan as toolbox_plan
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.image import ToolboxImage
from ansible_collections.slipway.node.plugins.module_utils.toolbox.host.toolbox import Toolbox
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, MOUNTED
from ansible_collections.slipway.node.plugins.module_utils.toolbox.plan import CurrentToolbox
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import ToolboxSpec

OPTIONS: Mapping[str, Any] = {
    "name": {"type": "str", "required": True},
    "image": {"type": "str"},
    "path": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "mounted", "absent"], "default": "mounted"},
    "on_image_change": {"type": "str", "choices": ["keep", "recreate"], "default": "keep"},
    "labels": {"type": "dict", "default": {}},
    "namespace": {"type": "str", "default": "default"},
    "snapshotter": {"type": "str"},
    "platform": {"type": "str"},
    "hosts_dir": {"type": "path"},
    "plain_http": {"type": "bool", "default": False},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 1800},
    **Containerd.OPTIONS,
}


_IMAGE_OPTIONS = ("platform", "snapshotter", "namespace", "timeout", "hosts_dir", "plain_http", "username", "password")


def image_request(params: dict[str, Any], wanted: ToolboxSpec, own: str) -> Request:
    """Return the request for the image; ``own`` is the node's platform. Raises ValueError that names the option."""
    fixed = {
        "all": False,
        "state": "present",
        "pull": "missing",
        "archive": None,
        "parallel": 1,
        "durable": True,
        "integrity": INTEGRITY_NONE,
        "repair": False,
    }
    name = [str(wanted.image)] if wanted.image is not None else []
    return Request.from_params({**{key: params[key] for key in _IMAGE_OPTIONS}, **fixed, "name": name}, own)


def read_state(box: Toolbox, wanted: ToolboxSpec, image: ToolboxImage | None) -> CurrentToolbox:
    """Read the toolbox as far as the plan needs it."""
    found = box.read_state()
    if image is not None:
        found = replace(found, chain=image.chain_there())
        if toolbox_plan.needs_image(found, wanted):
            found = replace(found, chain=image.judged(), comes=image.comes)
    return box.with_users(found) if toolbox_plan.needs_process_scan(found, wanted) else found


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring a toolbox into the requested state."""
    containerd = Containerd.from_module(module)
    wanted = ToolboxSpec.from_params(module.params)
    request = image_request(module.params, wanted, containerd.platform)
    containerd.check_installed()
    snapshotter = request.snapshotter or containerd.config.default_snapshotter
    box = Toolbox(containerd, wanted, namespace=request.namespace, snapshotter=snapshotter)
    with nullcontext(None) if module.check_mode else exclusive(request.timeout) as lock:
        image = None
        if wanted.image is not None and wanted.state != ABSENT:
            image = ToolboxImage(containerd, request, wanted.image, lock)
        found = read_state(box, wanted, image)
        plan = toolbox_plan.plan(found, wanted)
        removed = found.snapshot if toolbox_plan.REMOVE in plan.steps else None
        freed = box.size(removed.key) if removed is not None else 0
        if plan.steps and not module.check_mode:
            box.apply(plan, image.bring if image is not None else None)
    unknown = module.check_mode and toolbox_plan.PREPARE in plan.steps
    shown = None if unknown or wanted.state != MOUNTED else box.source
    mount = {"what": shown.what, "type": shown.kind, "options": list(shown.options)} if shown is not None else None
    return {**plan.result(), "mount": mount, "freed_bytes": freed}
