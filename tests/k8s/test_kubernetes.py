# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade drains a Node of Kubernetes, and uncordons it when it is proven: with a real kubelet, API server and etcd."""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes import cluster, daemon
from nodes.cluster import NAME, Cluster
from nodes.images import busybox, write_layout
from nodes.node import CHECKOUT, PODMAN, WORK, Node, ansible_json, run

CLIENT = WORK / "kubernetes-client"
PAUSE, APP = "localhost/pause:1", "localhost/app:1"
ANNOTATION = "slipway.node/cordoned"
# Nodes lack CAP_SYS_RESOURCE, which a lower oom_score_adj needs.
CONFIG = f"""version = 2
[plugins."{daemon.CRI}"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."{daemon.CRI}".cni]
bin_dir = "/usr/lib/cni"
[plugins."{daemon.CRI}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
STATIC = f"static-{NAME}"
OLD, NEW = "1.7.24", "2.3.7"
JOURNAL = "/var/lib/slipway-node/upgrading"


class Worker:
    """A node that is a Node of the cluster."""

    def __init__(self, node: Node, cluster: Cluster, directory: Path) -> None:
        self.node = node
        self.cluster = cluster
        self.directory = directory

    def play(
        self, playbook: str, *, user: str = "admin", check: bool = False, env: dict[str, str] | None = None, **variables: Any
    ) -> dict[str, Any]:
        """Run a playbook as a user of the cluster; returns what the json callback says."""
        kubeconfig = self.directory / f"{user.replace(':', '-')}.json"
        kubeconfig.write_text(json.dumps(self.cluster.kubeconfig(user)))
        given = {
            "upgrade_drain": True,
            "upgrade_kubernetes_node": NAME,
            "upgrade_kubernetes_kubeconfig": str(kubeconfig),
            "upgrade_drain_options": {"delete_emptydir_data": True},
            "upgrade_ready_timeout": 120,
            "upgrade_soak": 1,
            **variables,
        }
        argv = ["ansible-playbook", "-i", str(self.node.inventory), "--limit", f"{self.node.name},localhost", playbook]
        flags = ["--check"] * check
        return ansible_json(*argv, "--extra-vars", json.dumps(given), *flags, env={"PYTHONPATH": str(CLIENT), **(env or {})})

    def step(self, name: str, **options: Any) -> dict[str, Any]:
        return self.play(str(CHECKOUT / "tests/k8s/steps.yml"), step=name, **options)

    def upgrade(self, archive: str, **options: Any) -> dict[str, Any]:
        digest = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
        releases = {"amd64": {"src": archive, "sha256": digest}}
        install: dict[str, Any] = {
            "containerd_install_method": "archive",
            "containerd_version": NEW,
            "containerd_releases": releases,
            "containerd_runtimes": [{"name": "second"}],
        }
        return self.play("slipway.node.upgrade", **install, **options)

    def failed(self, played: dict[str, Any]) -> str:
        """The messages of the tasks that failed, one a line; empty if the node's play succeeded."""
        stats = played["stats"][self.node.name]
        if not stats["failures"] and not stats["unreachable"]:
            return ""
        results = [task["hosts"].get(self.node.name, {}) for play in played["plays"] for task in play["tasks"]]
        return "\n".join(str(one.get("msg")) for one in results if one.get("failed"))

    def cordon(self) -> tuple[bool, bool]:
        """Whether the Node is cordoned, and whether it is by the role."""
        node = self.cluster.node()
        return node["spec"].get("unschedulable", False), ANNOTATION in node["metadata"].get("annotations", {})

    def tasks(self) -> dict[str, str]:
        """The process id of every container that runs, by its id."""
        rows = [line.split() for line in self.node.ssh("ctr -n k8s.io tasks ls").stdout.splitlines()[1:]]
        return {row[0]: row[1] for row in rows if row[2] == "RUNNING"}

    def version(self) -> str:
        reported: str = self.cluster.node()["status"]["nodeInfo"]["containerRuntimeVersion"]
        return reported.removeprefix("containerd://").removeprefix("v").partition("~")[0]

    def kubelet(self) -> str:
        return self.node.ssh("systemctl show --property=MainPID --value kubelet").stdout

    def lose_when(self, condition: str) -> None:
        """End the connections and the modules on the node as soon as the command succeeds there, for a minute."""
        ending = "systemctl stop ssh; pkill -9 sshd; pkill -9 python3; sleep 60; systemctl start ssh"
        self.node.exec("systemd-run", "--quiet", "sh", "-c", f"until {condition}; do sleep 0.05; done; {ending}")

    def wait_until_found(self) -> None:
        deadline = time.monotonic() + 90
        while not self.node.answers():
            assert time.monotonic() < deadline
            time.sleep(1)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 90
        while self.cluster.ready() != "True":
            assert time.monotonic() < deadline
            time.sleep(1)

    def start_pods(self) -> None:
        """A pod that is evicted, and one that stays."""
        self.cluster.create_pod("web", APP, owner="ReplicaSet")
        self.cluster.create_pod("agent", APP, owner="DaemonSet", labels={"pod-template-generation": "1"})
        self.wait_for_pods({"web", "agent", STATIC})

    def wait_for_pods(self, names: set[str]) -> None:
        deadline = time.monotonic() + 90
        while self.cluster.pods() != dict.fromkeys(names, "Running"):
            assert time.monotonic() < deadline, (
                self.cluster.pods(),
                self.node.ssh("journalctl -u kubelet -n 20 --no-pager").stdout,
            )
            time.sleep(1)

    def wait_for_handlers(self, names: set[str]) -> None:
        """Wait until the kubelet reports them: it asks 2.x for them some seconds after its restart."""
        deadline = time.monotonic() + 90
        reported: set[str] = set()
        while not names <= reported:
            assert time.monotonic() < deadline, reported
            time.sleep(1)
            reported = {one.get("name", "") for one in self.cluster.node()["status"].get("runtimeHandlers", [])}

    @contextmanager
    def watched(self) -> Iterator[list[tuple[str, bool]]]:
        """The Node's Ready, and whether it is cordoned, as they are reported during the block."""
        seen: list[tuple[str, bool]] = []
        ended = threading.Event()

        def watch() -> None:
            last = False
            while not last:
                # Once more after the block, whose last step may be the last change.
                last = ended.wait(1)
                now = (self.cluster.ready(), self.cordon()[0])
                if not seen or seen[-1] != now:
                    seen.append(now)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield seen
        finally:
            ended.set()
            watcher.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster.serve(tmp_path_factory.mktemp("cluster")) as server:
        yield server


@pytest.fixture(scope="module", params=["trixie"])
def joined(
    request: pytest.FixtureRequest, nodes: dict[str, Node], served: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """1.7.24 as packaged, with a kubelet and a static pod."""
    node, directory = nodes[request.param], tmp_path_factory.mktemp("worker")
    daemon.install(node)
    daemon.reset(node, CONFIG)
    layout = write_layout(directory / "image", [busybox()], command=["/bin/busybox", "sleep", "100000"])
    run(["tar", "-C", str(layout), "-cf", str(directory / "image.tar"), "."])
    run([*PODMAN, "cp", str(directory / "image.tar"), f"{node.container}:/root/image.tar"])
    for name in (PAUSE, APP):
        node.ssh(f"ctr -n k8s.io images import --base-name {name.partition(':')[0]} /root/image.tar")
    cluster.join(node, served, cluster.pod({"name": "static"}, APP))
    yield Worker(node, served, directory)
    cluster.leave(node)


@pytest.fixture
def worker(joined: Worker) -> Iterator[Worker]:
    """Schedulable, with all pods."""
    joined.cluster.patch_node({"metadata": {"annotations": {ANNOTATION: None}}, "spec": {"unschedulable": None}})
    joined.cluster.remove_pods()
    joined.wait_for_pods({STATIC})
    joined.start_pods()
    yield joined
    joined.cluster.remove_pods()


@pytest.fixture(scope="module")
def release() -> str:
    return run([str(CHECKOUT / "tests/upstream"), "containerd", NEW]).stdout.strip()


@pytest.fixture(scope="module")
def bad_release(release: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The release with a shim that starts no container."""
    directory = tmp_path_factory.mktemp("bad")
    with tarfile.open(release) as archive:
        archive.extractall(directory / "tree", filter="data")
    shim = directory / "tree/bin/containerd-shim-runc-v2"
    shim.write_text("#!/bin/sh\necho 'this shim is broken' >&2\nexit 1\n")
    run(["tar", "-C", str(directory / "tree"), "-czf", str(directory / "bad.tar.gz"), "bin"])
    return str(directory / "bad.tar.gz")


def test_a_user_who_may_do_nothing_is_refused_before_anything_is_touched(worker: Worker) -> None:
    missing = "may not get nodes, patch nodes, list pods, create pods/eviction:"
    [_cause, message] = worker.failed(worker.step("access", user="reader")).splitlines()
    assert message.startswith(f"The Node {NAME} can't be drained from the controller: ") and missing in message, message
    assert worker.cordon() == (False, False)
    # The report needs no permission.
    checked = worker.step("access", user="reader", check=True)
    assert worker.failed(checked) == "" and f"{NAME} would not be drained" in str(checked)


def test_a_missing_permission_is_named_and_the_documented_ones_are_enough(worker: Worker) -> None:
    some = [("get,patch", "nodes"), ("list", "pods")]
    worker.cluster.permit("drainer", some)
    denied = "the user of the cluster may not {} in all namespaces, nor in default"
    message = worker.failed(worker.step("access-and-drain", user="drainer"))
    assert message == f"The Node {NAME} isn't drained: {denied.format('create pods/eviction')}", message
    options = {"delete_emptydir_data": True, "disable_eviction": True}
    message = worker.failed(worker.step("access-and-drain", user="drainer", upgrade_drain_options=options))
    assert message == f"The Node {NAME} isn't drained: {denied.format('delete pods')}", message
    checked = worker.step("access-and-drain", user="drainer", check=True)
    assert worker.failed(checked) == "" and denied.format("create pods/eviction") in str(checked)
    assert worker.cordon() == (False, False)
    # In the namespace of the pod alone.
    worker.cluster.permit_in("drainer", "default", "create", "pods/eviction")
    assert worker.failed(worker.step("access-and-drain", user="drainer")) == ""
    assert worker.cordon() == (True, True) and "web" not in worker.cluster.pods()
    worker.cluster.permit("drainer", [*some, ("create", "pods/eviction")])
    for step in ("access", "drain", "ready", "uncordon"):
        assert worker.failed(worker.step(step, user="drainer")) == ""
    assert "web" not in worker.cluster.pods()


def test_another_name_is_refused(worker: Worker) -> None:
    message = worker.failed(worker.step("access", upgrade_kubernetes_node="unknown"))
    assert "no such Node" in message and "upgrade_kubernetes_node" in message, message


def test_a_controller_without_the_client_is_refused(worker: Worker) -> None:
    message = worker.failed(worker.step("access", env={"PYTHONPATH": ""}))
    assert "the Python package kubernetes is not installed" in message, message


def test_a_controller_without_the_collection_is_refused(worker: Worker, tmp_path: Path) -> None:
    packaged = next(Path(CHECKOUT / ".venv/lib").glob("python3*/site-packages/ansible_collections"))
    (tmp_path / "ansible_collections").mkdir()
    for name in ("community", "ansible"):
        (tmp_path / "ansible_collections" / name).symlink_to(packaged / name)
    path = f"{WORK}/collections:{tmp_path}"
    message = worker.failed(
        worker.step("access", env={"ANSIBLE_COLLECTIONS_PATH": path, "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false"})
    )
    assert message.startswith("upgrade_drain needs the collection kubernetes.core"), message


def test_a_drain_is_predicted(worker: Worker) -> None:
    played = worker.step("plan", check=True)
    assert worker.failed(played) == ""
    assert "Evicted are default/web." in str(played) and f"default/agent, default/{STATIC}" in str(played)
    assert worker.cordon() == (False, False)
    assert "web" in worker.cluster.pods()


def test_a_pod_whose_data_would_be_lost_is_refused(worker: Worker) -> None:
    for check in (True, False):
        message = worker.failed(worker.step("drain", check=check, upgrade_drain_options={}))
        assert "default/web" in message and "delete_emptydir_data" in message, message
        assert worker.cordon() == (False, False)
    assert "web" in worker.cluster.pods()


def test_pods_are_evicted_when_their_budget_allows_it(worker: Worker) -> None:
    worker.cluster.set_budget("web", 0)
    timer = threading.Timer(12, worker.cluster.set_budget, ("web", 1))
    timer.start()
    started = time.monotonic()
    assert worker.failed(worker.step("drain")) == ""
    assert time.monotonic() - started > 12
    assert worker.cluster.pods() == {"agent": "Running", STATIC: "Running"}
    assert worker.cordon() == (True, True)


def test_a_node_whose_pods_can_not_be_evicted_is_uncordoned(worker: Worker) -> None:
    worker.cluster.set_budget("web", 0)
    message = worker.failed(worker.step("drain", upgrade_drain_timeout=5))
    assert "disruption budget" in message.splitlines()[-1], message
    assert worker.cordon() == (False, False)
    assert "web" in worker.cluster.pods()


def test_the_cordon_of_an_administrator_stays(worker: Worker) -> None:
    worker.cluster.patch_node({"spec": {"unschedulable": True}})
    for step in ("drain", "ready", "uncordon"):
        assert worker.failed(worker.step(step)) == ""
        assert worker.cordon() == (True, False)
    assert "web" not in worker.cluster.pods()


def test_the_cordon_of_an_interrupted_run_is_taken_back(worker: Worker) -> None:
    assert worker.failed(worker.step("drain")) == ""
    assert worker.failed(worker.step("drain")) == ""
    assert worker.cordon() == (True, True)
    assert worker.failed(worker.step("uncordon", check=True)) == ""
    assert worker.cordon() == (True, True)
    assert worker.failed(worker.step("uncordon")) == ""
    assert worker.cordon() == (False, False)


def test_a_later_cordon_of_an_administrator_stays(worker: Worker) -> None:
    assert worker.failed(worker.step("drain")) == ""
    for unschedulable in (None, True):
        worker.cluster.patch_node({"spec": {"unschedulable": unschedulable}})
    assert worker.cordon() == (True, True)
    assert worker.failed(worker.step("uncordon")) == ""
    assert worker.cordon() == (True, False)


def test_a_node_that_is_deleted_during_the_drain_is_named(worker: Worker) -> None:
    worker.cluster.set_budget("web", 0)

    ended = threading.Event()

    def delete() -> None:
        while not worker.cordon()[0]:
            if ended.wait(0.5):
                return
        worker.cluster.ask("DELETE", f"/api/v1/nodes/{NAME}")

    deleting = threading.Thread(target=delete)
    deleting.start()
    message = worker.failed(worker.step("drain"))
    ended.set()
    deleting.join()
    # The kubelet registers it again.
    worker.node.exec("systemctl", "restart", "kubelet")
    worker.wait_until_ready()
    last = message.splitlines()[-1]
    assert last.startswith(
        f"The Node {NAME} isn't drained, and its containerd is unchanged: the cluster has no such Node any more. "
    )


def test_a_node_with_another_runtime_is_not_proven(worker: Worker) -> None:
    message = worker.failed(worker.step("ready", version=NEW, upgrade_ready_timeout=5))
    assert f"instead of containerd {NEW}" in message.splitlines()[-1], message


def test_a_node_that_is_lost_stays_cordoned_until_the_next_run(worker: Worker, release: str, bad_release: str) -> None:
    """The next run fails too: the node goes back, and is uncordoned."""
    before, kubelet = worker.tasks(), worker.kubelet()
    worker.lose_when(f"[ -e {JOURNAL} ]")
    message = worker.failed(worker.upgrade(release))
    print(message)
    assert f"is unknown until it is reached again; the Node {NAME} stays cordoned" in message.splitlines()[-1], message
    assert worker.cordon() == (True, True)
    worker.wait_until_found()
    assert worker.node.exec("test", "-e", JOURNAL, check=False).returncode == 0
    with worker.watched() as seen:
        message = worker.failed(worker.upgrade(bad_release))
    print(message, seen)
    assert "this shim is broken" in message, message
    assert worker.cordon() == (False, False)
    assert any(cordoned for _ready, cordoned in seen)
    assert (worker.version(), worker.cluster.ready(), worker.kubelet()) == (OLD, "True", kubelet)
    after = worker.tasks()
    assert len(after) == 4 and after.items() <= before.items()


def test_a_node_that_fails_after_the_soak_goes_back(worker: Worker, release: str) -> None:
    ended = threading.Event()

    def damage() -> None:
        while not worker.cordon()[0] or worker.version() != NEW:
            if ended.wait(0.5):
                return
        while worker.cordon()[0]:
            if ended.wait(0.5):
                return
        worker.node.exec("systemctl", "disable", "containerd")

    damaging = threading.Thread(target=damage)
    damaging.start()
    with worker.watched() as seen:
        message = worker.failed(worker.upgrade(release, upgrade_soak=10))
    ended.set()
    damaging.join()
    worker.node.exec("systemctl", "enable", "containerd")
    print(message, seen)
    assert "unit_enabled" in message and "stays cordoned" not in message, message
    cordons = [cordoned for _ready, cordoned in seen]
    assert [one for one, last in zip(cordons, [None, *cordons]) if one != last] == [False, True, False, True, False]
    assert (worker.version(), worker.cluster.ready()) == (OLD, "True")


def test_a_node_is_drained_upgraded_and_uncordoned(worker: Worker, release: str) -> None:
    before, kubelet = worker.tasks(), worker.kubelet()
    assert worker.failed(worker.upgrade(release, check=True)) == ""
    assert worker.cordon() == (False, False) and "web" in worker.cluster.pods()
    with worker.watched() as seen:
        played = worker.upgrade(release)
    print(seen)
    assert worker.failed(played) == "", worker.failed(played)
    assert worker.cordon() == (False, False)
    assert any(cordoned for _ready, cordoned in seen)
    assert (worker.version(), worker.cluster.ready(), worker.kubelet()) == (NEW, "True", kubelet)
    assert worker.cluster.pods() == {"agent": "Running", STATIC: "Running"}
    after = worker.tasks()
    assert len(after) == 4 and after.items() <= before.items()
    worker.wait_for_handlers({"runc", "second"})
    message = worker.failed(worker.step("ready", containerd_runtimes=[{"name": "third"}], upgrade_ready_timeout=5))
    assert "the kubelet does not report the runtime handlers third" in message.splitlines()[-1], message
    # A pod starts with the new version.
    worker.cluster.create_pod("web", APP, owner="ReplicaSet")
    worker.wait_for_pods({"web", "agent", STATIC})
    again = worker.upgrade(release)
    assert worker.failed(again) == "" and again["stats"][worker.node.name]["changed"] == 0
    # A run that was interrupted before its end.
    worker.cluster.patch_node({"metadata": {"annotations": {ANNOTATION: "upgrade"}}, "spec": {"unschedulable": True}})
    assert worker.failed(worker.upgrade(release)) == ""
    assert worker.cordon() == (False, False)
    assert "web" in worker.cluster.pods()


def test_a_node_goes_back_to_the_version_before(worker: Worker, release: str) -> None:
    """1.7 ends the containers that 2.3 has started. The kubelet starts them again."""
    back: dict[str, Any] = {"upgrade_state": "previous"}
    assert "containers that a newer version started" in worker.failed(worker.upgrade(release, **back))
    assert "web" in worker.cluster.pods() and worker.cordon() == (False, False)
    assert worker.failed(worker.upgrade(release, **back, upgrade_restart="force")) == ""
    assert (worker.version(), worker.cluster.ready()) == (OLD, "True")
    assert worker.cordon() == (False, False)
    worker.wait_for_pods({"agent", STATIC})
