# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requested images, and the plan for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.core.options import absolute_path, one_line, plain_name
from ansible_collections.slipway.node.plugins.module_utils.integrity.levels import INTEGRITY_NONE
from ansible_collections.slipway.node.plugins.module_utils.store import oci, reference
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName

NONE = "none"
TAG = "tag"
SYNC = "sync"
UNPACK = "unpack"
PULL = "pull"
IMPORT = "import"
REPAIR = "repair"
REMOVE = "remove"
ACTIONS = (PULL, IMPORT, UNPACK, SYNC, TAG, REPAIR)

_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?\Z")
_CRI_ID = re.compile(r"sha256:[a-f0-9]{64}\Z")
# What ctr reads of a password at its terminal.
_LONGEST_SECRET = 4000


class ArchiveNeeded(Exception):
    """The archive has to be read, but it is on the controller."""


@dataclass(frozen=True)
class RegistryAuth:
    """The access to a registry; the password is never shown."""

    hosts_dir: str | None = None
    plain_http: bool = False
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"RegistryAuth(hosts_dir={self.hosts_dir!r}, plain_http={self.plain_http}, username={self.username!r})"


@dataclass(frozen=True)
class Request:
    """The request for a node. ``snapshotter`` None: the daemon's own. ``timeout`` in seconds, for each image.

    ``every``: the images that are there but for ``excluded``, instead of ``names``. ``integrity`` is one of LEVELS.
    ``on_controller``: the archive is not on the node, so its images can't be read.
    """

    names: tuple[ImageName, ...]
    every: bool
    present: bool
    always: bool
    archive: str | None
    platform: str
    snapshotter: str | None
    namespace: str
    auth: RegistryAuth
    parallel: int
    durable: bool
    integrity: str
    repair: bool
    timeout: float
    on_controller: bool = False
    excluded: tuple[ImageName, ...] = ()

    @classmethod
    def from_params(cls, params: Mapping[str, Any], machine: str) -> Request:
        """Parse the module's options; ``machine`` is the node's platform. Raises ValueError that names the option."""
        on_controller = bool(params["archive"]) and not params["remote_src"]
        for option in ("hosts_dir",) if on_controller else ("archive", "hosts_dir"):
            if params[option] is not None:
                absolute_path(option, params[option])
        if params["snapshotter"] is not None:
            plain_name("snapshotter", params["snapshotter"])
        for option in ("parallel", "timeout"):
            if params[option] < 1:
                raise ValueError(f"{option} has to be at least 1, not {params[option]}")
        present = params["state"] == "present"
        every = bool(params["all"])
        _check_together(params, present, every)
        namespace = plain_name("namespace", params["namespace"])
        return cls(
            names=() if every else tuple(dict.fromkeys(_name(name).within(namespace) for name in params["name"] or ())),
            every=every,
            present=present,
            always=params["pull"] == "always",
            archive=params["archive"],
            platform=_platform(params["platform"]) if params["platform"] else machine,
            snapshotter=params["snapshotter"],
            namespace=namespace,
            auth=_auth(params),
            parallel=params["parallel"],
            durable=params["durable"],
            integrity=params["integrity"],
            repair=params["repair"],
            timeout=float(params["timeout"]),
            on_controller=on_controller,
            excluded=tuple(_name(name).within(namespace) for name in params.get("exclude") or ()),
        )


def _check_together(params: Mapping[str, Any], present: bool, every: bool) -> None:
    """Raise ValueError for options that require others, or exclude them."""
    if not present and params["archive"]:
        raise ValueError("archive is for state present: list the images to remove in name")
    if params["name"] is None and not params["archive"] and not every:
        raise ValueError("name is missing: list the images, or set all to true")
    if every and not present:
        raise ValueError("all is for state present: list the images to remove in name")
    if params["integrity"] != INTEGRITY_NONE and not present:
        raise ValueError("integrity is for state present: images to remove aren't compared")
    if params["repair"] and params["integrity"] == INTEGRITY_NONE:
        raise ValueError("repair requires a comparison: set integrity to metadata or content")
    if every and params["name"] is not None:
        raise ValueError("name and all exclude each other: list the images, or set all to true")
    if params.get("exclude") and not every:
        raise ValueError("exclude is for all images of a namespace: set all to true, or leave it out")
    if every and (params["integrity"] == INTEGRITY_NONE or params["archive"] or params["pull"] == "always"):
        raise ValueError("all is for images that are on the node: set integrity, and neither archive nor pull")


def _name(text: str) -> ImageName:
    one_line("name", text)
    try:
        name = reference.parse(text)
    except ValueError as error:
        raise ValueError(f"name: {error}") from error
    if reference.is_staged(f"{name}@") or reference.is_staged(str(name)):
        raise ValueError(f"name: {text!r} is reserved for unfinished runs: use another tag")
    return name


def _platform(text: str) -> str:
    if not _PLATFORM.match(text):
        raise ValueError(f"platform has to be OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64, not {text!r}")
    return text


def _auth(params: Mapping[str, Any]) -> RegistryAuth:
    username, password = params["username"], params["password"]
    if (username is None) != (password is None):
        raise ValueError("username and password go together: set both, or neither")
    if username is not None:
        one_line("username", username)
        if not username or ":" in username or username.startswith("-"):
            raise ValueError("username has to be a name without a colon, and not start with a dash")
    if password is not None and (not password or not password.isprintable() or len(password.encode()) > _LONGEST_SECRET):
        raise ValueError(f"password has to be one line of at most {_LONGEST_SECRET} printable characters")
    return RegistryAuth(params["hosts_dir"] or None, params["plain_http"], username, password)


@dataclass(frozen=True)
class RemoteImage:
    """An image as its documents describe it, in a registry, an archive or the content store.

    ``digest`` is what its name stands for; ``chain`` None if its config couldn't be read. ``blobs`` are all that
    belong to it: index, manifest, config and layers. ``listed`` is the platform that an index names for it: ctr passes over
    an image that is asked for by another one, though the machine would run it.
    """

    digest: str
    platform: str | None
    chain: tuple[str, ...] | None
    layers: int
    blobs: tuple[oci.Descriptor, ...]
    config_digest: str = ""
    known_size: int | None = None
    listed: str | None = None

    @classmethod
    def of(cls, digest: str, found: oci.ImageDocuments) -> RemoteImage:
        """Convert the documents of the image with a name's ``digest``."""
        config, layers = found.config, len(found.manifest.layers)
        return cls(
            digest, config.platform, config.chain_ids, layers, found.blobs, found.manifest.config.digest, listed=found.listed
        )

    @property
    def size(self) -> int:
        """Bytes of all of it, compressed as it is."""
        return sum({blob.digest: blob.size for blob in self.blobs}.values()) if self.known_size is None else self.known_size

    def missing(self, blobs: frozenset[str]) -> int:
        """Return the bytes of what the node doesn't have."""
        return sum({blob.digest: blob.size for blob in self.blobs if blob.digest not in blobs}.values())


# An image of an archive that isn't read.
UNREAD = RemoteImage("", None, None, 0, ())


@dataclass(frozen=True)
class CurrentImage:
    """An image as the node has it. ``trouble`` says why it couldn't be understood; then there is no ``image``.

    ``unpacked``: the snapshotter has all of its layers. ``whole``: the content store has all of its blobs.
    ``synced``: its layers are known to be on disk. ``damaged``: documents that have to be fetched again. ``alias`` is the
    name that it has, if that is not the one it was looked up by.
    """

    digest: str
    image: RemoteImage | None
    unpacked: bool
    whole: bool
    synced: bool
    trouble: str = ""
    damaged: tuple[str, ...] = ()
    alias: str = ""


def runs_here(image: RemoteImage, platform: str) -> bool:
    """Return whether an image is for the platform, or its platform is unknown."""
    return image.platform is None or oci.runs_on(image.platform, platform)


def is_missing(found: CurrentImage | None, platform: str) -> bool:
    """Return whether the image has to come from somewhere else."""
    if found is None or found.image is None or not runs_here(found.image, platform):
        return True
    return not found.unpacked and not found.whole


def moved(found: CurrentImage | None, image: RemoteImage) -> bool:
    """Return whether the name stands for another image where it comes from. Archives may lack the manifest's digest."""
    if found is None or found.image is None:
        return True
    if image.digest:
        return found.digest != image.digest
    return found.image.config_digest != image.config_digest


def local_action(found: CurrentImage, durable: bool) -> str:
    """Return the action for an image that is present and wanted as it is."""
    if not found.unpacked:
        return UNPACK
    if durable and not found.synced:
        return SYNC
    return TAG if found.alias else NONE


def unpacking_trouble(found: CurrentImage, snapshotter: str) -> str:
    """Return why an image that ctr has brought isn't usable; empty if all of its layers are unpacked."""
    if found.unpacked:
        return ""
    if found.trouble:
        return f"ctr reports success, but the image can't be read: {found.trouble}"
    return (
        f"ctr reports success, but containerd hasn't unpacked its layers for {snapshotter}: see why with "
        "'journalctl -u containerd', and run this again"
    )


@dataclass(frozen=True)
class Removal:
    """``names`` to take away; ``used_by`` says for each name asked for what still keeps its image."""

    names: tuple[str, ...]
    used_by: Mapping[str, tuple[str, ...]]


def plan_removal(
    names: Sequence[ImageName], references: Mapping[str, str], containers: Mapping[str, Sequence[str]], namespace: str
) -> Removal:
    """Plan the removal of images.

    ``references`` are the namespace's names with their digests, ``containers`` the ids of containers by image name.


    In the kubelet's namespace CRI gives each image its config's digest as another name; it goes with the last real one.
    """
    asked = [str(name) for name in names]
    going = [name for name in asked if name in references]
    used_by: dict[str, tuple[str, ...]] = {}
    derived: list[str] = []
    for name in going:
        others = [one for one, digest in references.items() if digest == references[name] and one not in asked]
        real = [one for one in others if namespace != reference.KUBELET_NAMESPACE or not _CRI_ID.match(one)]
        derived += [one for one in others if not real and one not in derived]
        used_by[name] = (*real, *(f"container {one}" for one in containers.get(name, ())))
    return Removal((*going, *derived), used_by)
