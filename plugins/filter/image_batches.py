# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_batches
short_description: The images of an inventory, gathered into tasks for containerd_image
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Takes the list C(containerd_images) of the role C(containerd), and puts images together that differ by name alone. Each batch
    is one run of M(slipway.node.containerd_image), which brings all of its images to disk at once.
  - Names are spelled out as containerd has them.
positional: _input, namespace
options:
  _input:
    description:
      - Images, each with a C(name) (one, or a list) and any of C(namespace), C(state), C(pull), C(archive), C(remote_archive),
        C(platform), C(snapshotter), C(hosts_dir), C(plain_http), C(username) and C(password).
    type: list
    elements: dict
    required: true
  namespace:
    description: The containerd namespace of images that name none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say what is going to be asked of the nodes
  ansible.builtin.debug:
    msg: "{{ containerd_images | slipway.node.image_batches('k8s.io') | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description:
    - The batches, in the order of their first images. Each is a dictionary with C(name), which is a list, C(namespace) and
      C(state), and of the other keys those that were set.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.module_utils.model import reference

_KEYS = (
    "name",
    "namespace",
    "state",
    "pull",
    "archive",
    "remote_archive",
    "platform",
    "snapshotter",
    "hosts_dir",
    "plain_http",
    "username",
    "password",
)
_VARIABLE = "containerd_images"


def image_batches(images: Sequence[Mapping[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """One dictionary a batch. Raises AnsibleFilterError that names the element at fault, but none of its values."""
    if isinstance(images, (str, Mapping)) or not isinstance(images, Sequence):
        raise AnsibleFilterError(f"{_VARIABLE} has to be a list of dictionaries, each with a name")
    batches: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        names, settings = _understood(f"{_VARIABLE}[{number}]", image, namespace)
        batch = next((one for one in batches if {**one, "name": None} == {**settings, "name": None}), None)
        if batch is None:
            batch = {**settings, "name": []}
            batches.append(batch)
        batch["name"] += [name for name in names if name not in batch["name"]]
    _check_states(batches)
    return batches


def _understood(where: str, image: Any, namespace: str) -> tuple[list[str], dict[str, Any]]:
    if not isinstance(image, Mapping):
        raise AnsibleFilterError(f"{where} has to be a dictionary with a name, such as {{name: docker.io/library/alpine:3.22}}")
    unknown = [key for key in image if key not in _KEYS]
    if unknown:
        raise AnsibleFilterError(f"{where} has no key {unknown[0]!r}: it takes {', '.join(_KEYS)}")
    given = {key: value for key, value in image.items() if value is not None}
    settings = {"namespace": namespace, "state": "present", **{key: value for key, value in given.items() if key != "name"}}
    if "archive" in given and "remote_archive" in given:
        raise AnsibleFilterError(f"{where} has archive, which is on the controller, and remote_archive: leave one out")
    if settings["state"] == "absent" and ("archive" in given or "remote_archive" in given):
        raise AnsibleFilterError(f"{where} is to be absent, so it needs no archive: leave it out")
    return _names(where, given.get("name")), settings


def _names(where: str, given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise AnsibleFilterError(f"{where} needs a name, or a list of names, also if it comes from an archive")
    try:
        return [str(reference.parse(name)) for name in names]
    except ValueError as error:
        raise AnsibleFilterError(f"{where}: {error}") from error


def _check_states(batches: Sequence[Mapping[str, Any]]) -> None:
    """An image that is to be there and not there would come and go at every run."""
    states: dict[tuple[str, str], str] = {}
    for batch in batches:
        for name in batch["name"]:
            if states.setdefault((batch["namespace"], name), batch["state"]) != batch["state"]:
                raise AnsibleFilterError(f"{_VARIABLE} has {name} in {batch['namespace']} both present and absent: decide on one")


class FilterModule:
    """The collection's view of the images in an inventory."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"image_batches": image_batches}
