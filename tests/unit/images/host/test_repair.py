# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.images.host.comparer import ImageComparer, Listed, ReadableImage
from ansible_collections.slipway.node.plugins.module_utils.images.host.repair import UNPACKED, ImageRepairer
from ansible_collections.slipway.node.plugins.module_utils.integrity.result import Comparison, Difference
from ansible_collections.slipway.node.plugins.module_utils.store.host.images import Content, Reference
from ansible_collections.slipway.node.plugins.module_utils.store.oci import Config, Descriptor, Manifest

NAME, CONFIG, MANIFEST = "r.example/a:1", "sha256:" + "c" * 64, "sha256:" + "d" * 64
DIFFS = tuple("sha256:" + number * 64 for number in "123")
CHAIN = Config("linux/amd64", DIFFS).chain_ids
# Notes how it is called; the snapshots that were removed are not listed.
CTR = """#!/bin/sh
shift 4
echo "$*" >> {directory}/calls
case "$*" in *" ls") ;; *) exit 0 ;; esac
printf '%-80s%-80s%s\\n' KEY PARENT KIND
grep -v -F "$(sed -n 's/.* rm //p' {directory}/calls; echo -)" {directory}/ls
exit 0
"""


class Comparer(ImageComparer):
    """One that finds nothing wrong with what was unpacked again."""

    def readable(self, listed: Listed | None = None) -> dict[str, ReadableImage]:
        layer = Descriptor("layer", DIFFS[0], 1)
        content = Content(Manifest(Descriptor("config", CONFIG, 1), (layer,)), Config("linux/amd64", DIFFS), 1)
        return {NAME: ReadableImage(Reference(NAME, "manifest", MANIFEST), content)}

    def compare_images(
        self, images: Mapping[str, ReadableImage], *, keep: bool = False, listed: Listed | None = None
    ) -> dict[str, Comparison]:
        return {name: Comparison() for name in images}


@pytest.mark.parametrize(("lowest", "kept"), [(2, CHAIN[1]), (1, CHAIN[0]), (0, None)])
def test_layers_that_stay_are_kept_before_others_are_removed(tmp_path: Path, lowest: int, kept: str | None) -> None:
    rows = [f"{key:80}{parent:80}Committed" for key, parent in zip(CHAIN, ("", *CHAIN), strict=False)]
    (tmp_path / "ls").write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "ctr").write_text(CTR.format(directory=tmp_path))
    (tmp_path / "ctr").chmod(0o755)
    ctr = Ctr(Runner(Module()), "/run/none.sock", str(tmp_path / "containerd"))
    comparer = Comparer(ctr, "k8s.io", "native", content_root=str(tmp_path), platform="linux/amd64")
    found = Comparison((Difference("/a", "missing"),), total=1, count=1, lowest=lowest)
    (result,) = ImageRepairer(comparer).repair({NAME: found})
    assert result.outcome == UNPACKED
    changes = [call for call in (tmp_path / "calls").read_text().splitlines() if not call.endswith(" ls")]
    assert changes == [
        *([f"content label {CONFIG} containerd.io/gc.ref.snapshot.native={kept}"] if kept else []),
        *(f"snapshots --snapshotter native rm {key}" for key in reversed(CHAIN[lowest:])),
        f"snapshots unpack --snapshotter native {MANIFEST}",
    ]
