# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: toolboxes
short_description: The toolboxes of an inventory, completed for toolbox_snapshot
version_added: 0.1.0
author:
  - the slipway.node authors (@slipway)
description:
  - Takes the list C(toolbox_snapshots) of the role C(toolbox), checks it, and gives every toolbox a name, a path, a namespace and
    a state.
  - A toolbox without a name gets the one that Flatcar's C(toolbox) looks for, made of the user and the image.
positional: _input, directory, user
options:
  _input:
    description:
      - Toolboxes, each with C(name) or C(image) and any of C(path), C(state), C(on_image_change), C(labels), C(namespace),
        C(snapshotter), C(platform), C(hosts_dir), C(plain_http), C(username) and C(password).
    type: list
    elements: dict
    required: true
  directory:
    description: The directory of toolboxes that have no path.
    type: str
    required: true
  user:
    description: Name of the user who enters the toolbox with Flatcar's command.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say where the toolboxes are
  ansible.builtin.debug:
    msg: "{{ toolbox_snapshots | slipway.node.toolboxes('/var/lib/toolbox', 'core') | map(attribute='path') }}"
"""

RETURN = r"""
_value:
  description:
    - The toolboxes with C(name), C(path), C(namespace), C(state), and of the other keys those that were set. One that Flatcar's
      C(toolbox) finds has C(flatcar), a dictionary with its C(image) and C(tag).
  type: list
  elements: dict
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.module_utils.model import reference
from ansible_collections.slipway.node.plugins.module_utils.model.toolbox import (
    ABSENT,
    MOUNTED,
    PRESENT,
    toolbox_name,
    toolbox_path,
)

_KEYS = (
    "name",
    "image",
    "path",
    "state",
    "on_image_change",
    "labels",
    "namespace",
    "snapshotter",
    "platform",
    "hosts_dir",
    "plain_http",
    "username",
    "password",
)
_VARIABLE = "toolbox_snapshots"
_STATES = (PRESENT, MOUNTED, ABSENT)
_ON_IMAGE_CHANGE = ("keep", "recreate")


def toolboxes(entries: Sequence[Mapping[str, Any]], directory: str, user: str) -> list[dict[str, Any]]:
    """One dictionary a toolbox. Raises AnsibleFilterError that names the element at fault, but none of its credentials."""
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise AnsibleFilterError(f"{_VARIABLE} has to be a list of dictionaries, each with a name or an image")
    found: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        where = f"{_VARIABLE}[{number}]"
        try:
            one = _understood(entry, directory, user)
        except ValueError as error:
            raise AnsibleFilterError(f"{where}: {error}") from error
        if one["path"] in [other["path"] for other in found]:
            raise AnsibleFilterError(f"{where}: there is another toolbox at {one['path']}: list each once")
        found.append(one)
    return found


def _understood(entry: Any, directory: str, user: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("it has to be a dictionary with a name or an image, such as {image: docker.io/library/debian:13}")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ValueError(f"it has no key {unknown[0]!r}: it takes {', '.join(_KEYS)}")
    given = {key: value for key, value in entry.items() if value is not None}
    state = _one_of("state", given.get("state", MOUNTED), _STATES)
    _one_of("on_image_change", given.get("on_image_change", _ON_IMAGE_CHANGE[0]), _ON_IMAGE_CHANGE)
    if "image" not in given and state != ABSENT:
        raise ValueError("it needs an image")
    if "image" not in given and "name" not in given:
        raise ValueError("it needs a name or an image")
    image = reference.parse(_text("image", given["image"])) if "image" in given else None
    name = toolbox_name("name", _text("name", given["name"] if "name" in given else _flatcar_name(image, user)))
    path = toolbox_path("path", _text("path", given.get("path", posixpath.join(directory, name))), removing=state == ABSENT)
    if image is not None and path == posixpath.join(directory, _flatcar_name(image, user)) and image.tag and not image.digest:
        given["flatcar"] = {"image": image.repository, "tag": image.tag}
    return {"namespace": "default", **given, "name": name, "path": path, "state": state}


def _flatcar_name(image: reference.ImageName | None, user: str) -> str:
    """What Flatcar's toolbox makes of an image: github.com/flatcar/toolbox."""
    if image is None:
        return ""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", f"{user}-{image.repository}-{image.tag or image.digest}")


def _one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{key} has to be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} has to be a text, not {value!r}")
    return value


class FilterModule:
    """The collection's view of the toolboxes in an inventory."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"toolboxes": toolboxes}
