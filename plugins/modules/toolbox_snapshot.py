#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: toolbox_snapshot
short_description: Have a toolbox on a node that garbage collection leaves alone
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Makes a writable snapshot of an image, for a debugging toolbox, and mounts it, now and after every reboot.
  - C(ctr images mount --rw) hangs such a snapshot on a lease that expires; garbage collection then deletes it under whoever
    works in it. This module pins it at the moment at which it is made.
  - A toolbox that C(ctr images mount) or Flatcar's C(toolbox) has made is taken over as it is, with what runs in it. It is pinned
    first, and only then loses its lease.
  - What mounts it is a systemd unit, so that a reboot does the same as this module.
  - Nothing is lost. A toolbox in which processes are is not unmounted or removed, a directory with files in it is not mounted
    over, and what others have mounted there stays; the message names who or what is in the way.
attributes:
  check_mode:
    support: full
    details: The registry is asked as in a real run if the image has to come.
  diff_mode:
    support: full
    details: The text of the unit is shown if the snapshot exists, for it names the snapshot's directories.
  idempotent:
    support: full
options:
  name:
    description: The toolbox's name, of letters, digits, V(_), V(.) and V(-).
    type: str
    required: true
  image:
    description:
      - The image to make it of, by tag or digest. It is pulled if it is missing, as M(slipway.node.containerd_image) does, and
        is on disk before the snapshot is made.
      - Needed unless O(state=absent).
    type: str
  path:
    description:
      - Where it is mounted; also the snapshot's key. V(/var/lib/toolbox/NAME) if it is left out, as Flatcar's C(toolbox) does.
      - Nobody but root may be able to write in the directories above it, and no symbolic link may be among them. A directory there
        is given to root if it is empty.
    type: str
  state:
    description:
      - V(mounted), the snapshot is there, pinned, and mounted by a unit that is enabled.
      - V(present), it is there and pinned, not mounted, and has no unit.
      - V(absent), it is gone, with its unit, lease and mount, and its space is free. Its directory goes if it is empty.
    type: str
    choices: [present, mounted, absent]
    default: mounted
  on_image_change:
    description:
      - What to do if the image's name stands for another image by now, on this node. No registry is asked for that, see
        M(slipway.node.containerd_image).
      - V(keep), RV(image_drift) says so, and the toolbox stays as it is.
      - V(recreate), it is made anew, and B(everything in it is lost); unless somebody uses it, then the module fails.
    type: str
    choices: [keep, recreate]
    default: keep
  labels:
    description: Further labels of the snapshot. Others that it has stay. The name of the image is its label C(slipway.node/image).
    type: dict
    default: {}
  namespace:
    description: The containerd namespace. Flatcar's C(toolbox), and C(ctr) by itself, take V(default).
    type: str
    default: default
  snapshotter:
    description: The snapshotter to use. That of the daemon's CRI configuration if it is left out.
    type: str
  platform:
    description: Platform of the image, as V(linux/arm64). The node's own if it is left out.
    type: str
  hosts_dir:
    description: Directory with a C(hosts.toml) for each registry. The first one in the daemon's CRI configuration that is there if
      it is left out.
    type: path
  plain_http:
    description: Talk plain HTTP to the registry.
    type: bool
    default: false
  username:
    description: Name of the user at the registry.
    type: str
  password:
    description: The user's password or token. It is in no process's arguments, and in no log.
    type: str
  timeout:
    description: How many seconds the image may take; also how long another run on this node is waited for.
    type: int
    default: 1800
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
  - systemd, for a toolbox that is mounted
seealso:
  - module: slipway.node.containerd_image
  - name: The toolbox of Flatcar Container Linux
    description: The command that finds what this module has made.
    link: https://github.com/flatcar/toolbox
"""

EXAMPLES = r"""
- name: Have a toolbox of Fedora
  slipway.node.toolbox_snapshot:
    name: core-fedora-42
    image: registry.fedoraproject.org/fedora:42

- name: Keep the toolbox that Flatcar's command made for the user core
  slipway.node.toolbox_snapshot:
    name: core-docker.io_library_fedora-38
    image: docker.io/library/fedora:38

- name: Make it anew when its image has changed
  slipway.node.toolbox_snapshot:
    name: debug
    image: registry.example/debug:stable
    on_image_change: recreate

- name: Remove it, and free its space
  slipway.node.toolbox_snapshot:
    name: debug
    state: absent
"""

RETURN = r"""
key:
  description: Key of the snapshot. One that was taken over keeps its own, which may end in a slash.
  returned: success
  type: str
  sample: /var/lib/toolbox/debug
path:
  description: Where the toolbox is mounted.
  returned: success
  type: str
  sample: /var/lib/toolbox/debug
parent:
  description: The chain ID that the snapshot is made of; none if there is no snapshot, or its image has no layers.
  returned: success
  type: str
  sample: sha256:fdc6e90d218ce752383b418a061d823f1dd876cab4514aa86ca02811498f60f4
pinned:
  description: Whether garbage collection leaves it alone.
  returned: success
  type: bool
mount:
  description: What its unit mounts; none if there is no unit. In check mode, none if there is no snapshot yet.
  returned: success
  type: dict
  contains:
    what:
      description: Device or directory.
      type: str
      sample: overlay
    type:
      description: Type of the file system.
      type: str
      sample: overlay
    options:
      description: Options of the mount, as containerd names them.
      type: list
      elements: str
mounted:
  description: Whether it is mounted.
  returned: success
  type: bool
adopted:
  description: Whether a snapshot was taken over that was left to garbage collection.
  returned: success
  type: bool
image_drift:
  description: The chain IDs of what the snapshot is made of, and of its image as it is on the node; none if they are the same, or
    the image isn't there.
  returned: success
  type: dict
  contains:
    from:
      description: That of the snapshot.
      type: str
    to:
      description: That of the image.
      type: str
freed:
  description: Bytes of the snapshot that was removed. Layers that nothing else needs are not counted.
  returned: success
  type: int
unit:
  description: Name of the unit that mounts it; none if there is none.
  returned: success
  type: str
  sample: var-lib-toolbox-debug.mount
steps:
  description:
    - What was done, or would be in check mode, in this order. V(pull) is for all that the image needs; V(pin), V(label) and
      V(release) (of a lease) are for the snapshot that is there, V(remove) and V(prepare) take it away and make another;
      V(unmount), V(directory), V(unit), V(enable), V(mount), V(disable) (the unit goes), V(collect) (garbage, waited for) and
      V(remove_directory).
  returned: success
  type: list
  elements: str
  sample: [pull, prepare, directory, unit, enable, mount]
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.containerd import ContainerdBinary, Ctr, find_containerd
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.image_node import ImageNode
from ansible_collections.slipway.node.plugins.module_utils.host.process import machine
from ansible_collections.slipway.node.plugins.module_utils.host.registry import hosts_dir
from ansible_collections.slipway.node.plugins.module_utils.host.systemd import Unit
from ansible_collections.slipway.node.plugins.module_utils.host.toolbox_image import ToolboxImage
from ansible_collections.slipway.node.plugins.module_utils.host.toolboxes import Toolbox
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import exclusive
from ansible_collections.slipway.node.plugins.module_utils.model import toolbox, toolbox_plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import UNCOMPARED, Request
from ansible_collections.slipway.node.plugins.module_utils.model.pull_way import find_way
from ansible_collections.slipway.node.plugins.module_utils.model.schema import GO_ARCHITECTURES
from ansible_collections.slipway.node.plugins.module_utils.model.settings import absolute_path
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox import Wanted
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox_plan import Found
from ansible_collections.slipway.node.plugins.module_utils.model.unit import unit_name
from ansible_collections.slipway.node.plugins.module_utils.run import run_module

_IMAGE_OPTIONS = ("platform", "snapshotter", "namespace", "timeout", "hosts_dir", "plain_http", "username", "password")


class Node:
    """What the module works on. Raises ValueError that names an option, and HostError where the node fails."""

    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        for option in ("config_file", "address", "binary"):
            if params[option] is not None:
                absolute_path(option, params[option])
        self._check = module.check_mode
        self.wanted = Wanted.from_params(params)
        own = f"linux/{GO_ARCHITECTURES.get(machine(), machine())}"
        request = image_request(params, self.wanted, own)
        self.timeout = request.timeout
        self._runner = Runner(module)
        service = unit_name(params["unit"])
        path = find_containerd(self._runner, Unit(self._runner, service), params["binary"])
        if path is None:
            raise HostError("containerd isn't installed on the node: install it first, or name the program with binary")
        self._ctr = Ctr(self._runner, params["address"], path)
        program = ContainerdBinary(self._runner, path)
        self._dump = program.dump(params["config_file"])
        self._request = request.reached_through(hosts_dir(self._dump))
        self._way = find_way(
            self._dump, program.version(), snapshotter=request.snapshotter, platform=request.platform, machine=own
        )
        self.box = Toolbox(
            self._runner,
            self._ctr,
            self.wanted,
            namespace=request.namespace,
            snapshotter=self._way.snapshotter,
            service=service,
        )

    def image(self, lock: int | None) -> ToolboxImage | None:
        """None if none is wanted."""
        if self.wanted.image is None or self.wanted.state == toolbox.ABSENT:
            return None
        node = ImageNode(self._runner, self._ctr, self._request, self._way, self._dump, watch=self._check)
        return ToolboxImage(node, self.wanted.image, lock)


def image_request(params: dict[str, Any], wanted: Wanted, own: str) -> Request:
    """What is asked for of the image; ``own`` is the node's platform. Raises ValueError that names the option."""
    fixed = {
        "state": "present",
        "pull": "missing",
        "archive": None,
        "parallel": 1,
        "durable": True,
        "integrity": UNCOMPARED,
        "repair": False,
    }
    name = [str(wanted.image)] if wanted.image is not None else []
    return Request.from_params({**{key: params[key] for key in _IMAGE_OPTIONS}, **fixed, "name": name}, own)


def look(node: Node, image: ToolboxImage | None) -> Found:
    found, wanted = node.box.look(), node.wanted
    if image is not None:
        found = replace(found, chain=image.chain_there())
        if toolbox_plan.needs_image(found, wanted):
            found = replace(found, chain=image.judged(), comes=image.comes)
    return node.box.with_users(found) if toolbox_plan.looks_inside(found, wanted) else found


def run(module: AnsibleModule) -> dict[str, Any]:
    node = Node(module)
    box = node.box
    with nullcontext(None) if module.check_mode else exclusive(node.timeout) as lock:
        image = node.image(lock)
        found = look(node, image)
        plan = toolbox_plan.plan(found, node.wanted)
        removed = found.snapshot if toolbox_plan.REMOVE in plan.steps else None
        freed = box.size(removed.key) if removed is not None else 0
        if plan.steps and not module.check_mode:
            box.apply(plan, image.bring if image is not None else None)
    unknown = module.check_mode and toolbox_plan.PREPARE in plan.steps
    shown = None if unknown or node.wanted.state != toolbox.MOUNTED else box.source
    mount = {"what": shown.what, "type": shown.kind, "options": list(shown.options)} if shown is not None else None
    return {**plan.result(), "mount": mount, "freed": freed}


def main() -> None:
    run_module(
        run,
        {
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
            "config_file": {"type": "path", "default": "/etc/containerd/config.toml"},
            "binary": {"type": "path"},
            "unit": {"type": "str", "default": "containerd.service"},
            "address": {"type": "path", "default": "/run/containerd/containerd.sock"},
        },
    )


if __name__ == "__main__":
    main()
