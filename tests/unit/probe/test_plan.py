# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of the container of a handler, and the outcome of its exit."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig, Handler
from ansible_collections.slipway.node.plugins.module_utils.probe.plan import (
    FAILED,
    NOT_TRIED,
    STARTED,
    NotTried,
    Outcome,
    Report,
    complaint,
    outcome_of_run,
    plan_pods,
    plan_trials,
    runtime_arguments,
)

RUNC = "io.containerd.runc.v2"
CGROUP = ("--cgroup", "/slipway-probe")


def config(**runtimes: Any) -> EffectiveConfig:
    containerd = {"default_runtime_name": "runc", "runtimes": runtimes}
    images = {"snapshotter": "native"}
    return EffectiveConfig(
        {
            "version": 3,
            "plugins": {"io.containerd.cri.v1.runtime": {"containerd": containerd}, "io.containerd.cri.v1.images": images},
        }
    )


def arguments(kind: str = RUNC, path: str | None = None, **options: Any) -> tuple[str, ...]:
    return runtime_arguments(Handler("h", kind, path, None, None), options)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("--runtime", RUNC, *CGROUP)),
        # What ``config dump`` prints for options that aren't set.
        ({"BinaryName": "", "Root": "", "SystemdCgroup": False, "NoPivotRoot": False}, ("--runtime", RUNC, *CGROUP)),
        ({"BinaryName": "/opt/crun"}, ("--runtime", RUNC, "--runc-binary", "/opt/crun", *CGROUP)),
        ({"Root": "/run/x"}, ("--runtime", RUNC, "--runc-root", "/run/x", *CGROUP)),
        (
            {"SystemdCgroup": True},
            ("--runtime", RUNC, "--runc-systemd-cgroup", "--cgroup", "system.slice:slipway:probe"),
        ),
        ({"path": "/opt/shim"}, ("--runtime", "/opt/shim", *CGROUP)),
        (
            {"kind": "io.containerd.kata.v2", "ConfigPath": "/etc/k.toml"},
            ("--runtime", "io.containerd.kata.v2", "--runtime-config-path", "/etc/k.toml", *CGROUP),
        ),
    ],
)
def test_a_handler_is_started_as_the_daemon_has_it(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert arguments(**given) == expected


@pytest.mark.parametrize("given", [{"path": "/opt/shim"}, {"kind": "io.containerd.runc.v1"}])
def test_options_that_ctr_can_not_pass_are_not_left_out(given: dict[str, Any]) -> None:
    with pytest.raises(NotTried, match="with SystemdCgroup: use the probe 'pod'"):
        arguments(**given, SystemdCgroup=True)


@pytest.mark.parametrize(("option", "value"), [("SystemdCgroup", "true"), ("BinaryName", 5), ("ConfigPath", True)])
def test_an_option_of_the_wrong_type_fails(option: str, value: Any) -> None:
    (trial,) = plan_trials(config(h={"runtime_type": "io.containerd.kata.v2", "options": {option: value}}), None, {})
    assert trial.outcome is not None
    assert (trial.outcome.state, option in trial.outcome.reason) == (FAILED, True)


def test_each_handler_gets_its_snapshotter() -> None:
    node = config(runc={"runtime_type": RUNC}, other={"runtime_type": RUNC, "snapshotter": "blockfile"})
    assert [trial.arguments[:2] for trial in plan_trials(node, None, {})] == [
        ("--snapshotter", "native"),
        ("--snapshotter", "blockfile"),
    ]


@pytest.mark.parametrize("plan", [plan_trials, plan_pods])
def test_an_unsafe_handler_is_not_started(plan: Any) -> None:
    node = config(runc={"runtime_type": RUNC}, kata={"runtime_type": "io.containerd.kata.v2"})
    trials = plan(node, None, {"kata": "the host's own disk"})
    assert [trial.outcome for trial in trials] == [None, Outcome("kata", NOT_TRIED, "the host's own disk")]
    assert [trial.handler for trial in plan(node, ["runc", "unknown"], {})] == ["runc"]


FAILURE = "failed to create shim task: OCI runtime create failed: runc create failed: exec: no such file"


@pytest.mark.parametrize(
    ("code", "stderr", "expected"),
    [
        (86, "", Outcome("h", STARTED)),
        (1, f"ctr: {FAILURE}\n", Outcome("h", FAILED, FAILURE)),
        # 2.x also logs that there is nothing to clean up.
        (1, f'time="2026" level=error msg="failed to cleanup"\nctr: {FAILURE}\n', Outcome("h", FAILED, FAILURE)),
        (0, "", Outcome("h", FAILED, "the container's process ended with 0 instead of 86")),
        (137, "", Outcome("h", FAILED, "the container's process ended with 137 instead of 86")),
    ],
)
def test_only_the_programs_own_code_is_a_start(code: int, stderr: str, expected: Outcome) -> None:
    assert outcome_of_run("h", code, stderr) == expected


def test_the_answer_of_cri_is_read_from_the_log_of_crictl() -> None:
    stderr = (
        'E1129 12:07:15.005131     790 remote_runtime.go:325] "RunPodSandbox from runtime service failed" '
        'err="rpc error: code = Unknown desc = failed to create containerd task: exec: \\"runc\\": not found"\n'
        'time="2026-11-29T12:00:00Z" level=fatal msg="run pod sandbox: rpc error"\n'
    )
    assert complaint(stderr) == 'failed to create containerd task: exec: "runc": not found'


def test_the_last_words_of_crictl_are_read_from_its_log() -> None:
    stderr = (
        'time="2026-11-29T12:00:00Z" level=warning msg="Config \\"/etc/crictl.yaml\\" does not exist"\n'
        'time="2026-11-29T12:00:00Z" level=fatal msg="run pod sandbox: exec: \\"runc\\": not found"\n'
    )
    assert complaint(stderr) == 'run pod sandbox: exec: "runc": not found'


def test_a_report_survives_its_way_between_processes() -> None:
    report = Report((Outcome("runc", STARTED), Outcome("kata", FAILED, 'a "reason"')), "a rest")
    assert Report.from_json(report.to_json()) == report
