# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the daemon for a namespace. There is a stand-in for ctr, which notes how it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.store.host.test_images import Module

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
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
CHILD = "ctr: cannot remove snapshot with child: failed precondition"


def store(directory: Path, *, removal: str = "", stays: str = "") -> NamespaceStore:
    program = directory / "ctr"
    program.write_text(CTR.format(directory=directory, removal=removal, stays=stays, layer=LAYER, config=CONFIG))
    program.chmod(0o755)
    return NamespaceStore(Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd")), "k8s.io")


def calls(directory: Path) -> list[str]:
    return (directory / "calls").read_text().splitlines()


def test_a_snapshot_that_is_gone_is_removed(tmp_path: Path) -> None:
    store(tmp_path, removal="ctr: snapshot does not exist: not found").snapshots("native").remove_all([LAYER])
    assert calls(tmp_path) == [f"snapshots --snapshotter native rm {LAYER}"]


def test_a_snapshot_with_a_child_that_is_gone_is_left_to_garbage_collection(tmp_path: Path) -> None:
    store(tmp_path, removal=CHILD).snapshots("native").remove_all([LAYER])
    assert calls(tmp_path) == [
        f"snapshots --snapshotter native rm {LAYER}",
        "content ls",
        f"content label {CONFIG} containerd.io/gc.ref.snapshot.native=",
        "leases rm slipway-probe",
        "leases create --id slipway-probe",
        "leases rm --sync slipway-probe",
        "snapshots --snapshotter native ls",
    ]


def test_the_leases_of_killed_pulls_are_removed_if_they_keep_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="something is made of them, or a lease keeps them"):
        store(tmp_path, removal=CHILD, stays="yes").snapshots("native").remove_all([LAYER])
    removed = [call for call in calls(tmp_path) if call.startswith("leases rm") and "probe" not in call]
    assert removed == ["leases rm 123-ab_C"]


def test_another_error_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot remove the snapshot .*: ctr: no space"):
        store(tmp_path, removal="ctr: no space").snapshots("native").remove_all([LAYER])


def test_blobs_are_removed_and_what_only_they_kept_is_collected(tmp_path: Path) -> None:
    store(tmp_path).content.remove([CONFIG])
    assert calls(tmp_path)[0] == f"content rm {CONFIG}" and calls(tmp_path)[-1] == "leases rm --sync slipway-probe"


def test_no_blobs_are_no_work(tmp_path: Path) -> None:
    store(tmp_path).content.remove([])
    assert not (tmp_path / "calls").exists()


def test_the_user_of_a_snapshot_is_described(tmp_path: Path) -> None:
    containers = store(tmp_path).containers
    assert [containers.describe(key) for key in ("pod", "box", "other")] == [
        "container pod of the pod web/front",
        "container box",
        "the snapshot other",
    ]
    assert calls(tmp_path).count("containers ls") == 1
