# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program in place of ctr that notes how it is called."""

from __future__ import annotations

from pathlib import Path

from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore

LAYER, CONFIG = "sha256:" + "a" * 64, "sha256:" + "c" * 64
CTR = """#!/bin/sh
shift 4
echo "$*" >> {directory}/calls
case "$*" in
*"snapshots --snapshotter native rm"*) echo "{removal}" >&2; exit 1 ;;
"snapshots --snapshotter native ls")
  printf '%-80s%-80s%s\\n' KEY PARENT KIND
  [ -z "{stays}" ] || printf '%-160s%s\\n' {layer} Committed ;;
"content ls") printf 'DIGEST SIZE AGE LABELS\\n{config} 1B 1 day x=y,containerd.io/gc.ref.snapshot.native={layer}\\n' ;;
"leases ls")
  printf 'ID CREATED LABELS\\n123-ab_C 1 containerd.io/gc.expire=z\\nours 1 containerd.io/gc.expire=z\\n456-cdef 1 -\\n' ;;
"containers ls") printf 'CONTAINER IMAGE RUNTIME\\nbox r.example/a:1 runc\\npod r.example/a:1 runc\\n' ;;
"containers info pod") echo '{{"Labels": {{"io.kubernetes.pod.namespace": "web", "io.kubernetes.pod.name": "front"}}}}' ;;
"containers info box") echo '{{}}' ;;
esac
"""


def store(directory: Path, *, removal: str = "", stays: str = "") -> NamespaceStore:
    program = directory / "ctr"
    program.write_text(CTR.format(directory=directory, removal=removal, stays=stays, layer=LAYER, config=CONFIG))
    program.chmod(0o755)
    return NamespaceStore(Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd")), "k8s.io")


def calls(directory: Path) -> list[str]:
    return (directory / "calls").read_text().splitlines()
