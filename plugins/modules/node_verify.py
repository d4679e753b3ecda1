#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_verify
short_description: Compare a node with what it should be, without changing anything
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Reads the state of the node's containerd (the unit, the process, the files that it reads, the configuration that it makes
    of them, its plugins, its images, its toolboxes, the file systems that these lie on) and runs every check that applies.
  - Each finding says what was expected, what was found, and what to do. What can't be determined is V(unknown), never V(ok).
  - Nothing on the node is changed.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  images:
    description: Images that should be there, unpacked and mountable. None is looked at unless some are named.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Names of images, spelled out as in M(slipway.node.containerd_image).
        type: list
        elements: str
        required: true
      namespace:
        description: The containerd namespace. That of the kubelet is V(k8s.io).
        type: str
        default: default
      snapshotter:
        description: The snapshotter that they should be unpacked for. That of the daemon's CRI configuration if it is left out.
        type: str
      platform:
        description: The platform that they should be for. The node's own if it is left out.
        type: str
  toolboxes:
    description:
      - Toolboxes that should be there, or not, see M(slipway.node.toolbox_snapshot). Whatever else is pinned and no container's is
        reported, with its size; so with an empty list, every toolbox is.
      - If it is left out, what garbage collection threatens is looked for all the same, and what is pinned is only counted.
    type: list
    elements: dict
    suboptions:
      path:
        description: Its directory.
        type: path
        required: true
      namespace:
        description: The containerd namespace.
        type: str
        default: default
      snapshotter:
        description: The snapshotter that it is made by. That of the daemon's CRI configuration if it is left out.
        type: str
      state:
        description: What it should be.
        type: str
        choices: [present, mounted, absent]
        default: mounted
  layers_min:
    description:
      - How many layers an image must be able to have, for overlayfs to mount it on this node. V(128) has room for whatever
        Docker builds, whose own limit is 127.
    type: int
    default: 128
  integrity:
    description:
      - How closely the node's images, those of all namespaces that are unpacked for CRI's snapshotter or for a handler's, are
        compared with the layers that they were unpacked from, see M(slipway.node.containerd_image).
      - V(auto), by V(metadata) if the node wasn't shut down properly before this boot, or that can't be told; else not at all.
    type: str
    choices: [auto, none, metadata, content]
    default: auto
  kata:
    description:
      - The Kata handlers that should be there, under the option names of M(slipway.node.kata_config),
        O(slipway.node.kata_config#module:handlers). Handlers that the node has are checked all the same.
    type: list
    elements: dict
    default: []
  pool_warn:
    description: From how much use on, in percent, of its data or metadata space, the thin pool of the devmapper snapshotter is warned of.
    type: int
    default: 80
  pool_fail:
    description: From how much use on it fails.
    type: int
    default: 95
  only:
    description: Run these checks alone, by id.
    type: list
    elements: str
    default: []
  skip:
    description: Leave these checks out, by id.
    type: list
    elements: str
    default: []
  fail_on:
    description: Statuses of a finding that make the module fail. With an empty list it only reports.
    type: list
    elements: str
    choices: [fail, unknown, warn]
    default: [fail]
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.settings
requirements:
  - tomlkit, on Python older than 3.11
seealso:
  - module: slipway.node.containerd_config
  - module: slipway.node.containerd_image
  - module: slipway.node.toolbox_snapshot
  - module: slipway.node.kata_config
  - module: slipway.node.thin_pool_info
"""

EXAMPLES = r"""
- name: Is this node what the inventory says?
  slipway.node.node_verify:
    settings:
      image_pull_sync_fs: true
      snapshotter: overlayfs

- name: Is any file of an image damaged?
  slipway.node.node_verify:
    integrity: content
    only: [images_intact]

- name: Are the kubelet's images there?
  slipway.node.node_verify:
    images:
      - name:
          - registry.k8s.io/pause:3.10
          - docker.io/library/alpine:3.22
        namespace: k8s.io
    only: [images_present, unfinished_pulls]

- name: Is any toolbox going to be deleted under its users, or are there some that nobody knows of?
  slipway.node.node_verify:
    toolboxes:
      - path: /var/lib/toolbox/debug
    only: [toolboxes, toolboxes_unlisted, snapshots_at_risk]
    fail_on: [fail, warn]

- name: Report everything, fail on nothing
  slipway.node.node_verify:
    fail_on: []
  register: node

- name: Look at one thing alone, and insist on knowing it
  slipway.node.node_verify:
    only: [durability_cri]
    fail_on: [fail, warn, unknown]
"""

RETURN = r"""
checks:
  description: The findings, in a fixed order.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Name of the check.
      type: str
      sample: daemon_fresh
    status:
      description: One of V(ok), V(warn), V(unknown) and V(fail).
      type: str
    expected:
      description: What should be.
      type: raw
    found:
      description: What is.
      type: raw
    remedy:
      description: What to do about it; empty if nothing has to be done.
      type: str
summary:
  description: How many findings there are of each status, and under C(worst) the worst status.
  returned: always
  type: dict
  sample: {"fail": 0, "unknown": 0, "warn": 1, "ok": 18, "worst": "warn"}
version:
  description: Version of the installed containerd.
  returned: when it is installed
  type: str
  sample: 1.7.24
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.discreet import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.host.node_state import read_node
from ansible_collections.slipway.node.plugins.module_utils.model.checks import chosen, run_checks, summarize
from ansible_collections.slipway.node.plugins.module_utils.model.findings import AUTO, Expectation, ExpectedImage
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import LEVELS, UNCOMPARED
from ansible_collections.slipway.node.plugins.module_utils.model.kata_handler import parse_handlers
from ansible_collections.slipway.node.plugins.module_utils.model.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.model.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox import ABSENT, MOUNTED, PRESENT
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox_checks import CHECKS as TOOLBOX_CHECKS
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox_state import ExpectedToolbox
from ansible_collections.slipway.node.plugins.module_utils.model.unit import Service
from ansible_collections.slipway.node.plugins.module_utils.run import run_module

# The limit of each command to the daemon. A proxy's service or a disk that hangs must not hold up a fleet's run.
CTR_SECONDS = 120


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    containerd = Containerd.from_module(module, timeout=CTR_SECONDS)
    expectation = Expectation(
        settings=Settings.from_params(params["settings"]),
        environment=Service.from_params({}, params["http_proxy"] or {}).environment(),
        images=ExpectedImage.several(params["images"]),
        layers_min=params["layers_min"],
        integrity=params["integrity"],
        toolboxes=None if params["toolboxes"] is None else ExpectedToolbox.several(params["toolboxes"]),
        kata=tuple(parse_handlers(params["kata"])),
        pool_warn=params["pool_warn"],
        pool_fail=params["pool_fail"],
    )
    wanted = chosen(params["only"], params["skip"])
    state = read_node(
        containerd,
        expectation=expectation,
        integrity=expectation.integrity if "images_intact" in wanted else UNCOMPARED,
        writable=not TOOLBOX_CHECKS.keys().isdisjoint(wanted),
    )
    findings = run_checks(state, expectation, params["only"], params["skip"])
    result: dict[str, Any] = {
        "changed": False,
        "checks": [finding.to_dict() for finding in findings],
        "summary": summarize(findings),
    }
    if state.version is not None:
        result["version"] = str(state.version)
    bad = [finding for finding in findings if finding.status in params["fail_on"]]
    if bad:
        result["failed"] = True
        result["msg"] = "; ".join(f"{one.id}: {one.found} ({one.remedy})" for one in bad)
    return result


def main() -> None:
    run_module(
        run,
        {
            **SHARED_OPTIONS,
            "images": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "list", "elements": "str", "required": True},
                    "namespace": {"type": "str", "default": "default"},
                    "snapshotter": {"type": "str"},
                    "platform": {"type": "str"},
                },
            },
            "toolboxes": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "path": {"type": "path", "required": True},
                    "namespace": {"type": "str", "default": "default"},
                    "snapshotter": {"type": "str"},
                    "state": {"type": "str", "choices": [PRESENT, MOUNTED, ABSENT], "default": MOUNTED},
                },
            },
            "layers_min": {"type": "int", "default": 128},
            "integrity": {"type": "str", "choices": [AUTO, *LEVELS], "default": AUTO},
            "kata": {"type": "list", "elements": "dict", "default": []},
            "pool_warn": {"type": "int", "default": 80},
            "pool_fail": {"type": "int", "default": 95},
            "only": {"type": "list", "elements": "str", "default": []},
            "skip": {"type": "list", "elements": "str", "default": []},
            "fail_on": {
                "type": "list",
                "elements": "str",
                "choices": ["fail", "unknown", "warn"],
                "default": ["fail"],
            },
            **Containerd.OPTIONS,
        },
        module_type=SecretParamsModule,
    )


if __name__ == "__main__":
    main()
