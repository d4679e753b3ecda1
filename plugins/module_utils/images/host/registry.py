# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read documents from registries, and pull images, with ctr."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.pull_directories import hosts_dir
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.popen import Output, run_program
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RegistryAuth, RemoteImage
from ansible_collections.slipway.node.plugins.module_utils.images.pull_errors import explain
from ansible_collections.slipway.node.plugins.module_utils.store import oci
from ansible_collections.slipway.node.plugins.module_utils.store.host.snapshots import ALREADY_EXISTS
from ansible_collections.slipway.node.plugins.module_utils.store.reference import ImageName

_ATTEMPTS = 5
# ctr prints it before it reads the password.
_PROMPT = b"Password: \n"


class Registry:
    """Reads images of a registry, and pulls them into a namespace. Every failure raises HostError.

    ``version`` is that of ctr. ``local``: ctr unpacks instead of the transfer service, where a version has both; None where
    it has not. ``hosts_dirs`` are the directories in which registries are looked up unless ``auth`` names one. ``proxy`` are the
    proxy variables for ctr.
    """

    def __init__(
        self,
        ctr: Ctr,
        auth: RegistryAuth,
        *,
        version: Version,
        hosts_dirs: Sequence[str],
        namespace: str,
        timeout: float,
        local: bool | None,
        proxy: Mapping[str, str],
    ) -> None:
        self._ctr = ctr
        self._auth = auth
        self._version = version
        self._hosts_dirs = hosts_dirs
        self._namespace = namespace
        self._timeout = timeout
        self._local = local
        self._proxy = proxy

    def image(self, name: ImageName, platform: str) -> RemoteImage:
        """Return the documents of an image, read without leaving anything on the node. Raises ValueError if they are nonsense."""
        text = self._document("fetch-object", str(name))
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if name.digest and name.digest.startswith("sha256:") and name.digest != digest:
            raise HostError(f"{name}: the registry answers with another image, {digest}")
        digest = name.digest or digest
        documents = {digest: text}
        found = oci.read_documents(oci.Descriptor("", digest, len(text)), lambda one: self._text(name, one, documents), platform)
        return RemoteImage.of(digest, found)

    def _text(self, name: ImageName, blob: oci.Descriptor, documents: Mapping[str, bytes]) -> str:
        """Return a document of an image; ``documents`` are those that are here already."""
        if blob.digest in documents:
            text = documents[blob.digest]
        elif blob.media_type in oci.CONFIG_TYPES:
            text = self._blob(name, blob.digest)
        else:
            text = _checked(name, blob.digest, self._document("fetch-object", name.blob(blob.digest)))
        return text.decode(errors="surrogateescape")

    def pull(self, name: ImageName, staged: str, *, platform: str, snapshotter: str, inherit: Sequence[int]) -> None:
        """Fetch and unpack an image under its staged name."""
        local = [] if self._local is None else [f"--local={_go(self._local)}"]
        self._bring(["images", "pull", "--snapshotter", snapshotter, *local], name, staged, platform, inherit)

    def fetch(self, name: ImageName, staged: str, *, platform: str, inherit: Sequence[int]) -> None:
        """Fetch all that the content store lacks of an image; a pull would leave out the layers that are unpacked."""
        self._bring(["content", "fetch"], name, staged, platform, inherit)

    def _bring(self, command: Sequence[str], name: ImageName, staged: str, platform: str, inherit: Sequence[int]) -> None:
        arguments = ["--namespace", self._namespace, *command, "--platform", platform, *self._options(str(name)), staged]
        output = self._run(arguments, inherit)
        for _attempt in range(_ATTEMPTS - 1):
            # A daemon that was killed while it made a snapshot left a directory, which is removed when it is met.
            if output.code == 0 or ALREADY_EXISTS not in output.stderr:
                break
            output = self._run(arguments, inherit)
        if output.code != 0:
            raise HostError(f"{name}: {explain(output.stderr)}")

    def _blob(self, name: ImageName, digest: str) -> bytes:
        # From 2.2.6 on, fetch-object asks for a blob only after a 404 for a manifest of that digest; distribution 2.8 answers
        # 500. 1.6 has no fetch-blob, and asks for the blob after any answer.
        if self._version.at_least("1.7.0"):
            text = self._document("fetch-blob", name.repository, digest)
        else:
            text = self._document("fetch-object", name.blob(digest))
        return _checked(name, digest, text)

    def _document(self, command: str, *names: str) -> bytes:
        output = self._run(["content", command, *self._options(names[0]), *names])
        if output.code != 0:
            raise HostError(f"{'@'.join(names)}: {explain(output.stderr)}")
        return output.stdout.removeprefix(_PROMPT) if self._auth.password is not None else output.stdout

    def _run(self, arguments: Sequence[str], inherit: Sequence[int] = ()) -> Output:
        command = self._ctr.command(*arguments)
        secret = self._auth.password
        return run_program(
            command,
            timeout=self._timeout,
            secret=secret,
            inherit=inherit,
            environment=self._proxy,
            server=self._ctr.address,
        )

    def _options(self, name: str) -> list[str]:
        """Return the options for the registry of an image's full name."""
        auth = self._auth
        directory = auth.hosts_dir or hosts_dir(self._hosts_dirs, name.partition("/")[0])
        options = ["--plain-http"] if auth.plain_http else []
        options += ["--hosts-dir", directory] if directory else []
        return options + (["--user", auth.username] if auth.username else [])


def _checked(name: ImageName, digest: str, text: bytes) -> bytes:
    """Return the text of a document. Raises HostError if it is another one than that of the digest."""
    if digest.startswith("sha256:") and hashlib.sha256(text).hexdigest() != digest.partition(":")[2]:
        raise HostError(f"{name}: the registry returns content that doesn't match {digest}")
    return text


def _go(value: bool) -> str:
    return "true" if value else "false"
