# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of one Node: etcd and kube-apiserver on this machine's loopback, and the kubelet on a node of the tests.

There is neither a scheduler nor a controller manager: pods name their Node, and what controllers would report is written.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes import daemon, registry
from nodes.node import CHECKOUT, PODMAN, Node, run
from nodes.upstream import unpacked, unpacked_package

VERSION = "1.36.3"
# The Node's name is not that of the host in the inventory.
NAME = "worker-1.cluster.example"
# The cluster's address in the checkout's network; nodes have numbers from 11.
NUMBER = 3
# User and groups by the token, which is the user's name.
USERS = {"admin": "system:masters", f"system:node:{NAME}": "system:nodes", "reader": "readers", "drainer": "drainers"}
# Sysctls of the kernel that the kubelet sets. A node shares the kernel of the machine: the kubelet finds these in files instead.
SYSCTLS = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
# A machine with cgroup v1, where a node's own cgroup may be gone after a daemon-reload; no iptables; no image is removed.
SETTINGS = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "enforceNodeAllocatable": [],
    "evictionHard": {"memory.available": "1Mi"},
    "failCgroupV1": False,
    "failSwapOn": False,
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "readOnlyPort": 0,
    "staticPodPath": "/etc/kubernetes/manifests",
}
# Without a network for pods a Node isn't ready. No pod of the tests uses it.
CNI = {"cniVersion": "1.0.0", "name": "unused", "plugins": [{"type": "loopback"}]}


@dataclass(frozen=True)
class Cluster:
    """``directory`` has the certificate and the logs; ``server`` is the API server's URL."""

    directory: Path
    server: str

    def kubeconfig(self, user: str) -> dict[str, Any]:
        """For one of USERS."""
        authority = base64.b64encode((self.directory / "certificate.pem").read_bytes()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> dict[str, Any]:
        """Send a request as the administrator; raises HTTPError."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            headers={"Authorization": "Bearer admin", "Content-Type": kind},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, context=self._context(), timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.directory / "certificate.pem"))

    def answers(self) -> bool:
        """Whether the API server serves requests, with the roles that it creates at first."""
        try:
            self.ask("GET", "/api/v1/namespaces/default")
            self.ask("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def node(self) -> dict[str, Any]:
        return self.ask("GET", f"/api/v1/nodes/{NAME}")

    def patch_node(self, change: dict[str, Any]) -> None:
        self.ask("PATCH", f"/api/v1/nodes/{NAME}", change, kind="application/merge-patch+json")

    def permit(self, user: str, rules: list[tuple[str, str]]) -> None:
        """Let a user do this alone: verbs and resources of the core group, each separated by commas."""
        path, name = "/apis/rbac.authorization.k8s.io/v1", {"metadata": {"name": user}}
        role = {"rules": [{"apiGroups": [""], "verbs": verbs.split(","), "resources": of.split(",")} for verbs, of in rules]}
        try:
            self.ask("PATCH", f"{path}/clusterroles/{user}", role, kind="application/merge-patch+json")
        except urllib.error.HTTPError:
            self.ask("POST", f"{path}/clusterroles", {**name, **role})
            group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": USERS[user]}
            binding = {"roleRef": {**group, "kind": "ClusterRole", "name": user}, "subjects": [group]}
            self.ask("POST", f"{path}/clusterrolebindings", {**name, **binding})

    def permit_in(self, user: str, namespace: str, verb: str, resource: str) -> None:
        """Let a user do this in one namespace, too."""
        path, name = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}", {"metadata": {"name": user}}
        rules = [{"apiGroups": [""], "verbs": [verb], "resources": [resource]}]
        self.ask("POST", f"{path}/roles", {**name, "rules": rules})
        group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": USERS[user]}
        binding = {"roleRef": {**group, "kind": "Role", "name": user}, "subjects": [group]}
        self.ask("POST", f"{path}/rolebindings", {**name, **binding})

    def ready(self) -> str:
        """The status of the Node's condition Ready; empty if there is none."""
        try:
            conditions = self.node()["status"].get("conditions", [])
        except urllib.error.HTTPError:
            return ""
        return next((one["status"] for one in conditions if one["type"] == "Ready"), "")

    def pods(self) -> dict[str, str]:
        """The phase of every pod on the Node, by name."""
        found = self.ask("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={NAME}")["items"]
        return {one["metadata"]["name"]: one["status"].get("phase", "") for one in found}

    def create_pod(self, name: str, image: str, *, owner: str | None = None, labels: dict[str, str] | None = None) -> None:
        """Start a pod on the Node, as one that a controller of the kind ``owner`` would have created."""
        owners = [{"apiVersion": "apps/v1", "kind": owner, "name": name, "uid": name, "controller": True}] if owner else []
        metadata = {"name": name, "labels": {"app": name, **(labels or {})}, "ownerReferences": owners}
        self.ask("POST", "/api/v1/namespaces/default/pods", pod(metadata, image))

    def remove_pods(self) -> None:
        """All but static ones, with their budgets."""
        self.ask("DELETE", "/apis/policy/v1/namespaces/default/poddisruptionbudgets")
        for one in self.ask("GET", "/api/v1/namespaces/default/pods")["items"]:
            if "kubernetes.io/config.mirror" not in one["metadata"].get("annotations", {}):
                path = f"/api/v1/namespaces/default/pods/{one['metadata']['name']}"
                self.ask("DELETE", path, {"gracePeriodSeconds": 0})

    def set_budget(self, app: str, allowed: int) -> None:
        """Create or change a disruption budget for the pods of an app, and report its status as its controller does."""
        path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": app}}}
        try:
            budget = self.ask("GET", f"{path}/{app}")
        except urllib.error.HTTPError:
            budget = self.ask("POST", path, {"metadata": {"name": app}, "spec": spec})
        counts = {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1 - allowed, "expectedPods": 1}
        status = {**counts, "observedGeneration": budget["metadata"]["generation"]}
        self.ask("PATCH", f"{path}/{app}/status", {"status": status}, kind="application/merge-patch+json")


def pod(metadata: dict[str, Any], image: str) -> dict[str, Any]:
    """A pod on the Node's network, which needs no CNI, and with a volume."""
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "Never",
        "volumeMounts": [
            {"name": "own", "mountPath": "/own"},
            {"name": "cgroups", "mountPath": "/sys/fs/cgroup", "readOnly": True},
        ],
    }
    spec = {
        "nodeName": NAME,
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        # In place of the cgroups, which CRI mounts otherwise.
        "volumes": [
            {"name": "own", "emptyDir": {}},
            {"name": "cgroups", "hostPath": {"path": "/run/no-cgroups", "type": "DirectoryOrCreate"}},
        ],
        "tolerations": [{"operator": "Exists"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@contextmanager
def serve(directory: Path) -> Iterator[Cluster]:
    """An empty cluster, until the end of the block."""
    claimed = run([*PODMAN[:-1], str(CHECKOUT / "tests/nodes/network"), str(CHECKOUT)]).stdout
    address = str(ipaddress.ip_network(claimed.strip())[NUMBER])
    certificate, key = registry.certificate(address)
    (directory / "certificate.pem").write_text(certificate)
    (directory / "key.pem").write_text(key)
    lines = [f'{user},{user},{user},"{group}"\n' for user, group in USERS.items()]
    (directory / "tokens.csv").write_text("".join(lines))
    cluster = Cluster(directory, f"https://{address}:6443")
    with ExitStack() as stack:
        for name, argv in (("etcd", _etcd(directory, address)), ("kube-apiserver", _apiserver(directory, address))):
            log = stack.enter_context((directory / f"{name}.log").open("wb"))
            process = stack.enter_context(subprocess.Popen(argv, stdout=log, stderr=log))
            stack.callback(process.terminate)
        deadline = time.monotonic() + 180
        while not cluster.answers():
            assert process.poll() is None and time.monotonic() < deadline, (directory / "kube-apiserver.log").read_text()[-4000:]
            time.sleep(0.5)
        yield cluster


def _etcd(directory: Path, address: str) -> list[str]:
    clients, peers = f"http://{address}:2379", f"http://{address}:2380"
    return [
        str(unpacked_package("etcd-server", "trixie") / "usr/bin/etcd"),
        f"--data-dir={directory}/etcd",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        # Nothing here outlives the test.
        "--unsafe-no-fsync",
    ]


def _apiserver(directory: Path, address: str) -> list[str]:
    key = directory / "key.pem"
    return [
        str(program("kube-apiserver")),
        f"--etcd-servers=http://{address}:2379",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={directory}/certificate.pem",
        f"--tls-private-key-file={key}",
        f"--cert-dir={directory}",
        f"--token-auth-file={directory}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        f"--service-account-issuer=https://{address}:6443",
        f"--service-account-key-file={directory}/certificate.pem",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.96.0.0/24",
        # Service accounts are created by the controller manager.
        "--disable-admission-plugins=ServiceAccount",
    ]


def program(name: str) -> Path:
    return unpacked("kubernetes", VERSION) / "kubernetes/server/bin" / name


@functools.cache
def _bring_kubelet(node: Node) -> None:
    """The program, once."""
    run([*PODMAN, "cp", str(program("kubelet")), f"{node.container}:/usr/local/bin/kubelet"])


def join(node: Node, cluster: Cluster, static: dict[str, Any]) -> None:
    """Start the kubelet on a node with one static pod. Returns when the Node is ready."""
    leave(node)
    _bring_kubelet(node)
    settings = {**SETTINGS, "address": node.address, "healthzBindAddress": node.address}
    binds = [f"BindReadOnlyPaths=/run/sysctls/{path}:/proc/sys/{path}" for path in SYSCTLS]
    command = "/usr/local/bin/kubelet --config=/etc/kubernetes/kubelet.json --kubeconfig=/etc/kubernetes/kubelet.kubeconfig"
    unit = ["[Unit]", "After=containerd.service", "[Service]", *binds, f"ExecStart={command} --hostname-override={NAME}"]
    unit += ["KillMode=process", "Restart=always", "RestartSec=2"]
    files = {
        "/etc/cni/net.d/10-unused.conflist": json.dumps(CNI),
        "/etc/kubernetes/kubelet.json": json.dumps(settings),
        "/etc/kubernetes/kubelet.kubeconfig": json.dumps(cluster.kubeconfig(f"system:node:{NAME}")),
        "/etc/kubernetes/manifests/static.json": json.dumps(static),
        "/etc/systemd/system/kubelet.service": "\n".join(unit),
        **{f"/run/sysctls/{path}": value for path, value in SYSCTLS.items()},
    }
    for path, text in files.items():
        daemon.write(node, path, text)
    node.ssh("systemctl daemon-reload && systemctl start kubelet")
    deadline = time.monotonic() + 120
    while cluster.ready() != "True":
        assert time.monotonic() < deadline, node.ssh("journalctl -u kubelet -n 20 --no-pager").stdout
        time.sleep(1)


def leave(node: Node) -> None:
    """Stop the kubelet, and remove what it left; its pods are the caller's. containerd watches the directory of the CNI."""
    node.ssh(
        "systemctl stop kubelet; rm -rf /etc/systemd/system/kubelet.service /etc/kubernetes /var/lib/kubelet /etc/cni/net.d/* "
        "/run/sysctls; systemctl daemon-reload",
        check=False,
    )
