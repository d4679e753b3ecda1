# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from unit.stand_ins import Module
from unit.store.host.noting_ctr import CONFIG, LAYER, calls, store

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.store.host.store import NamespaceStore

CHILD = "ctr: cannot remove snapshot with child: failed precondition"


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
    with pytest.raises(HostError, match="other snapshots are based on them, or a lease protects them"):
        store(tmp_path, removal=CHILD, stays="yes").snapshots("native").remove_all([LAYER])
    removed = [call for call in calls(tmp_path) if call.startswith("leases rm") and "probe" not in call]
    assert removed == ["leases rm 123-ab_C"]


def test_another_error_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot remove the snapshot .*: ctr: no space"):
        store(tmp_path, removal="ctr: no space").snapshots("native").remove_all([LAYER])


# What ctr 1.7.24 said where garbage collection had removed the lowest layer in the meantime.
COLLECTED = (
    'ctr: failed to prepare extraction snapshot "extract-725239722-bMn6 sha256:d828f6fc9f4749c7616ae67199658851210a029c7f": '
    "parent snapshot sha256:c5b49b1805d5b258eba8f60c88c535eb38b591a258d3c1bddb5c4db76ec0003c does not exist: not found"
)


def store_that_fails(directory: Path, *, times: int, saying: str) -> tuple[NamespaceStore, Path]:
    """A store whose ctr fails so often, and the file that gets a line for each of its calls."""
    (directory / "reason").write_text(saying)
    calls = directory / "calls"
    program = directory / "ctr"
    program.write_text(
        f"#!/bin/sh\necho >> {calls}\n[ $(wc -l < {calls}) -gt {times} ] && exit 0\ncat {directory}/reason >&2\nexit 1\n"
    )
    program.chmod(0o755)
    return NamespaceStore(Ctr(Runner(Module()), "/run/none.sock", str(directory / "containerd")), "default"), calls


@pytest.mark.parametrize(("times", "saying", "called", "fails"), [
    (0, "", 1, False),
    (2, COLLECTED, 3, False),
    (9, COLLECTED, 3, True),
    (9, "ctr: no space left on device", 1, True),
])  # fmt: skip
def test_unpacks_again_what_garbage_collection_has_taken(
    tmp_path: Path, times: int, saying: str, called: int, fails: bool
) -> None:
    store, calls = store_that_fails(tmp_path, times=times, saying=saying)
    reason = ""
    try:
        store.snapshots("devmapper").unpack("sha256:" + "a" * 64)
    except HostError as error:
        reason = str(error)
    assert bool(reason) == fails
    assert saying[:20] in reason or not fails
    assert len(calls.read_text().splitlines()) == called
