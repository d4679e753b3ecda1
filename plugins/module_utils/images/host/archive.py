# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of images, as ``docker save``, ``ctr images export`` and ``skopeo copy`` write them."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.files import naming
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RemoteImage
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName, parse

_OCI_LAYOUT = "oci-layout"
_OCI_INDEX = "index.json"
_DOCKER_INDEX = "manifest.json"
# A document that describes an image is far smaller: containerd's limit for a manifest is 8 MiB.
_DOCUMENT_BYTES = 8 * 1024 * 1024
_FULL_NAME = "io.containerd.image.name"
_OCI_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Entry:
    """One image of an archive: its names there, spelled out, and where its index has it."""

    names: tuple[str, ...]
    position: int


class ImageArchive:
    """Raises HostError if the file isn't an archive of images, and ValueError for nonsense inside."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self._opened() as archive:
            self._members: dict[str, tarfile.TarInfo] = {}
            for member in archive:
                # A hard link follows the file that it stands for.
                file = self._members.get(_clean(member.linkname)) if member.islnk() else member
                if file is not None and file.isfile():
                    self._members[_clean(member.name)] = file
            self._is_oci = _OCI_LAYOUT in self._members and _OCI_INDEX in self._members
            if not self._is_oci and _DOCKER_INDEX not in self._members:
                raise HostError(f"archive {path} has neither an OCI layout nor Docker's manifest.json: name an archive of images")
            self._index = self._json(archive, _OCI_INDEX if self._is_oci else _DOCKER_INDEX)
        listed = self._index.get("manifests") if isinstance(self._index, dict) else self._index
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise HostError(f"archive {path} has no list of images")
        self._listed: list[dict[str, Any]] = listed
        self.entries = tuple(Entry(self._names(one), position) for position, one in enumerate(listed))

    def names(self) -> tuple[ImageName, ...]:
        """Return the names of all its images. Raises ValueError if one has none."""
        if not all(entry.names for entry in self.entries):
            raise ValueError(f"archive {self.path} has an image without a name: set name")
        return tuple(dict.fromkeys(parse(name) for entry in self.entries for name in entry.names))

    def find(self, name: ImageName, platform: str, *, only: bool) -> tuple[RemoteImage, int]:
        """Return the image of that name that is for the platform, and its position in the archive's index.

        ``only``: no other is asked for, so that the only image of the archive may have another name.
        """
        entries, troubles = self._entries(name, only=only), []
        found: list[tuple[RemoteImage, int]] = []
        for entry in entries:
            try:
                found.append((self.image(entry, platform), entry.position))
            except ValueError as error:
                troubles.append(error)
        if not found:
            raise troubles[0]
        ranks = [oci.preference(image.platform or platform, platform) for image, _position in found]
        fitting = [rank for rank in ranks if rank is not None]
        return found[ranks.index(min(fitting))] if fitting else found[0]

    def _entries(self, name: ImageName, *, only: bool) -> tuple[Entry, ...]:
        """Return those of that name, of which a name for several platforms has several. Raises ValueError if there is none."""
        found = tuple(entry for entry in self.entries if str(name) in entry.names)
        if not found and name.digest:
            found = tuple(entry for entry in self.entries if self._listed[entry.position].get("digest") == name.digest)
        if not found and only and len(self.entries) == 1:
            found = self.entries
        if found:
            return found
        there = ", ".join(one for entry in self.entries for one in entry.names) or "images without names"
        raise ValueError(f"archive {self.path} has no image {name}: it has {there}")

    def image(self, entry: Entry, platform: str) -> RemoteImage:
        with self._opened() as archive:
            listed = self._listed[entry.position]
            return self._oci_image(archive, listed, platform) if self._is_oci else self._docker_image(archive, listed)

    def write_staged(self, stream: IO[bytes], staged: Mapping[int, str]) -> None:
        """Write the archive with only the images at these positions of its index, each under another name."""
        index: Any = [self._renamed(self._listed[position], name) for position, name in staged.items()]
        if self._is_oci:
            index = {**self._index, "manifests": index}
        replaced = {_OCI_INDEX: index} if self._is_oci else {_DOCKER_INDEX: index}
        dropped = {_DOCKER_INDEX, "repositories"} - set(replaced)
        with self._opened() as archive, tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as copy:
            for member in archive:
                name = _clean(member.name)
                if name in replaced:
                    text = json.dumps(replaced[name]).encode()
                    member.size = len(text)
                    member.pax_headers = {}
                    copy.addfile(member, io.BytesIO(text))
                elif name not in dropped:
                    file = self._members.get(name)
                    if file is not None and member.islnk():
                        # containerd core/images/archive/importer.go passes over hard links.
                        member.type, member.linkname, member.size = tarfile.REGTYPE, "", file.size
                        member.pax_headers = {}
                    copy.addfile(member, archive.extractfile(file) if file is not None else None)

    def _renamed(self, listed: Mapping[str, Any], name: str) -> dict[str, Any]:
        if not self._is_oci:
            return {**listed, "RepoTags": [name]}
        kept = {key: value for key, value in (listed.get("annotations") or {}).items() if key not in (_FULL_NAME, _OCI_NAME)}
        return {**listed, "annotations": {**kept, _FULL_NAME: name}}

    def _names(self, listed: Mapping[str, Any]) -> tuple[str, ...]:
        if not self._is_oci:
            texts = listed.get("RepoTags") or []
        else:
            annotations = listed.get("annotations") or {}
            short = annotations.get(_OCI_NAME)
            # By itself it may be a tag alone, which is no name.
            texts = [
                annotations.get(_FULL_NAME) or (short if isinstance(short, str) and ("/" in short or ":" in short) else None)
            ]
        names = []
        for text in texts:
            if isinstance(text, str):
                try:
                    names.append(str(parse(text)))
                except ValueError:
                    continue
        return tuple(names)

    def _oci_image(self, archive: tarfile.TarFile, listed: Mapping[str, Any], platform: str) -> RemoteImage:
        digest = oci.digest(listed.get("digest"))
        found = oci.read_documents(
            oci.Descriptor("", digest, 0),
            lambda one: self._blob(archive, one.digest).decode(errors="surrogateescape"),
            platform,
        )
        for blob in found.manifest.layers:
            if self._member(_blob_path(blob.digest)).size != blob.size:
                raise HostError(f"archive {self.path} is damaged: {blob.digest} hasn't its size")
        return RemoteImage.of(digest, found)

    def _docker_image(self, archive: tarfile.TarFile, listed: Mapping[str, Any]) -> RemoteImage:
        path, layers = listed.get("Config"), listed.get("Layers")
        if not isinstance(path, str) or not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise HostError(f"archive {self.path} has an image without Config and Layers")
        text = self._read(archive, path)
        config = oci.parse_config(text.decode(errors="replace"))
        if len(config.diff_ids) != len(layers):
            raise HostError(f"archive {self.path} has {len(layers)} layers of an image whose config has {len(config.diff_ids)}")
        sizes = [self._resolved(layer).size for layer in layers]
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        blobs = [oci.Descriptor("", diff_id, size) for diff_id, size in zip(config.diff_ids, sizes)]
        # The import creates its manifest, so its digest is unknown before.
        return RemoteImage(
            "", config.platform, config.chain_ids, len(layers), (oci.Descriptor("", digest, len(text)), *blobs), digest
        )

    def _resolved(self, path: str) -> tarfile.TarInfo:
        """Return the member of a path, through links: Docker writes a layer once, and links to it."""
        return self._member(path) if _clean(path) in self._members else tarfile.TarInfo(path)

    def _blob(self, archive: tarfile.TarFile, digest: str) -> bytes:
        text = self._read(archive, _blob_path(digest))
        if digest.startswith("sha256:") and hashlib.sha256(text).hexdigest() != digest.partition(":")[2]:
            raise HostError(f"archive {self.path} is damaged: {digest} hasn't its digest")
        return text

    def _json(self, archive: tarfile.TarFile, path: str) -> Any:
        try:
            return json.loads(self._read(archive, path))
        except ValueError as error:
            raise HostError(f"archive {self.path} is damaged: {path} is not JSON") from error

    def _read(self, archive: tarfile.TarFile, path: str) -> bytes:
        member = self._member(path)
        stream = archive.extractfile(member)
        if stream is None or member.size > _DOCUMENT_BYTES:
            raise HostError(f"archive {self.path} has no document {path}")
        return stream.read()

    def _member(self, path: str) -> tarfile.TarInfo:
        member = self._members.get(_clean(path))
        if member is None:
            raise HostError(f"archive {self.path} is not whole: {path} is missing")
        return member

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        try:
            with naming("read the archive", self.path), tarfile.open(self.path, "r:*") as archive:
                yield archive
        except (tarfile.TarError, EOFError) as error:
            said = str(error).partition("\n")[0].rstrip(":")
            raise HostError(f"cannot read the archive {self.path}: name a tar archive, plain or gzip ({said})") from error


def _clean(path: str) -> str:
    return posixpath.normpath(path)


def _blob_path(digest: str) -> str:
    algorithm, _colon, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"
