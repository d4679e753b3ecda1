# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the probe is accepted by containerd."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

from ansible_collections.slipway.node.plugins.module_utils.probe.host.archive import IMAGE, archive


def test_the_archive_is_a_whole_image() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive("amd64"))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    def blob(descriptor: dict[str, Any]) -> bytes:
        content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert descriptor["size"] == len(content)
        return content

    (listed,) = json.loads(files["index.json"])["manifests"]
    assert listed["annotations"] == {"io.containerd.image.name": IMAGE}
    manifest = json.loads(blob(listed))
    config = json.loads(blob(manifest["config"]))
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(layer))) as tar:
        (member,) = tar
    assert (config["config"]["Entrypoint"], member.mode) == ([f"/{member.name}"], 0o755)
