#!/usr/bin/python
# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_image
short_description: Have images on a node that survive a power cut
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Pulls images, or imports them from an archive, unpacks them, brings them to disk, and gives them their names last. So
    whatever has a name survives a power cut one instant later, on every version of containerd.
  - What is missing is found in one look. The registry is asked only for what has to come; nothing is downloaded of an image
    that is for another platform, or has more layers than overlayfs can mount on this node.
  - All images of a task are brought to disk together, by one C(syncfs) for each file system. So give the module a list
    rather than a loop.
  - A run that is killed, or cut off with the power, leaves a record in containerd's directory. The next run finishes what it
    left; after a reboot it first compares the layers that may have been lost with what they were made of, and unpacks those
    again that differ.
  - An image that is there already, but was pulled by somebody else, is compared with its layers once and brought to
    disk. From then on it costs a look.
attributes:
  check_mode:
    support: full
    details: The registry is asked as in a real run, with the same credentials; nothing is left on the node.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Names of the images, by tag or digest. Short ones are spelled out as Docker does, V(alpine) is
        V(docker.io/library/alpine:latest).
      - Without it, all images of the O(archive).
      - V(*) alone stands for all images of the namespace that are unpacked; it goes with O(integrity).
    type: list
    elements: str
    aliases: [names]
  state:
    description:
      - V(present), each image is there, unpacked for the O(snapshotter).
      - V(absent), these names are gone; and with the last name of an image its space. Nothing else is removed, RV(images[].used_by)
        says what keeps an image.
    type: str
    choices: [present, absent]
    default: present
  pull:
    description:
      - V(missing), an image that is there stays as it is, and no registry is asked.
      - V(always), the registry (or the archive) is asked whether the name stands for another image by now.
    type: str
    choices: [missing, always]
    default: missing
  archive:
    description:
      - Path on the node of an archive to import instead of pulling, as C(docker save), C(ctr images export) or C(skopeo copy) make
        it, plain or compressed with gzip.
      - An archive of one image gives it the name in O(name), if that is one name, whatever it is called in there.
    type: path
  platform:
    description: Platform of the images, as V(linux/arm64) or V(linux/arm/v7). The node's own if it is left out.
    type: str
  snapshotter:
    description: The snapshotter to unpack for. That of the daemon's CRI configuration if it is left out.
    type: str
  namespace:
    description: The containerd namespace. That of the kubelet is V(k8s.io).
    type: str
    default: default
  hosts_dir:
    description:
      - Directory with a C(hosts.toml) for each registry. The first one in the daemon's CRI configuration that is there
        if it is left out, so that images come from the same mirrors as the kubelet's.
    type: path
  plain_http:
    description: Talk plain HTTP to the registry.
    type: bool
    default: false
  username:
    description: Name of the user at the registry. It is sent to whichever host C(hosts.toml) leads to.
    type: str
  password:
    description: The user's password or token. It is in no process's arguments, and in no log.
    type: str
  parallel:
    description: How many images are pulled at the same time.
    type: int
    default: 3
  durable:
    description:
      - Whether the images have to be on disk before they get their names. Without it they are as safe as with C(ctr), which is
        not at all for the next half minute.
    type: bool
    default: true
  integrity:
    description:
      - How closely images that are there are compared with the layers that they were unpacked from.
      - V(metadata), whether each file is there, with its type, size, mode, owner, link target, device number and extended
        attributes. That finds what a power cut does.
      - V(content), the bytes of files and layers as well.
      - An image that isn't as its layers fails, unless O(repair) is set.
    type: str
    choices: [none, metadata, content]
    default: none
  repair:
    description:
      - Whether damaged images are mended. Files are unpacked again from the layers on the node, without any registry; layers
        and documents that are damaged themselves are fetched again, from the O(archive) if there is one.
      - Other images that share a damaged layer are mended with it.
      - What a container, a toolbox or a mount is made of is left alone, and reported with its users.
      - A daemon that has lost its own UUID gets another one.
    type: bool
    default: false
  timeout:
    description: How many seconds one image may take; also how long another run on this node is waited for.
    type: int
    default: 1800
extends_documentation_fragment:
  - slipway.node.attributes
  - slipway.node.daemon
requirements:
  - tomlkit, on Python older than 3.11
seealso:
  - module: slipway.node.containerd_image_info
  - module: slipway.node.containerd_config
"""

EXAMPLES = r"""
- name: Preload the kubelet's images
  slipway.node.containerd_image:
    name:
      - registry.k8s.io/pause:3.10
      - docker.io/library/alpine:3.22
    namespace: k8s.io

- name: Follow a tag
  slipway.node.containerd_image:
    name: registry.example/app:stable
    pull: always
    username: deploy
    password: "{{ registry_password }}"

- name: Load what was carried to an air-gapped site
  slipway.node.containerd_image:
    archive: /var/tmp/images.tar

- name: Compare all of the kubelet's images with their layers, and mend them
  slipway.node.containerd_image:
    name: "*"
    namespace: k8s.io
    integrity: metadata
    repair: true

- name: Remove an image
  slipway.node.containerd_image:
    name: docker.io/library/alpine:3.21
    state: absent
"""

RETURN = r"""
images:
  description: The images in the order of O(name).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name, spelled out.
      type: str
      sample: docker.io/library/alpine:3.22
    action:
      description:
        - What was done, or would be in check mode. V(none), V(pull), V(import), V(unpack) (its blobs were there), V(sync) (it was
          there, and was compared with its layers and brought to disk), V(repair), or V(remove).
      type: str
    digest:
      description: Digest of the index or manifest that the name stands for; none if it isn't known yet, or the image is absent.
      type: str
      sample: sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1
    platform:
      description: Operating system and architecture.
      type: str
      sample: linux/amd64
    layers:
      description: Number of its layers.
      type: int
    chain_id:
      description: Name of its topmost layer's snapshot; none if it has no layers.
      type: str
    size:
      description: Bytes of its blobs, compressed as they are.
      type: int
    bytes:
      description: Bytes of those that the node didn't have before.
      type: int
    seconds:
      description: How long pulling, importing or unpacking took.
      type: float
    durability:
      description:
        - V(durable), it survives a power cut; V(not_durable), it may not, since O(durable) is off; V(unknown) with snapshotters whose
          files containerd and the kernel don't flush together.
      type: str
    integrity:
      description:
        - What came of comparing it with its layers. V(intact); V(damaged), and it stays so; V(repaired); or V(unknown), with
          the reason. In check mode, V(damaged) also if it would be mended. None if it wasn't compared.
      type: str
    differences:
      description: What was found wrong, by path; the first 100 of them.
      returned: when it was compared
      type: dict
      sample: {"/usr/lib/libc.so.6": "is empty, should have 1926256 bytes"}
    difference_count:
      description: How many files are not as in the layers.
      returned: when it was compared
      type: int
    file_count:
      description: How many files there should be.
      returned: when it was compared
      type: int
    damaged_blobs:
      description: Digests of its layers and documents that are not in the content store as they have to be.
      returned: when it was compared
      type: list
      elements: str
    integrity_reason:
      description: Why it can't be told whether it is intact; empty if it can.
      returned: when it was compared
      type: str
    used_by:
      description: With O(state=absent), other names of the image and containers that were made of it, which keep it on disk.
      type: list
      elements: str
recovered:
  description:
    - What an earlier run left behind, judged after a power cut; also images that were repaired, with those that share their
      layers, and images of other tools that were compared with their layers. V(intact), V(unpacked again), V(dropped)
      (nothing of it was of use any more), V(broken), or V(made anew) of what the daemon keeps for itself.
  returned: with state present, if there was something to judge
  type: list
  elements: dict
  sample: [{"name": "docker.io/library/alpine:3.22", "outcome": "unpacked again", "reason": "12 files differ from its layers"}]
synced:
  description: The file systems that were brought to disk, by a directory on each, and how many seconds that took.
  returned: with state present
  type: list
  elements: dict
  sample: [{"path": "/var/lib/containerd/io.containerd.content.v1.content", "seconds": 0.41}]
bytes:
  description: Bytes that came onto the node.
  returned: with state present
  type: int
seconds:
  description: How long all of it took.
  returned: with state present
  type: float
summary:
  description: The same for people, a line for each image that something was done for.
  returned: with state present
  type: list
  elements: str
  sample: ["docker.io/library/alpine:3.22: pull, 3.8 MB in 1.2 s", "brought to disk in 0.4 s"]
snapshotter:
  description: The snapshotter that the images are unpacked for.
  returned: with state present
  type: str
  sample: overlayfs
"""

import time
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.node.plugins.module_utils.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.host.daemon_uuid import mend_uuid, uuid_trouble
from ansible_collections.slipway.node.plugins.module_utils.host.image_node import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.host.image_steps import Outcome, Step
from ansible_collections.slipway.node.plugins.module_utils.host.image_target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.host.mending import (
    BROKEN,
    DAMAGED,
    MADE_ANEW,
    REPAIRED,
    Mended,
    details,
)
from ansible_collections.slipway.node.plugins.module_utils.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.host.store import NamespaceStore
from ansible_collections.slipway.node.plugins.module_utils.host.transaction import exclusive
from ansible_collections.slipway.node.plugins.module_utils.model import durability, image_plan
from ansible_collections.slipway.node.plugins.module_utils.model.image_plan import Removal, Request, plan_removal
from ansible_collections.slipway.node.plugins.module_utils.model.pull_way import PullPath
from ansible_collections.slipway.node.plugins.module_utils.run import run_module


class Report:
    """The module's result, of what was planned and, unless in check mode, done."""

    def __init__(self, steps: tuple[Step, ...], outcome: Outcome, request: Request, pull_path: PullPath) -> None:
        self._steps = steps
        self._outcome = outcome
        self._request = request
        self._pull_path = pull_path

    def to_dict(self, recovered: tuple[Mended, ...], seconds: float, changed: bool) -> dict[str, Any]:
        outcome = self._outcome
        judged = (*recovered, *outcome.repaired)
        actions = {str(step.name): step.action for step in self._steps if step.action != image_plan.NONE}
        return {
            "changed": changed,
            "images": [self._image(step) for step in self._steps],
            **({"recovered": [one.to_dict() for one in judged]} if judged else {}),
            "synced": [one.to_dict() for one in outcome.synced],
            "bytes": sum(step.missing for step in self._steps),
            "seconds": round(seconds, 3),
            "summary": self._summary(),
            "snapshotter": self._pull_path.snapshotter,
            "diff": {"before": "", "after": "".join(f"{name}: {action}\n" for name, action in actions.items())},
        }

    def _image(self, step: Step) -> dict[str, Any]:
        chain = step.image.chain
        return {
            "name": str(step.name),
            "action": step.action,
            "digest": self._outcome.digests.get(str(step.name), step.digest) or None,
            "platform": step.image.platform,
            "layers": step.image.layers,
            "chain_id": chain[-1] if chain else None,
            "size": step.image.size,
            "bytes": step.missing,
            "seconds": round(self._outcome.seconds.get(str(step.name), 0.0), 3),
            "durability": self._pull_path.durability if self._request.durable else durability.NOT_DURABLE,
            **self._integrity(step),
        }

    def _integrity(self, step: Step) -> dict[str, Any]:
        comparison = self._outcome.found.get(str(step.name), step.found)
        if comparison is None:
            return {"integrity": None}
        found = details(comparison)
        repaired = {one.name for one in self._outcome.repaired}.difference(self._outcome.failures)
        if found["integrity"] == DAMAGED and str(step.name) in repaired:
            found["integrity"] = REPAIRED
        return found

    def _summary(self) -> list[str]:
        seconds = self._outcome.seconds
        lines = [
            f"{step.name}: {step.action}, {step.missing / 1e6:.1f} MB"
            + (f" in {seconds[str(step.name)]:.1f} s" if str(step.name) in seconds else "")
            for step in self._steps
            if step.action != image_plan.NONE
        ]
        return [*lines, *(f"{one.path}: brought to disk in {one.seconds:.1f} s" for one in self._outcome.synced)]


def have(module: AnsibleModule, containerd: Containerd, request: Request) -> dict[str, Any]:
    check = module.check_mode
    containerd.read_ahead()
    with nullcontext(None) if check else exclusive(request.timeout) as lock:
        started = time.monotonic()
        target = ImageTarget(containerd, request)
        provisioner = ImageProvisioner(target, lock) if lock is not None else None
        recovery = provisioner.recover() if provisioner is not None else None
        recovered = recovery.repaired if recovery is not None else ()
        plan = ImagePlanner(target, watch=check).plan()
        changed = plan.changed
        outcome = provisioner.apply(plan, recovery) if changed and provisioner is not None else plan.outcome
        if request.repair and uuid_trouble(target.root):
            changed = True
            recovered = (*recovered, Mended("the daemon's UUID", MADE_ANEW, uuid_trouble(target.root)))
            if not check:
                mend_uuid(target.root)
        result = Report(plan.steps, outcome, request, target.pull_path).to_dict(recovered, time.monotonic() - started, changed)
    broken = [f"{one.name}: {one.reason}" for one in recovered if one.outcome == BROKEN]
    if outcome.failures or broken:
        result["failed"] = True
        result["msg"] = "; ".join([*outcome.failures.values(), *broken])
    return result


def lose(module: AnsibleModule, store: NamespaceStore, request: Request) -> dict[str, Any]:
    with nullcontext(None) if module.check_mode else exclusive(request.timeout):
        references = {one.name: one.digest for one in store.images.references()}
        removal = plan_removal(request.names, references, store.containers.by_image(), module.params["namespace"])
        if removal.names and not module.check_mode:
            store.images.remove(*removal.names, sync=True)
    return {
        "changed": bool(removal.names),
        "images": [_lost(str(name), removal) for name in request.names],
        "diff": {"before": "".join(f"{name}\n" for name in removal.names), "after": ""},
    }


def _lost(name: str, removal: Removal) -> dict[str, Any]:
    return {
        "name": name,
        "action": image_plan.REMOVE if name in removal.names else image_plan.NONE,
        "digest": None,
        "used_by": list(removal.used_by.get(name, ())),
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    containerd = Containerd.from_module(module)
    request = Request.from_params(module.params, containerd.platform)
    containerd.check_installed()
    if not request.present:
        return lose(module, containerd.store(request.namespace), request)
    return have(module, containerd, request)


def main() -> None:
    run_module(
        run,
        {
            "name": {"type": "list", "elements": "str", "aliases": ["names"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "pull": {"type": "str", "choices": ["missing", "always"], "default": "missing"},
            "archive": {"type": "path"},
            "platform": {"type": "str"},
            "snapshotter": {"type": "str"},
            "namespace": {"type": "str", "default": "default"},
            "hosts_dir": {"type": "path"},
            "plain_http": {"type": "bool", "default": False},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "parallel": {"type": "int", "default": 3},
            "durable": {"type": "bool", "default": True},
            "integrity": {"type": "str", "choices": ["none", "metadata", "content"], "default": "none"},
            "repair": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 1800},
            **Containerd.OPTIONS,
        },
    )


if __name__ == "__main__":
    main()
