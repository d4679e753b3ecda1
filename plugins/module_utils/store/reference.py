# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of images. The rules are those of github.com/distribution/reference, which the kubelet and Docker follow."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ansible_collections.slipway.node.plugins.module_utils.store import oci

_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
# registry/api/v2 and containerd refuse longer ones.
_LONGEST = 255
# A tag that users don't use: an image is unpacked under it before it gets its name.
_STAGED_TAG = "slipway-staged"
# CRI's namespace.
KUBELET_NAMESPACE = "k8s.io"
# RFC 2606: no registry ever has this name.
IMPORT_REPOSITORY = "import.slipway.invalid/staged"


@dataclass(frozen=True)
class ImageName:
    """``repository`` with its registry; ``tag`` and ``digest`` are empty where there is none, but not both."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def staged(self, digest: str) -> str:
        """Return the name under which an image is unpacked. Registries look at the digest alone."""
        return f"{self.repository}:{_STAGED_TAG}@{digest}"

    def within(self, namespace: str) -> ImageName:
        """Return the name by which the image is looked up in a namespace.

        distribution/reference, ParseDockerRef: CRI drops the tag of a name with a digest, and knows no other name.
        """
        return replace(self, tag="") if namespace == KUBELET_NAMESPACE and self.digest else self

    def blob(self, digest: str) -> str:
        """Return a name for one document of the same repository."""
        return f"{self.repository}@{digest}"


def parse(text: str) -> ImageName:
    """Parse and complete a name: ``alpine`` is docker.io/library/alpine:latest. Raises ValueError for no image's name."""
    name, at, digest = text.partition("@")
    if at:
        oci.digest(digest)
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.match(tag):
        raise ValueError(f"{text!r} is no image's name: {tag!r} can't be a tag")
    repository = _spelled_out(head + slash + last)
    domain, _slash, path = repository.partition("/")
    if not _DOMAIN.match(domain):
        raise ValueError(f"{text!r} is no image's name: {domain!r} can't be a registry")
    if not _PATH.match(path):
        raise ValueError(f"{text!r} is no image's name: write REGISTRY/PATH:TAG or REGISTRY/PATH@DIGEST, the path in lower case")
    if len(repository) > _LONGEST:
        raise ValueError(f"{text[:40]!r}… is no image's name: it has more than {_LONGEST} characters")
    return ImageName(repository, tag if colon or at else "latest", digest)


def is_staged(name: str) -> bool:
    """Return whether this is a name that only an unfinished run leaves behind."""
    return f":{_STAGED_TAG}@" in name or name.startswith((f"{IMPORT_REPOSITORY}:", f"{IMPORT_REPOSITORY}@"))


def _spelled_out(repository: str) -> str:
    domain, slash, path = repository.partition("/")
    is_domain = slash and (any(mark in domain for mark in ".:") or domain == "localhost" or domain.lower() != domain)
    if not is_domain:
        domain, path = "docker.io", repository
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return f"{domain}/{path}"
