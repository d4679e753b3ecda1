# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of the probe: one layer with one static program.

It needs no image, no registry and no program of the node. It has a layer because Kata can give the host's own disk to a guest
whose image has none.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.probe.program import program

IMAGE = "probe.slipway.invalid/probe:1"

_PROGRAM = "/probe"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def archive(architecture: str) -> bytes:
    """Return the image as an archive of an OCI layout. Raises ValueError for an unknown architecture."""
    layer = _tar([(_PROGRAM.lstrip("/"), program(architecture), 0o755)])
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": [_PROGRAM]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    listed = {**_descriptor(_MANIFEST, manifest), "annotations": {"io.containerd.image.name": IMAGE}}
    documents = [
        ("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
        ("index.json", _json({"schemaVersion": 2, "manifests": [listed]})),
        *((f"blobs/{_digest(blob).replace(':', '/')}", blob) for blob in (layer, config, manifest)),
    ]
    return _tar((name, content, 0o644) for name, content in documents)


def _tar(members: Iterable[tuple[str, bytes, int]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}
