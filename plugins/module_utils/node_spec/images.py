# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of an inventory, grouped for containerd_image and listed for node_verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.store import reference

VARIABLE = "containerd_images"
_KEYS = (
    "name",
    "namespace",
    "state",
    "pull",
    "archive",
    "remote_src",
    "platform",
    "snapshotter",
    "hosts_dir",
    "plain_http",
    "username",
    "password",
)
# The keys that node_verify takes.
_VERIFIED = ("name", "namespace", "snapshotter", "platform")


def image_batches(images: Any, namespace: str) -> list[dict[str, Any]]:
    """Group images that differ by name alone, in the order of their first images; ``name`` is a list of full names.

    Raises ValueError that names the element at fault, but none of its credentials.
    """
    if isinstance(images, (str, Mapping)) or not isinstance(images, Sequence):
        raise ValueError(f"{VARIABLE} has to be a list of dictionaries, each with a name")
    batches: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        names, settings = _completed(f"{VARIABLE}[{number}]", image, namespace)
        batch = next((known for known in batches if {**known, "name": None} == {**settings, "name": None}), None)
        if batch is None:
            batch = {**settings, "name": []}
            batches.append(batch)
        batch["name"] += [name for name in names if name not in batch["name"]]
    _check_states(batches)
    return batches


def present_images(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the batches of present images with the keys that node_verify takes."""
    return [{key: batch[key] for key in _VERIFIED if key in batch} for batch in batches if batch["state"] == "present"]


def _completed(where: str, image: Any, namespace: str) -> tuple[list[str], dict[str, Any]]:
    if not isinstance(image, Mapping):
        raise ValueError(f"{where} has to be a dictionary with a name, such as {{name: docker.io/library/alpine:3.22}}")
    unknown = [key for key in image if key not in _KEYS]
    if unknown:
        raise ValueError(f"{where} has no key {unknown[0]!r}: its keys are {', '.join(_KEYS)}")
    given = {key: value for key, value in image.items() if value is not None}
    settings = {"namespace": namespace, "state": "present", **{key: value for key, value in given.items() if key != "name"}}
    if "archive" in given:
        settings.setdefault("remote_src", False)
    elif "remote_src" in given:
        raise ValueError(f"{where} has remote_src, but no archive: add archive, or leave remote_src out")
    if settings["state"] == "absent" and "archive" in given:
        raise ValueError(f"{where} has state absent, so it needs no archive: leave it out")
    return _names(where, given.get("name"), str(settings["namespace"])), settings


def _names(where: str, given: Any, namespace: str) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where} needs a name, or a list of names, also for images from an archive")
    try:
        return [str(reference.parse(name).within(namespace)) for name in names]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_states(batches: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an image that is both present and absent: every run would pull and remove it."""
    states: dict[tuple[str, str], str] = {}
    for batch in batches:
        for name in batch["name"]:
            if states.setdefault((batch["namespace"], name), batch["state"]) != batch["state"]:
                raise ValueError(f"{VARIABLE} has {name} in {batch['namespace']} both present and absent: decide on one")
