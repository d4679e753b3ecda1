# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.node.plugins.filter.kubernetes_cordoned import kubernetes_cordoned
from ansible_collections.slipway.node.plugins.filter.kubernetes_drain import kubernetes_drain
from ansible_collections.slipway.node.plugins.filter.kubernetes_error import kubernetes_error
from ansible_collections.slipway.node.plugins.filter.kubernetes_problems import kubernetes_problems
from ansible_collections.slipway.node.plugins.filter.kubernetes_shared import kubernetes_shared


def pod(
    name: str, *, owner: str | None = None, volume: str | None = None, phase: str = "Running", **metadata: Any
) -> dict[str, Any]:
    owners = {"ownerReferences": [{"kind": owner, "name": "one"}]} if owner else {}
    volumes = {"volumes": [{"name": "one", volume: {}}]} if volume else {}
    return {"metadata": {"namespace": "apps", "name": name, **owners, **metadata}, "spec": volumes, "status": {"phase": phase}}


def node(*, ready: str | None = "True", runtime: str = "containerd://2.3.7", handlers: list[str] | None = None) -> dict[str, Any]:
    conditions = [{"type": "MemoryPressure", "status": "False"}]
    conditions += [{"type": "Ready", "status": ready, "message": "container runtime is down"}] if ready else []
    status: dict[str, Any] = {"conditions": conditions, "nodeInfo": {"containerRuntimeVersion": runtime}}
    if handlers is not None:
        status["runtimeHandlers"] = [{"name": name, "features": {}} if name else {"features": {}} for name in handlers]
    return {"metadata": {"name": "one"}, "status": status}


def test_pods_with_a_controller_are_evicted() -> None:
    pods = [pod("web", owner="ReplicaSet"), pod("db", owner="StatefulSet", volume="persistentVolumeClaim")]
    assert kubernetes_drain(pods) == {"evicted": ["apps/db", "apps/web"], "left": [], "refusals": []}


def test_static_pods_stay() -> None:
    static = pod("etcd", owner="Node", annotations={"kubernetes.io/config.mirror": "hash"})
    assert kubernetes_drain([static])["left"] == ["apps/etcd"]


@pytest.mark.parametrize("volume", [None, "hostPath", "emptyDir"])
def test_pods_of_a_daemon_set_stay(volume: str | None) -> None:
    assert kubernetes_drain([pod("agent", owner="DaemonSet", volume=volume)])["left"] == ["apps/agent"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_are_evicted(phase: str) -> None:
    assert kubernetes_drain([pod("job", volume="emptyDir", phase=phase)])["evicted"] == ["apps/job"]


def test_data_that_would_be_lost_is_refused_unless_it_is_allowed() -> None:
    pods = [pod("web", owner="ReplicaSet", volume="emptyDir")]
    [refusal] = kubernetes_drain(pods)["refusals"]
    assert "apps/web" in refusal and "delete_emptydir_data" in refusal
    assert kubernetes_drain(pods, delete_emptydir_data=True)["evicted"] == ["apps/web"]


def test_a_pod_that_nothing_would_create_again_is_refused_unless_it_is_allowed() -> None:
    [refusal] = kubernetes_drain([pod("shell")])["refusals"]
    assert "apps/shell" in refusal and "force" in refusal
    assert kubernetes_drain([pod("shell")], force=True)["evicted"] == ["apps/shell"]


def test_a_node_that_is_ready_has_no_problem() -> None:
    assert kubernetes_problems(node(handlers=["", "runc", "kata"]), version="2.3.7", handlers=["kata"]) == []


@pytest.mark.parametrize(
    ("ready", "words"), [("False", "container runtime is down"), ("Unknown", "Unknown"), (None, "not reported")]
)
def test_a_node_that_is_not_ready_gets_no_pods(ready: str | None, words: str) -> None:
    [problem] = kubernetes_problems(node(ready=ready))
    assert words in problem


@pytest.mark.parametrize(
    ("reported", "version", "same"),
    [
        ("containerd://2.3.7", "2.3.7", True),
        ("containerd://v2.3.7", "2.3.7", True),
        ("containerd://1.7.24~ds1", "1.7.24~ds1-6+deb13u1+b4", True),
        ("containerd://1.7.24~ds1", "2.3.7", False),
        ("containerd://2.3.7-rc.1", "2.3.7", False),
        ("", "2.3.7", False),
    ],
)
def test_a_status_from_before_the_restart_does_not_count(reported: str, version: str, same: bool) -> None:
    assert (kubernetes_problems(node(runtime=reported), version=version) == []) is same


def test_a_handler_that_the_kubelet_does_not_report_is_named() -> None:
    [problem] = kubernetes_problems(node(handlers=["", "runc"]), handlers=["runc", "kata"])
    assert problem.endswith("kata")


def test_a_kubelet_that_reports_no_handlers_is_not_asked_for_them() -> None:
    assert kubernetes_problems(node(handlers=None), handlers=["kata"]) == []


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Could not create API client: Invalid kube-config file. No configuration found.", None),
        (
            "Could not find or access '/x' on the Ansible Controller.\nIf you are using a module",
            "Could not find or access '/x' on the Ansible Controller",
        ),
        (
            "Failed to import the required Python library (kubernetes) on vm's Python /venv/bin/python3. Please read the docs",
            "the Python package kubernetes is not installed for /venv/bin/python3",
        ),
        (
            'Failed to patch object: b\'{"kind":"Status","message":"nodes \\\\"one\\\\" is forbidden","code":403}\\n\'',
            'nodes "one" is forbidden',
        ),
    ],
)
def test_the_message_of_a_failure_is_one_line(message: str, line: str | None) -> None:
    assert kubernetes_error(message) == (line or message.rstrip("."))


def test_other_objects_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="list of pods"):
        kubernetes_drain([{"kind": "Node"}])
    with pytest.raises(AnsibleFilterError, match="takes a Node"):
        kubernetes_problems("one")


def test_hosts_that_are_one_node_are_named() -> None:
    named: dict[str, Any] = {"upgrade_drain": True, "upgrade_kubernetes_node": "worker"}
    hosts: dict[str, Any] = {"a": named, "b": {"upgrade_drain": "yes"}, "worker": {"upgrade_drain": True}, "d": named}
    assert kubernetes_shared(hosts, list(hosts)) == ["a, worker and d use the same upgrade_kubernetes_node, worker"]


@pytest.mark.parametrize(
    "other",
    [
        {"upgrade_drain": False, "upgrade_kubernetes_node": "worker"},
        {"upgrade_kubernetes_node": "worker"},
        {"upgrade_drain": True},
        {"upgrade_drain": True, "upgrade_kubernetes_node": "worker", "upgrade_kubernetes_context": "another cluster"},
        {"upgrade_drain": True, "upgrade_kubernetes_node": "worker", "upgrade_kubernetes_kubeconfig": "/another"},
    ],
)
def test_hosts_that_are_not_drained_or_of_other_clusters_share_no_node(other: dict[str, Any]) -> None:
    assert kubernetes_shared({"a": {"upgrade_drain": True, "upgrade_kubernetes_node": "worker"}, "b": other}, ["a", "b"]) == []


CORDON: dict[str, Any] = {"f:spec": {"f:unschedulable": {}}}
MARK: dict[str, Any] = {"f:metadata": {"f:annotations": {"f:slipway.node/cordoned": {}}}}
KUBELET = {"f:metadata": {"f:annotations": {"f:another": {}}}, "f:spec": {"f:podCIDR": {}}}


def cordoned(*fields: dict[str, Any], mark: bool = True, unschedulable: bool = True) -> dict[str, Any]:
    metadata = {"annotations": {"slipway.node/cordoned": "2026-01-01T00:00:00Z"} if mark else None}
    managed = {"managedFields": [{"fieldsType": "FieldsV1", "fieldsV1": one} for one in fields]} if fields else {}
    return {"metadata": {**metadata, **managed}, "spec": {"unschedulable": True} if unschedulable else {}}


@pytest.mark.parametrize("fields", [(KUBELET, {**MARK, **CORDON}), (KUBELET,), ()])
def test_the_cordon_of_an_upgrade_is_known(fields: tuple[dict[str, Any], ...]) -> None:
    assert kubernetes_cordoned(cordoned(*fields))


@pytest.mark.parametrize(
    "node",
    [
        cordoned(KUBELET, MARK, CORDON),
        cordoned({**MARK, **CORDON}, CORDON),
        cordoned({**MARK, **CORDON}, mark=False),
        cordoned({**MARK, **CORDON}, unschedulable=False),
        cordoned(mark=False),
    ],
)
def test_the_cordon_of_another_client_is_not_that_of_an_upgrade(node: dict[str, Any]) -> None:
    assert not kubernetes_cordoned(node)
