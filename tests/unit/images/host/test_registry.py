# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of an image, read with a program in place of ctr that knows the commands of its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.images.host.registry import Registry
from ansible_collections.slipway.node.plugins.module_utils.images.plan import RegistryAuth
from ansible_collections.slipway.node.plugins.module_utils.store import oci, reference
from nodes.images import random_layers, write_layout

REPOSITORY = "registry.example/team/app"
# As measured with a registry of distribution 2.8, which answers 500 to a request for a manifest that is a blob.
BLOB_BY_EITHER = f"""
"fetch-object {REPOSITORY}@{{config}}") cat {{blobs}}/{{config_name}} ;;"""
FETCH_BLOB = f"""
"fetch-blob {REPOSITORY} {{config}}") cat {{blobs}}/{{config_name}} ;;"""
COMMANDS = {
    "1.6.20": BLOB_BY_EITHER,
    "1.7.24": BLOB_BY_EITHER + FETCH_BLOB,
    "2.1.9": BLOB_BY_EITHER + FETCH_BLOB,
    "2.2.9": FETCH_BLOB,
    "2.3.7": FETCH_BLOB,
    "2.4.2": FETCH_BLOB,
}
CTR = f"""#!/bin/sh
shift 3
case "$*" in
"fetch-object {REPOSITORY}:1") cat {{blobs}}/{{manifest_name}} ;;{{commands}}
*) echo "ctr: unexpected status from HEAD request: 500 Internal Server Error" >&2; exit 1 ;;
esac
"""


def registry(directory: Path, version: str, layout: Path, *, config: str = "") -> tuple[Registry, oci.Manifest]:
    """A registry with one image, and its manifest; ``config`` is the text that is sent for the image's config."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    blobs = layout / "blobs/sha256"
    manifest = oci.parse_manifest((blobs / entry["digest"].partition(":")[2]).read_text())
    names = {"manifest_name": entry["digest"].partition(":")[2], "config_name": manifest.config.digest.partition(":")[2]}
    if config:
        (blobs / names["config_name"]).write_text(config)
    commands = COMMANDS[version].format(blobs=blobs, config=manifest.config.digest, **names)
    program = directory / "ctr"
    program.write_text(CTR.format(blobs=blobs, commands=commands, **names))
    program.chmod(0o755)
    ctr = Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd"))
    options: dict[str, Any] = {"namespace": "k8s.io", "timeout": 20, "local": None, "hosts_dirs": (), "proxy": {}}
    return Registry(ctr, RegistryAuth(), version=Version.parse(version), **options), manifest


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", random_layers(2))


@pytest.mark.parametrize("version", COMMANDS)
def test_the_config_is_read_with_a_command_that_the_version_has(version: str, tmp_path: Path, layout: Path) -> None:
    source, manifest = registry(tmp_path, version, layout)
    image = source.image(reference.parse(f"{REPOSITORY}:1"), "linux/amd64")
    assert (image.layers, image.config_digest) == (2, manifest.config.digest)


@pytest.mark.parametrize("version", ["1.6.20", "2.3.7"])
def test_another_config_than_that_of_the_digest_is_refused(version: str, tmp_path: Path, layout: Path) -> None:
    source, manifest = registry(tmp_path, version, layout, config="{}")
    with pytest.raises(HostError, match=f"doesn't match {manifest.config.digest}"):
        source.image(reference.parse(f"{REPOSITORY}:1"), "linux/amd64")
