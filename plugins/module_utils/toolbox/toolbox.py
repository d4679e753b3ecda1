# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requested toolbox: its name, its path and its image, validated without the node."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, one_line
from ansible_collections.slipway.node.plugins.module_utils.store import reference
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName
from ansible_collections.slipway.node.plugins.module_utils.toolbox import mount_unit
from ansible_collections.slipway.node.plugins.module_utils.toolbox.names import ABSENT, IMAGE_LABEL

PREFIX = "/var/lib/toolbox"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_PATH = re.compile(r"(/[A-Za-z0-9_.@+-]+)+\Z")
# Any path can be removed.
_PATH_OF_OTHERS = re.compile(r"(/[^/\x00-\x1f\x7f]+)+\Z")
_NOT_INSIDE = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/tmp",  # noqa: S108
    "/usr", "/var/run", "/var/tmp",  # noqa: S108
)  # fmt: skip
_NOT_THESE = (
    "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool", PREFIX,
)  # fmt: skip
# core/metadata and pkg/labels: the longest label, key and value together.
_LONGEST_LABEL = 4096


@dataclass(frozen=True)
class ToolboxSpec:
    """A requested toolbox. ``image`` is None if the toolbox is to be removed."""

    name: str
    path: str
    state: str
    image: ImageName | None = None
    recreate: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ToolboxSpec:
        """Parse the module's options. Raises ValueError that names the option."""
        name = toolbox_name("name", params["name"])
        state = params["state"]
        if state != ABSENT and params["image"] is None:
            raise ValueError(f"image is missing: with state {state}, the snapshot is created from it")
        path = params["path"] if params["path"] is not None else f"{PREFIX}/{name}"
        image = _image(params["image"]).within(params["namespace"]) if params["image"] is not None else None
        labels = _labels(params["labels"] or {})
        if image is not None and params["platform"] is None:
            # One for another platform would be compared with the node's own.
            labels[IMAGE_LABEL] = str(image)
        return cls(
            name=name,
            path=toolbox_path("path", path, removing=state == ABSENT),
            state=state,
            image=image,
            recreate=params["on_image_change"] == "recreate",
            labels=labels,
        )

    @property
    def unit(self) -> str:
        """Name of the unit that mounts it."""
        return mount_unit.unit_name(self.path)


def toolbox_name(option: str, value: str) -> str:
    """Return a valid name. Raises ValueError that names the option."""
    if not _NAME.match(value):
        raise ValueError(
            f"{option} must be at most 128 letters, digits, '_', '.' and '-', not starting with '.' or '-', not {_short(value)}"
        )
    return value


def toolbox_path(option: str, value: str, *, removing: bool = False) -> str:
    """Return a valid path. Raises ValueError that names the option if no toolbox can be there.

    ``removing``: nor can one have been put there by hand.
    """
    absolute_path(option, value)
    if posixpath.normpath(value) != value or not (_PATH_OF_OTHERS if removing else _PATH).match(value):
        raise ValueError(
            f"{option} has to be a plain path of letters, digits, '_', '.', '@', '+' and '-', no '//', no slash at its end, "
            f"not {_short(value)}"
        )
    if value in _NOT_THESE or any(value == one or value.startswith(f"{one}/") for one in _NOT_INSIDE):
        raise ValueError(f"{option} can't be {value}, which belongs to the system: use a directory such as {PREFIX}/NAME")
    length = len(mount_unit.unit_name(value))
    if length > mount_unit.LONGEST_NAME and not removing:
        raise ValueError(
            f"{option} is too long: the unit that mounts it would have a name of {length} characters, and systemd takes "
            f"{mount_unit.LONGEST_NAME}"
        )
    return value


def _image(text: str) -> ImageName:
    one_line("image", text)
    try:
        name = reference.parse(text)
    except ValueError as error:
        raise ValueError(f"image: {error}") from error
    if reference.is_staged(f"{name}@") or reference.is_staged(str(name)):
        raise ValueError(f"image: {text!r} is reserved for unfinished runs: use another tag")
    return name


def _labels(given: Mapping[str, Any]) -> dict[str, str]:
    found = {str(key): _label_value(str(key), value) for key, value in given.items()}
    for key, value in found.items():
        one_line("labels", key)
        if key.startswith(("containerd.io/gc.", "slipway.node/", "-")) or "=" in key:
            raise ValueError(f"labels can't hold {key!r}: containerd or this module reads it, or it isn't a label's name")
        one_line(f"labels.{key}", value)
        if len(key.encode()) + len(value.encode()) > _LONGEST_LABEL:
            raise ValueError(f"labels.{_short(key)} is too long: name and value may have {_LONGEST_LABEL} bytes together")
    return found


def _label_value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"labels.{_short(key)} has to be a text, not {value!r}")
    return str(value)


def _short(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}… of {len(value)} characters"


def is_for(key: str, path: str) -> bool:
    """Return whether a snapshot or lease was made for a path: ``ctr images mount`` takes its target as it was written."""
    return key.startswith("/") and "/" + posixpath.normpath(key).lstrip("/") == path
