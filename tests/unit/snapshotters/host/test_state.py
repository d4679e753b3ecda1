# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images whose layers no snapshotter in use has. A program replaces ctr, because this machine has no thin pools."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.snapshotters.host.state import stranded

CRI = "io.containerd.grpc.v1.cri"
CHAIN, CONFIG = "sha256:" + "a" * 64, "sha256:" + "c" * 64
ANSWERS = """#!/bin/sh
case "$*" in
*plugins*) for name in content overlayfs native; do
  printf 'Type: t\\nID: %s\\nExports:      \\n               root      {root}/%s\\n' $name $name
done ;;
*"snapshots --snapshotter {holder} "*) printf 'KEY PARENT KIND\\n{chain}            Committed\\n' | sed 's/KEY /KEY{blanks}/' ;;
*"snapshots --snapshotter"*) echo 'KEY PARENT KIND' ;;
*"content ls"*) printf 'DIGEST SIZE AGE LABELS\\n{config} 1B 1 day {labels}\\n' ;;
*"images ls"*) printf 'REF TYPE DIGEST\\n{config} t sha256:1\\nregistry.example/app:1 t sha256:1\\n' ;;
esac
"""


def stranded_on(
    directory: Path, *, default: str, loaded: list[str], labelled: tuple[str, ...], holder: str
) -> dict[str, tuple[str, ...]]:
    """On a node where one snapshotter holds a layer, and an image is labelled as unpacked for some."""
    labels = ",".join(f"containerd.io/gc.ref.snapshot.{name}={CHAIN}" for name in labelled)
    answers = {"root": directory, "holder": holder, "chain": CHAIN, "config": CONFIG, "labels": labels, "blanks": " " * 70}
    program = directory / "ctr"
    program.write_text(ANSWERS.format(**answers))
    program.chmod(0o755)
    for name in ("overlayfs", "native"):
        ids = directory / name / "snapshots"
        ids.mkdir(parents=True)
        if name == holder:
            (ids / "1").mkdir()
    config = EffectiveConfig({"version": 2, "plugins": {CRI: {"containerd": {"snapshotter": default, "runtimes": {}}}}})
    found = stranded(Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd")), config, loaded)
    return {one.name: one.snapshotters for one in found}


@pytest.mark.parametrize("holder", ["overlayfs", "devmapper"])
def test_an_image_that_only_an_idle_snapshotter_has_is_found(tmp_path: Path, holder: str) -> None:
    loaded = ["overlayfs", "native", "devmapper"]
    found = stranded_on(tmp_path, default="native", loaded=loaded, labelled=(holder,), holder=holder)
    assert found == {"registry.example/app:1": (holder,)}


def test_nothing_is_said_of_images_of_a_snapshotter_that_is_not_loaded(tmp_path: Path) -> None:
    labelled = ("overlayfs", "devmapper")
    assert stranded_on(tmp_path, default="devmapper", loaded=["overlayfs"], labelled=labelled, holder="overlayfs") == {}
