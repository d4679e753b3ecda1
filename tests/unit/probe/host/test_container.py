# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A runtime that hangs ends the trial and not the probe, and the container is removed. tests/integration has the other tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.stand_ins import Programs

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.host.programs import Ctr
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.probe.host import container
from ansible_collections.slipway.node.plugins.module_utils.probe.host.container import ContainerProbe
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import FAILED, NOT_TRIED, STARTED, Outcome, Trial

# A daemon whose handlers "slow" and "gone" hang. Its calls are listed; once something was imported, it has the namespace.
CTR = """#!/bin/sh
cd {directory}
shift 4
echo "$*" >>calls
case "$*" in
  "namespaces ls -q") cat namespace 2>/dev/null; exit 0;;
  "images import"*) cat >/dev/null; echo slipway-probe >namespace;;
  "namespaces rm"*) rm namespace;;
  "tasks ls -q") cat task 2>/dev/null; exit 0;;
  "tasks rm"*) rm task;;
  *slow*) echo slipway-probe >task; exec sleep 60;;
  *gone*) rm {socket}; exec sleep 60;;
  run*) exit 86;;
esac
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerProbe]:
    monkeypatch.setattr(container, "RUN_SECONDS", 3.0)
    monkeypatch.setattr(container, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(container, "shim_processes", lambda _address: {})
    address, program = tmp_path / "socket", tmp_path / "ctr"
    program.write_text(CTR.format(directory=tmp_path, socket=address))
    program.chmod(0o755)
    (tmp_path / "containerd").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen()
        ctr = Ctr(Runner(Programs()), str(address), str(tmp_path / "containerd"))
        yield ContainerProbe(ctr, EffectiveConfig({"root": str(tmp_path), "state": str(tmp_path)}), "amd64")


def trial(name: str) -> Trial:
    return Trial(name, ("--runtime", name))


def test_a_runtime_that_hangs_fails_and_the_others_are_tried(probe: ContainerProbe, tmp_path: Path) -> None:
    report = probe.run([trial("slow"), trial("quick")])
    assert [(one.handler, one.state) for one in report.outcomes] == [("slow", FAILED), ("quick", STARTED)]
    assert "took more than 3 seconds" in report.outcomes[0].reason
    assert report.left == ""
    assert not (tmp_path / "task").exists()
    assert not (tmp_path / "namespace").exists()


def test_a_daemon_that_stops_meanwhile_is_no_failure_of_the_handler(probe: ContainerProbe) -> None:
    report = probe.run([trial("gone")])
    assert report.outcomes[0].state == NOT_TRIED


def test_nothing_is_imported_if_nothing_can_be_started(probe: ContainerProbe, tmp_path: Path) -> None:
    refused = Outcome("kata", NOT_TRIED, "unsafe")
    assert probe.run([Trial("kata", outcome=refused)]).outcomes == (refused,)
    assert "import" not in (tmp_path / "calls").read_text()


def test_a_daemon_that_can_not_be_asked_is_an_error(probe: ContainerProbe, tmp_path: Path) -> None:
    (tmp_path / "ctr").write_text("#!/bin/sh\necho 'ctr: failed to dial' >&2; exit 1\n")
    with pytest.raises(HostError, match="cannot list the namespaces of containerd: failed to dial"):
        probe.run([trial("quick")])


def test_the_directories_of_the_namespace_are_removed(probe: ContainerProbe, tmp_path: Path) -> None:
    for place in ("io.containerd.runtime.v2.task", "runc"):
        (tmp_path / place / "slipway-probe").mkdir(parents=True)
    probe.run([Trial("quick", ("--runtime", "quick"), runc_root=str(tmp_path / "runc"))])
    assert list(tmp_path.glob("*/slipway-probe")) == []
