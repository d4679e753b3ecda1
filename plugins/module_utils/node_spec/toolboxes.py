# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Toolboxes of an inventory, completed for toolbox_snapshot and listed for node_verify."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.store import reference
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, MOUNTED, PRESENT
from ansible_collections.slipway.node.plugins.module_utils.toolbox.toolbox import toolbox_name, toolbox_path

VARIABLE = "toolbox_snapshots"
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
# The keys that node_verify takes.
_VERIFIED = ("path", "namespace", "snapshotter", "state")
_STATES = (PRESENT, MOUNTED, ABSENT)
_ON_IMAGE_CHANGE = ("keep", "recreate")


def toolboxes(entries: Any, directory: str, user: str) -> list[dict[str, Any]]:
    """Return one dictionary per toolbox, with ``name``, ``path``, ``namespace`` and ``state``.

    A toolbox that Flatcar's ``toolbox`` finds has ``flatcar``, a dictionary with its ``image`` and ``tag``.
    Raises ValueError that names the element at fault, but none of its credentials.
    """
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise ValueError(f"{VARIABLE} has to be a list of dictionaries, each with a name or an image")
    found: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        where = f"{VARIABLE}[{number}]"
        try:
            toolbox = _completed(entry, directory, user)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if toolbox["path"] in [other["path"] for other in found]:
            raise ValueError(f"{where}: there is another toolbox at {toolbox['path']}: list each once")
        found.append(toolbox)
    return found


def listed_toolboxes(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the toolboxes with the keys that node_verify takes."""
    return [{key: entry[key] for key in _VERIFIED if key in entry} for entry in entries]


def default_toolbox(entries: Sequence[Mapping[str, Any]], name: str | None, *, flatcar: bool, command: bool) -> Mapping[str, Any]:
    """Return the toolbox that the command enters: the one of that name, or the first that is mounted; empty if there is none.

    Raises ValueError if a setting needs one and there is none, or if Flatcar's command wouldn't find it.
    """
    mounted = [entry for entry in entries if entry["state"] == MOUNTED]
    default: Mapping[str, Any] = next((entry for entry in mounted if name is None or entry["name"] == name), {})
    if not default and (name is not None or flatcar or command):
        names = ", ".join(entry["name"] for entry in mounted) or "none"
        raise ValueError(
            f"toolbox_default_name names {name or 'no toolbox'}, but {VARIABLE} has {names} of state mounted: name one of these"
        )
    if flatcar and "flatcar" not in default:
        raise ValueError(
            f"toolbox_flatcar_defaults is set, but Flatcar's command doesn't find {default['path']}: it derives the name "
            "from toolbox_user and the image's name and tag, in toolbox_directory. Leave out name and path, and name the "
            "image by a tag"
        )
    return default


def _completed(entry: Any, directory: str, user: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("it has to be a dictionary with a name or an image, such as {image: docker.io/library/debian:13}")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ValueError(f"it has no key {unknown[0]!r}: its keys are {', '.join(_KEYS)}")
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
    """Return the name that Flatcar's toolbox derives from an image: github.com/flatcar/toolbox."""
    if image is None:
        return ""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", f"{user}-{image.repository}-{image.tag or image.digest}")


def _one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{key} has to be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} has to be a string, not {value!r}")
    return value
