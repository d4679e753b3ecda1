#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_verify
short_description: Verify the state of a containerd node
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Reads the state of containerd on the node (unit, process, configuration files, effective configuration, plugins, images,
    toolboxes, file systems) and runs all checks that apply.
  - Each finding contains the expected state, the actual state and the remedy. A state that can't be determined is V(unknown), never V(ok).
  - Nothing on the node is changed. With O(probe), containers or pods are started and removed again.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  action:
    description: A part of the module runs on the controller.
    support: full
options:
  images:
    description: Images that must exist, be unpacked and be mountable. If the list is empty, images aren't checked for existence.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Names of the images, expanded as in M(slipway.node.containerd_image).
        type: list
        elements: str
        required: true
      namespace:
        description: The containerd namespace. The kubelet uses V(k8s.io).
        type: str
        default: default
      snapshotter:
        description: The snapshotter that the images must be unpacked for. Default is the snapshotter of the daemon's CRI configuration.
        type: str
      platform:
        description: Platform of the images. Default is the platform of the node.
        type: str
  toolboxes:
    description:
      - Expected toolboxes, see M(slipway.node.toolbox_snapshot). Other pinned snapshots that don't belong to a container are reported
        with their sizes. An empty list therefore reports every toolbox.
      - If it isn't set, pinned snapshots are only counted. Snapshots that garbage collection will delete are reported in any case.
    type: list
    elements: dict
    suboptions:
      path:
        description: Directory of the toolbox.
        type: path
        required: true
      namespace:
        description: The containerd namespace.
        type: str
        default: default
      snapshotter:
        description: Snapshotter of the toolbox. Default is the snapshotter of the daemon's CRI configuration.
        type: str
      state:
        description: Expected state of the toolbox.
        type: str
        choices: [present, mounted, absent]
        default: mounted
  registries:
    description:
      - Expected registries. The files in the first directory of O(settings.registry_config_path), by default C(/etc/containerd/certs.d),
        are compared with those that M(slipway.node.containerd_registry) would write.
      - Registries that the module configured and that aren't listed are reported. If the option isn't set, nothing is compared.
    type: list
    elements: dict
  min_layers:
    description:
      - Number of layers of an image that overlayfs must be able to mount on this node. The default allows all images that Docker
        builds, which have at most 127 layers.
    type: int
    default: 128
  integrity:
    description:
      - How to compare images with the layers that they were unpacked from, see M(slipway.node.containerd_image). This applies to the
        images of all namespaces that are unpacked for the snapshotter of CRI or of a handler.
      - V(auto) uses V(metadata) if the node wasn't shut down cleanly before this boot, or if that is unknown; otherwise V(none).
    type: str
    choices: [auto, none, metadata, content]
    default: auto
  kata_handlers:
    description:
      - Expected Kata handlers, with the suboptions of O(slipway.node.kata_config#module:handlers). Other handlers of the node are
        checked too.
    type: list
    elements: dict
    default: []
  thin_pool_warn_percent:
    description: Warn when the thin pool of the devmapper snapshotter is this full (percent of its data or metadata space).
    type: int
    default: 80
  thin_pool_fail_percent:
    description: Fail when the thin pool is this full (percent).
    type: int
    default: 95
  probe:
    description:
      - The object to start with each runtime handler of CRI, and to remove again.
      - V(container) starts a container through containerd, in a separate namespace. The image is part of the module, so the node needs
        no image, network or CNI. C(ctr) passes only C(BinaryName), C(Root), C(SystemdCgroup) and C(ConfigPath) of a handler's options.
      - V(pod) starts a pod without containers in the node's network, through CRI. It needs C(crictl) and the sandbox image.
      - A Kata handler whose settings could give the host's own disk to a guest isn't started.
      - The objects are removed even if the module is killed. If its processes are killed too, the next probe removes them.
    type: str
    choices: [none, container, pod]
    default: none
  timeout:
    description:
      - Seconds within which the node is read. Parts that haven't been read by then are V(unknown), and all other parts are reported.
      - The module waits at most 30 seconds for a file, a directory or a device, and at most 60 seconds for a program. A daemon that
        lists no plugins within 20 seconds counts as one that doesn't answer.
      - The limit doesn't apply to the comparison of images (O(integrity)) and to O(probe).
    type: int
    default: 120
  only:
    description: IDs of the only checks to run. Default is all checks.
    type: list
    elements: str
    default: []
  skip:
    description: IDs of checks to skip.
    type: list
    elements: str
    default: []
  fail_on:
    description: Statuses of findings that make the module fail. With an empty list, the module only reports.
    type: list
    elements: str
    choices: [fail, unknown, warn]
    default: [fail]
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
  - slipway.node.registries
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
- name: Verify the settings
  slipway.node.node_verify:
    settings:
      image_pull_sync_fs: true
      snapshotter: overlayfs

- name: Check images for damaged files
  slipway.node.node_verify:
    integrity: content
    only: [image_integrity]

- name: Check that the kubelet's images are on the node
  slipway.node.node_verify:
    images:
      - name:
          - registry.k8s.io/pause:3.10
          - docker.io/library/alpine:3.22
        namespace: k8s.io
    only: [images_present, interrupted_pulls]

- name: Find toolboxes that garbage collection will delete, and unlisted ones
  slipway.node.node_verify:
    toolboxes:
      - path: /var/lib/toolbox/debug
    only: [toolboxes, unlisted_snapshots, snapshots_at_risk]
    fail_on: [fail, warn]

- name: Report all findings and never fail
  slipway.node.node_verify:
    fail_on: []
  register: node

- name: Check that a container starts with each runtime handler
  slipway.node.node_verify:
    probe: container
    only: [handler_starts]
    fail_on: [fail, unknown]

- name: Run one check, and fail if its result is unknown
  slipway.node.node_verify:
    only: [durability_cri]
    fail_on: [fail, warn, unknown]
"""

RETURN = r"""
checks:
  description:
    - The findings, the worst first, and those of one status in a fixed order.
    - Checks that can't be determined because of another finding, or for the same reason, are combined in one finding for each cause.
      It has the ID V(undetermined), and counts and names the checks.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: ID of the check.
      type: str
      sample: restart_pending
    status:
      description: One of V(ok), V(warn), V(unknown) and V(fail).
      type: str
    expected:
      description: The expected state.
      type: raw
    found:
      description: The actual state, or why it is unknown.
      type: raw
    remedy:
      description: How to correct the state; empty with V(ok).
      type: str
summary:
  description: Number of findings by status, and the worst status.
  returned: always
  type: dict
  contains:
    fail:
      description: Number of findings with the status V(fail).
      type: int
    unknown:
      description: Number of findings with the status V(unknown).
      type: int
    warn:
      description: Number of findings with the status V(warn).
      type: int
    ok:
      description: Number of findings with the status V(ok).
      type: int
    worst:
      description: The worst status; V(unknown) if no check applied.
      type: str
  sample: {"fail": 0, "unknown": 0, "warn": 1, "ok": 18, "worst": "warn"}
version:
  description: Version of the installed containerd.
  returned: when containerd is installed
  type: str
  sample: 1.7.24
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

import ansible_collections.slipway.node.plugins.module_utils.core.host.bytecode  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.slipway.node.plugins.module_utils.config.service_unit import Service
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.containerd.setting_rows import SHARED_OPTIONS
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.secret_params import SecretParamsModule
from ansible_collections.slipway.node.plugins.module_utils.core.options import at_least
from ansible_collections.slipway.node.plugins.module_utils.images.expected import ExpectedImage
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import AUTO, INTEGRITY_NONE, LEVELS
from ansible_collections.slipway.node.plugins.module_utils.kata.handler import parse_handlers
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import KINDS, NONE
from ansible_collections.slipway.node.plugins.module_utils.registry_hosts.hosts import parse_registries, registry_options
from ansible_collections.slipway.node.plugins.module_utils.run import run_module
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, MOUNTED, PRESENT
from ansible_collections.slipway.node.plugins.module_utils.toolbox.state import ExpectedToolbox
from ansible_collections.slipway.node.plugins.module_utils.verify import probe_checks, toolbox_checks
from ansible_collections.slipway.node.plugins.module_utils.verify.checks import (
    checks_in,
    chosen,
    report,
    run_checks,
    summarize,
)
from ansible_collections.slipway.node.plugins.module_utils.verify.findings import Expectation
from ansible_collections.slipway.node.plugins.module_utils.verify.host.node_state import read_node
from ansible_collections.slipway.node.plugins.module_utils.verify.host.probe import with_probe

# The limit of each program. A daemon, a proxy's service or a disk that hangs must not hold up a fleet's run.
PROGRAM_SECONDS = 60


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    containerd = Containerd.from_module(module, timeout=PROGRAM_SECONDS)
    expectation = Expectation(
        settings=Settings.from_params(params["settings"]),
        environment=Service.from_params({}, params["http_proxy"] or {}).environment(),
        images=ExpectedImage.several(params["images"]),
        min_layers=params["min_layers"],
        integrity=params["integrity"],
        toolboxes=None if params["toolboxes"] is None else ExpectedToolbox.several(params["toolboxes"]),
        kata=tuple(parse_handlers(params["kata_handlers"])),
        thin_pool_warn_percent=params["thin_pool_warn_percent"],
        thin_pool_fail_percent=params["thin_pool_fail_percent"],
        probe=params["probe"],
        registries=None if params["registries"] is None else parse_registries(params["registries"]),
    )
    timeout = at_least(1)("timeout", params["timeout"])
    wanted = chosen(params["only"], params["skip"])
    if os.geteuid() != 0:
        raise HostError("only root can read the state of the node")
    state = read_node(
        containerd,
        expectation=expectation,
        integrity=expectation.integrity if "image_integrity" in wanted else INTEGRITY_NONE,
        writable=not checks_in(toolbox_checks).keys().isdisjoint(wanted),
        timeout=timeout,
    )
    if expectation.probe != NONE and not checks_in(probe_checks).keys().isdisjoint(wanted):
        state = with_probe(state, containerd, expectation.probe)
    findings = report(run_checks(state, expectation, params["only"], params["skip"]))
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
            "registries": {"type": "list", "elements": "dict", "options": registry_options()},
            "min_layers": {"type": "int", "default": 128},
            "integrity": {"type": "str", "choices": [AUTO, *LEVELS], "default": AUTO},
            "kata_handlers": {"type": "list", "elements": "dict", "default": []},
            "thin_pool_warn_percent": {"type": "int", "default": 80},
            "thin_pool_fail_percent": {"type": "int", "default": 95},
            "probe": {"type": "str", "choices": list(KINDS), "default": NONE},
            "timeout": {"type": "int", "default": 120},
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
