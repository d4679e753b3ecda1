# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.host.containerd import Ctr
from ansible_collections.slipway.node.plugins.module_utils.host.snapshotter_state import stranded
from ansible_collections.slipway.node.plugins.module_utils.model import schema

CHAIN, IMAGE, CONFIG = (f"sha256:{letter * 64}" for letter in "abc")
NAME = "r.example/a:1"


class Module:
    """Runs what it is told, as AnsibleModule does."""

    def run_command(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def get_bin_path(self, arg: str, required: bool, opt_dirs: list[str]) -> str | None:
        return None


@pytest.mark.parametrize("idle", ["devmapper", "native"])
def test_images_that_only_an_idle_snapshotter_has_are_found_wherever_it_keeps_them(idle: str, tmp_path: Path) -> None:
    """devmapper's are thin volumes, so there is no directory to look into."""
    if idle == "native":
        (tmp_path / "snapshots/1").mkdir(parents=True)
    program = tmp_path / "ctr"
    program.write_text(
        f"""#!/bin/sh
        case "$*" in
          *plugins*) echo "  root {tmp_path}";;
          *"--snapshotter {idle} ls") printf '{"KEY":<72}PARENT KIND\\n{CHAIN:<79}Committed\\n';;
          *snapshots*) echo 'KEY PARENT KIND';;
          *content*) printf 'DIGEST SIZE AGE LABELS\\n{CONFIG} 1B now containerd.io/gc.ref.snapshot.{idle}={CHAIN}\\n';;
          *images*) printf 'REF TYPE DIGEST\\n{NAME} type {IMAGE}\\n{CONFIG} type {IMAGE}\\n';;
        esac
        """
    )
    program.chmod(0o755)
    ctr = Ctr(Runner(Module()), "/run/none.sock", str(tmp_path / "containerd"))
    dump = {"version": 3, "plugins": {schema.CRI_IMAGES: {"snapshotter": "overlayfs"}}}
    (found,) = stranded(ctr, dump, ("overlayfs", idle))
    assert (found.name, found.snapshotters) == (NAME, (idle,))
