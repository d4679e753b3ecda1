# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images for the tests, created in a second: OCI layouts with layers of any number and size, and one that runs."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodes.node import WORK, run

# What a layer holds: content by path. Every file is executable, which hurts none.
Layer = Mapping[str, bytes]

_PACKAGE = "busybox-static"


def random_layers(count: int, *, files: int = 4, size: int = 16384, seed: int | None = None) -> list[Layer]:
    """Layers that no other image has, unless the seed is the same; ``size`` is that of each file, in bytes."""
    source = random.Random(seed)
    return [{f"layer{layer}/file{number}": source.randbytes(size) for number in range(files)} for layer in range(count)]


def mixed_layers(count: int, *, files: int, size: int, seed: int) -> list[Layer]:
    """Layers as programs have them: mostly small files, a few large ones, in directories, compressible by about a half.

    ``files`` and ``size``, the sum of their sizes in bytes, are those of all layers together.
    """
    source = random.Random(seed)
    weights = [source.lognormvariate(0, 2.2) for _ in range(files)]
    scale = size / sum(weights)
    layers: list[dict[str, bytes]] = [{} for _ in range(count)]
    for number, weight in enumerate(weights):
        path = f"usr/share/part{number % 40}/file{number}"
        layers[number % count][path] = source.randbytes(int(weight * scale) // 2 + 1).hex().encode()
    return list(layers)


def chain_ids(layers: Sequence[Layer]) -> list[str]:
    """Of the layers' snapshots, the lowest one first."""
    chain: list[str] = []
    for layer in layers:
        diff = f"sha256:{hashlib.sha256(_archive(layer)).hexdigest()}"
        chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff}'.encode()).hexdigest()}" if chain else diff)
    return chain


def busybox() -> Layer:
    """A layer with a program that needs nothing else, Debian's static busybox."""
    program = WORK / "busybox/bin/busybox"
    program.parents[1].mkdir(parents=True, exist_ok=True)
    with (program.parents[1] / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            fetch = 'cd "$1" && rm -f *.deb && apt-get -qq download "$2" && dpkg-deb --extract *.deb .'
            run(["sh", "-c", fetch, "sh", str(program.parents[1]), _PACKAGE])
    return {"bin/busybox": program.read_bytes()}


def write_layout(
    directory: Path,
    layers: Sequence[Layer],
    *,
    tag: str = "1",
    command: Sequence[str] = (),
    platform: Mapping[str, str] = {},
    volumes: Sequence[str] = (),
) -> Path:
    """An OCI layout of one image, for this machine's architecture; skopeo takes it as ``oci:DIRECTORY:TAG``.

    ``platform`` replaces keys of the config, such as ``architecture``.
    """
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    archives = [_archive(layer) for layer in layers]
    config = {
        "architecture": run(["dpkg", "--print-architecture"]).stdout.strip(),
        "os": "linux",
        **platform,
        "config": {"Cmd": list(command), **({"Volumes": {path: {} for path in volumes}} if volumes else {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(archive, 1, mtime=0)) for archive in archives],
    }
    entry = {**blob("manifest.v1+json", json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def in_an_index(layout: Path, platform: Mapping[str, str] | None = None) -> Path:
    """Put an index around what a layout has; ``platform`` is listed for it."""
    top = layout / "index.json"
    (entry,) = json.loads(top.read_text())["manifests"]
    annotations = entry.pop("annotations")
    listed = {**entry, "platform": platform} if platform is not None else entry
    kind = "application/vnd.oci.image.index.v1+json"
    text = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [listed]}).encode()
    digest = hashlib.sha256(text).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(text)
    outer = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(text), "annotations": annotations}
    top.write_text(json.dumps({"schemaVersion": 2, "manifests": [outer]}))
    return layout


def _archive(layer: Layer) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in layer.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
