# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images, blobs and snapshots that a daemon has, and where its overlayfs snapshotter keeps them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.model import oci
from ansible_collections.slipway.node.plugins.module_utils.model.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.model.layers import Overlay
from ansible_collections.slipway.node.plugins.module_utils.model.snapshots import Snapshot, parse_snapshots

_ROOT_EXPORT = re.compile(r"^ +root +(/.*?) *$", re.MULTILINE)
# There if the kernel can switch the overlay index off; the snapshotter then does so in every mount.
_INDEX_PARAMETER = "/sys/module/overlay/parameters/index"


# What containerd says when it meets a directory that it doesn't know: overlay.go and native.go, createSnapshot.
LEFTOVER = "file exists"
# What it says of snapshots that another stands on, and of anything that isn't there: core/metadata, errdefs.
_HAS_CHILD = "cannot remove snapshot with child"
GONE = "not found"
_PARENTGONE = "parent snapshot"
_ATTEMPTS = 3
# Label of an image's config, by snapshotter: the snapshot that the garbage collection has to keep.
_NEEDED = "containerd.io/gc.ref.snapshot."
# What containerd's clients call theirs: core/leases/id.go, WithRandomID.
_OF_PULL = re.compile(r"\d{1,9}-[\w-]{4}")
_EXPIRES = "containerd.io/gc.expire="
_PROBE = "slipway-probe"
_SNAPSHOT_ID = re.compile(r"/snapshots/(\d+)(?:/fs)?\s")
_CHUNK_BYTES = 1024 * 1024
# Label of an image whose layers are known to be on disk for a snapshotter; its value is the digest they are of.
_SYNCED = "slipway.node/synced."


@dataclass(frozen=True)
class Reference:
    """An image's name in a namespace, and the index or manifest that it stands for.

    ``synced`` are the snapshotters for which its layers have been brought to disk.
    """

    name: str
    media_type: str
    digest: str
    synced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Content:
    """An image's documents for one platform; ``size`` in bytes is that of its blobs that are here."""

    manifest: oci.Manifest
    config: oci.Config
    size: int


class DamagedDocumentError(ValueError):
    """A document of an image that is in the content store is not what its ``digest`` says."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"{digest}, which describes it, is damaged in the content store: pull it again")
        self.digest = digest


class ImageStore:
    """One namespace of the daemon behind a ``ctr``. Raises HostError where that fails."""

    def __init__(self, ctr: Ctr, namespace: str) -> None:
        self._ctr = ctr
        self._namespace = namespace
        self._documents: dict[str, str] = {}
        self._containers: frozenset[str] | None = None

    def references(self) -> tuple[Reference, ...]:
        return parse_references(self._ask("images", "ls", doing="ask containerd for its images"))

    def blobs(self) -> frozenset[str]:
        """Digests of what the content store has."""
        return frozenset(self._ask("content", "ls", "-q", doing="ask containerd for its content").split())

    def labels(self) -> dict[str, str]:
        """Those of each blob, as they are listed, by its digest."""
        rows = (line.split() for line in self._ask("content", "ls", doing="ask containerd for its content").splitlines()[1:])
        return {row[0]: row[-1] for row in rows if row}

    def all_snapshots(self, snapshotter: str) -> dict[str, Snapshot]:
        """By key, also those that aren't layers."""
        doing = f"ask containerd for the snapshots of {snapshotter}"
        stdout = self._ask("snapshots", "--snapshotter", snapshotter, "ls", doing=doing)
        try:
            return parse_snapshots(stdout)
        except ValueError as error:
            raise HostError(f"cannot {doing}: {error}") from error

    def snapshots(self, snapshotter: str) -> frozenset[str]:
        """Chain IDs of the layers that are unpacked for a snapshotter."""
        found = self.all_snapshots(snapshotter)
        return frozenset(key for key, snapshot in found.items() if snapshot.is_layer and key.startswith("sha256:"))

    def unpacked_for(self, snapshotter: str) -> frozenset[str]:
        """Chain IDs of the topmost layers of images that were unpacked for a snapshotter, also one that isn't loaded."""
        label = re.compile(rf"(?:^|,){re.escape(_NEEDED + snapshotter)}=(sha256:[0-9a-f]{{64}})(?=,|$)")
        return frozenset(chain for labels in self.labels().values() for chain in label.findall(labels))

    def users(self) -> dict[str, list[str]]:
        """The ids of the containers that were made of an image, by its name."""
        found: dict[str, list[str]] = {}
        for line in self._ask("containers", "ls", doing="ask containerd for its containers").splitlines()[1:]:
            container, image = [*line.split(), "-"][:2]
            found.setdefault(image, []).append(container)
        return found

    def described_user(self, snapshot: str) -> str:
        """Whose a snapshot is that isn't a layer, for people: a container has the same name as its snapshot."""
        if self._containers is None:
            self._containers = frozenset(container for containers in self.users().values() for container in containers)
        if snapshot not in self._containers:
            return f"the snapshot {snapshot}"
        labels = (
            json.loads(self._ask("containers", "info", snapshot, doing=f"look at the container {snapshot}")).get("Labels") or {}
        )
        pod = "/".join(str(labels.get(f"io.kubernetes.pod.{key}", "")) for key in ("namespace", "name"))
        return f"container {snapshot}" + (f" of the pod {pod}" if pod != "/" else "")

    def tag(self, source: str, name: str) -> None:
        """Give an image another name; it is taken from the image that had it."""
        self._ask("images", "tag", "--force", source, name, doing=f"give the image {source} the name {name}")

    def remove(self, *names: str, sync: bool = False) -> None:
        """Take away names; ``sync``: and wait until what only they kept is gone."""
        if names:
            self._ask("images", "rm", *["--sync"] * sync, *names, doing=f"remove {', '.join(names)}")

    def mark_synced(self, name: str, snapshotter: str, digest: str) -> None:
        self._ask("images", "label", name, f"{_SYNCED}{snapshotter}={digest}", doing=f"label the image {name}")

    def unmark_synced(self, name: str, snapshotter: str) -> None:
        self._ask("images", "label", name, f"{_SYNCED}{snapshotter}=", doing=f"change the labels of the image {name}")

    def tried_snapshot(self, snapshotter: str, key: str) -> str:
        """How a new, empty snapshot would be mounted; it is removed again."""
        group = ("snapshots", "--snapshotter", snapshotter)
        if key in self.all_snapshots(snapshotter):
            self.remove_snapshot(snapshotter, key)  # a killed run's
        self._ask(*group, "prepare", key, doing="make a snapshot")
        try:
            return self._ask(*group, "mounts", "/", key, doing="ask for a snapshot's mounts")
        finally:
            self.remove_snapshot(snapshotter, key)

    def take_back_directories(self, snapshotter: str, directory: str) -> None:
        """Get rid of what a snapshotter doesn't know any more: its directories' names reach the disk without its own record.

        It would meet them one by one, each when it gives that id to a new snapshot, and fail with "file exists". ``directory``
        is where it keeps its snapshots; nothing is done if these aren't named by their ids.
        """
        highest = max(ids_in(directory), default=0)
        for _attempt in range(highest):
            try:
                shown = self.tried_snapshot(snapshotter, _PROBE)
            except HostError as error:
                if LEFTOVER in str(error):
                    continue  # it has removed it by now
                raise
            found = _SNAPSHOT_ID.search(shown)
            if found is None or int(found[1]) >= highest:
                return

    def latest_id(self, snapshotter: str) -> int:
        """The id that containerd has given last: that of a snapshot that is made to see it. Raises HostError if it has none."""
        shown = self.tried_snapshot(snapshotter, _PROBE)
        found = _SNAPSHOT_ID.search(shown)
        if found is None:
            raise HostError(f"cannot tell the id of a snapshot from {shown!r}")
        return int(found[1])

    def remove_snapshot(self, snapshotter: str, key: str) -> None:
        """Gone when it returns, whoever took it away. Raises HostError if another stands on it."""
        self._remove("snapshots", "--snapshotter", snapshotter, "rm", key, doing=f"remove the snapshot {key}")

    def remove_snapshots(self, snapshotter: str, keys: Iterable[str]) -> None:
        """Children first. Raises HostError if one has to stay because of something that isn't among them."""
        keys, stuck = tuple(keys), False
        for key in keys:
            try:
                self.remove_snapshot(snapshotter, key)
            except HostError as error:
                if _HAS_CHILD not in str(error):
                    raise
                stuck = True
        if stuck:
            self._collect_snapshots(snapshotter, frozenset(keys))

    def _collect_snapshots(self, snapshotter: str, keys: frozenset[str]) -> None:
        """Have containerd's garbage collection remove snapshots that it won't remove when asked to.

        A child that was collected stays among the children of its parent for ever (core/metadata/gc.go, remove), which then
        can't be removed but by the garbage collection. What an image needs of a snapshotter is a label of its config.
        """
        label = f"{_NEEDED}{snapshotter}"
        listed = self._ask("content", "ls", doing="ask containerd for its content").splitlines()
        for row in (line.split() for line in listed):
            if any(f"{label}={key}" in row[-1].split(",") for key in keys):
                self._ask("content", "label", row[0], f"{label}=", doing=f"change the labels of {row[0]}")
        self.collect_garbage()
        left = sorted(keys.intersection(self.all_snapshots(snapshotter)))
        if left and self._drop_leases():
            self.collect_garbage()
            left = sorted(keys.intersection(self.all_snapshots(snapshotter)))
        if left:
            raise HostError(f"cannot remove the snapshots {', '.join(left)}: something is made of them, or a lease keeps them")

    def _drop_leases(self) -> bool:
        """Those of pulls, which a killed one leaves behind for a day; one that goes on has to start again."""
        listed = self._ask("leases", "ls", doing="ask containerd for its leases").splitlines()[1:]
        rows = [line.split() for line in listed if _EXPIRES in line]
        dropped = [row[0] for row in rows if _OF_PULL.fullmatch(row[0])]
        for lease in dropped:
            self._remove("leases", "rm", lease, doing=f"remove the lease {lease}")
        return bool(dropped)

    def collect_garbage(self) -> None:
        """It has ended when this returns; only a deletion starts one that can be waited for."""
        doing = "collect what nothing needs any more"
        self._remove("leases", "rm", _PROBE, doing=doing)  # a killed run's
        self._ask("leases", "create", "--id", _PROBE, doing=doing)
        self._ask("leases", "rm", "--sync", _PROBE, doing=doing)

    def remove_blobs(self, digests: Iterable[str]) -> None:
        """Gone when it returns, whoever took them away, unless another namespace has them."""
        digests = sorted(digests)
        for digest in digests:
            self._remove("content", "rm", oci.digest(digest), doing=f"remove the blob {digest}")
        if digests:
            # Until then their files are there, and are taken for what a pull would fetch.
            self.collect_garbage()

    def unpack(self, snapshotter: str, digest: str) -> None:
        """Unpack again what snapshots of an image are missing, from its blobs; for the node's own platform."""
        arguments = ("snapshots", "unpack", "--snapshotter", snapshotter, oci.digest(digest))
        for attempt in range(_ATTEMPTS):
            try:
                self._ask(*arguments, doing=f"unpack the image {digest}")
            except HostError as error:
                # As long as the image has no topmost layer, garbage collection takes the others, also while this goes on.
                if _PARENTGONE not in str(error) or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def content(self, reference: Reference, platform: str, blobs: frozenset[str]) -> Content:
        """Raises ValueError if the image isn't for this platform, or what should describe it is missing or nonsense."""
        there = {}
        target, media_type = reference.digest, reference.media_type
        if media_type in oci.INDEX_TYPES:
            text = self._document(target, blobs)
            there[target] = len(text.encode())
            chosen = oci.parse_index(text).choose(platform)
            target, media_type = chosen.digest, chosen.media_type
        if media_type not in oci.MANIFEST_TYPES:
            raise ValueError(f"it is not a container image that containerd can unpack: {target} is of type {media_type!r}")
        text = self._document(target, blobs)
        there[target] = len(text.encode())
        manifest = oci.parse_manifest(text)
        there.update({blob.digest: blob.size for blob in (manifest.config, *manifest.layers) if blob.digest in blobs})
        config = oci.parse_config(self._document(manifest.config.digest, blobs))
        if len(config.diff_ids) != len(manifest.layers):
            raise ValueError(f"its manifest has {len(manifest.layers)} layers and its config {len(config.diff_ids)}")
        return Content(manifest, config, sum(there.values()))

    def _document(self, digest: str, blobs: frozenset[str]) -> str:
        if digest not in blobs:
            raise ValueError(f"{digest}, which describes it, is not in the content store: pull it again")
        if digest not in self._documents:
            try:
                text = self._ask("content", "get", oci.digest(digest), doing=f"read the blob {digest}")
            except HostError as error:
                if os.strerror(errno.ENOENT).lower() in str(error):
                    raise DamagedDocumentError(digest) from error
                raise
            algorithm, _colon, value = digest.partition(":")
            if hashlib.new(algorithm, text.encode(errors="surrogateescape")).hexdigest() != value:
                raise DamagedDocumentError(digest)
            self._documents[digest] = text
        return self._documents[digest]

    def _remove(self, *arguments: str, doing: str) -> None:
        try:
            self._ask(*arguments, doing=doing)
        except HostError as error:
            if GONE not in str(error):
                raise

    def _ask(self, *arguments: str, doing: str) -> str:
        return self._ctr.in_namespace(self._namespace, *arguments, doing=doing)


def parse_references(stdout: str) -> tuple[Reference, ...]:
    """From ``ctr images ls``: only its first three columns are without spaces."""
    rows = [(line, line.split()[:3]) for line in stdout.splitlines()[1:]]
    return tuple(Reference(row[0], row[1], row[2], _synced(line, row[2])) for line, row in rows if len(row) == 3)


def _synced(line: str, digest: str) -> frozenset[str]:
    """If the name was moved to another image since, the label is of the old one."""
    return frozenset(re.findall(rf"{re.escape(_SYNCED)}([\w.-]+)={re.escape(digest)}", line))


def parse_root(stdout: str) -> str | None:
    """The directory that a plugin exports, from ``ctr plugins ls --detailed``."""
    found = _ROOT_EXPORT.search(stdout)
    return found[1] if found else None


def namespaces(ctr: Ctr) -> list[str]:
    """The daemon's, sorted."""
    return sorted(ctr.in_namespace("default", "namespaces", "ls", "-q", doing="ask containerd for its namespaces").split())


def content_root(ctr: Ctr) -> str:
    """The content store's directory. Raises HostError if the daemon doesn't say."""
    root = parse_root(ctr.plugin_details("content"))
    if root is None:
        raise HostError("the daemon doesn't say where its content store is")
    return root


def is_whole(root: str, digest: str) -> bool:
    """Whether the content store at ``root`` has a blob, and it is what its digest says."""
    algorithm, _colon, value = oci.digest(digest).partition(":")
    found = hashlib.new(algorithm)
    path = os.path.join(root, "blobs", algorithm, value)
    with naming("read", path):
        try:
            with open(path, "rb") as stream:
                for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                    found.update(chunk)
        except FileNotFoundError:
            return False
    return found.hexdigest() == value


def containerd_root(ctr: Ctr) -> str:
    """The daemon's own directory, in which each plugin has its own."""
    return os.path.dirname(content_root(ctr))


def snapshotter_root(ctr: Ctr, name: str) -> str:
    """A snapshotter's directory; on 1.6 not each of them says so, and it is then where it is by default."""
    found = parse_root(ctr.plugin_details(name))
    return found or os.path.join(containerd_root(ctr), f"io.containerd.snapshotter.v1.{name}")


def read_overlay(ctr: Ctr, config: EffectiveConfig) -> Overlay:
    """Where the running daemon has its overlayfs snapshots, and with which options it mounts them.

    Raises HostError if the daemon has no such snapshotter.
    """
    root = parse_root(ctr.plugin_details("overlayfs"))
    if root is None:
        raise HostError("the daemon has no overlayfs snapshotter")
    options = [str(option) for option in config.snapshotter_table("overlayfs").get("mount_options") or ()]
    # plugins/snapshots/overlay/overlay.go, NewSnapshotter
    if os.path.exists(_INDEX_PARAMETER) and "index" not in options:
        options.append("index=off")
    return Overlay(root, os.sysconf("SC_PAGE_SIZE"), tuple(options))


def snapshot_ids(overlay: Overlay) -> tuple[int, ...]:
    """The ids of the snapshots, of all namespaces, that have directories. Raises HostError if they can't be read."""
    return ids_in(os.path.join(overlay.root, "snapshots"))


def ids_in(directory: str) -> tuple[int, ...]:
    """The names in a directory that are numbers. Raises HostError if it can't be read."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise HostError(f"cannot read {directory}: {error.strerror}") from error
    return tuple(int(name) for name in names if name.isascii() and name.isdigit())
