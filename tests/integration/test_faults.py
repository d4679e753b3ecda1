# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_verify finds the faults of tests/faults, and nothing on the healed node."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults import ROUNDS, Fault

from nodes import cri, daemon
from nodes.images import busybox, write_layout
from nodes.node import PODMAN, Node, run

BASE = "/root/healthy-config.toml"
# Nodes lack CAP_SYS_RESOURCE, which a lower oom_score_adj needs, and may lack the cpu controller.
CONFIG = """
[RUNTIME]
restrict_oom_score_adj = true
disable_cgroup = true
[IMAGES.registry]
config_path = "/etc/containerd/certs.d"
"""
PROBES_CRICTL = "/usr/local/bin/crictl"
# A daemon may need a second start, on a busy machine.
WAIT = "for i in $(seq 50); do ctr plugins ls >/dev/null 2>&1 && break; sleep 0.2; done"
# What a proof that was cut short has left.
REMOVE_PROOF = "ctr tasks rm --force proof; ctr containers rm proof"
PLAYBOOKS = {"provision": "slipway.node.provision", "repair": "slipway.node.repair"}
CRICTL = f"{cri.PROGRAM} --runtime-endpoint {cri.SOCKET} --image-endpoint {cri.SOCKET} --timeout 20s"


@pytest.fixture
def healthy(modern: Node, tmp_path: Path) -> Iterator[Node]:
    """A node with the files of registries, the sandbox image, and a program for containers."""
    cri.install(modern)
    program = tmp_path / "busybox"
    program.write_bytes(busybox()["bin/busybox"])
    program.chmod(0o755)
    name = sandbox_image(modern)
    repository, _colon, tag = name.rpartition(":")
    layout = write_layout(tmp_path / "pause", [busybox()], tag=tag, command=["/bin/busybox", "sleep", "1000"])
    run(["tar", "-C", str(layout), "-cf", str(tmp_path / "pause.tar"), "."])
    modern.ssh("rm -rf /root/faults /var/lib/kubelet /etc/cni/net.d; mkdir -p /root/boxed/bin /root/faults")
    # The probe of pods finds it there.
    modern.ssh(f"cp {cri.PROGRAM} {PROBES_CRICTL}")
    for file, place in ((program, "/root/boxed/bin/busybox"), (tmp_path / "pause.tar", "/root/pause.tar")):
        run([*PODMAN, "cp", str(file), f"{modern.container}:{place}"])
    daemon.write(modern, daemon.ROOT, f"version = {2 if modern.line < (2,) else 3}" + named(modern, CONFIG))
    daemon.restart(modern)
    modern.ssh(f"{CRICTL} rmp --all --force; {REMOVE_PROOF}", check=False)
    modern.ssh(f"cp {daemon.ROOT} {BASE}; ctr --namespace k8s.io images import --base-name {repository} /root/pause.tar")
    pod = {"metadata": {"name": "a", "namespace": "default", "uid": "a"}, "log_directory": "/run", "linux": cri.NODE_NETWORK}
    daemon.write(modern, cri.POD, json.dumps(pod))
    yield modern
    modern.ssh(f"{CRICTL} rmp --all --force; ctr --namespace k8s.io images rm {name}", check=False)
    modern.ssh(f"rm -rf /root/faults {PROBES_CRICTL}")


def named(node: Node, text: str) -> str:
    """The configuration with the names that this line of containerd has for the tables of CRI."""
    runtime, images = (daemon.CRI, daemon.CRI) if node.line < (2,) else (daemon.RUNTIME, daemon.IMAGES)
    return "\n" + text.replace("RUNTIME", f'plugins."{runtime}"').replace("IMAGES", f'plugins."{images}"')


def sandbox_image(node: Node) -> str:
    dump = daemon.dump(node)["plugins"]
    name: str = dump[daemon.CRI]["sandbox_image"] if node.line < (2,) else dump[daemon.IMAGES]["pinned_images"]["sandbox"]
    return name


@contextmanager
def injected(node: Node, faults: Sequence[Fault]) -> Iterator[None]:
    """The faults, each shown to be one; those that hide others come last."""
    config = daemon.read(node, BASE) or ""
    # A declared handler takes the place of containerd 1.x's default one.
    if any("config" in one for one in faults):
        config += named(node, '[RUNTIME.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"')
    config = "\n".join([*(one.get("top", "") for one in faults), config, *(named(node, one.get("config", "")) for one in faults)])
    daemon.write(node, daemon.ROOT, config)
    ordered = [[one for one in faults if one.get("last", False) is last] for last in (False, True)]
    try:
        node.ssh("\n".join(one.get("inject", "true") for one in ordered[0]))
        daemon.restart(node)
        node.ssh(WAIT)
        for one in ordered[0]:
            shown(node, one)
        probed(node, [one for one in ordered[0] if "handler" in one])
        for one in ordered[1]:
            node.ssh(one["inject"])
            shown(node, one)
        yield
    finally:
        heals = [one["heal"] for one in [*ordered[1], *ordered[0]] if "heal" in one]
        written = f"/etc/containerd/certs.d /etc/containerd/conf.d {daemon.RECORD}"
        node.ssh("\n".join([f"{CRICTL} rmp --all --force", *heals, f"rm -rf {written}; cp {BASE} {daemon.ROOT}"]))
        daemon.restart(node)
        node.ssh(f"{WAIT}; {REMOVE_PROOF}", check=False)


def shown(node: Node, fault: Fault) -> None:
    """The truth: no pod of the handler starts, or the proof fails."""
    proof = f"{CRICTL} runp --runtime {fault['handler']} {cri.POD}" if "handler" in fault else fault.get("proof")
    if proof:
        done = node.ssh("bash -o pipefail -c " + shlex.quote(proof.replace("CRICTL", CRICTL)), check=False)
        assert done.returncode != 0, (fault["name"], done)


def probed(node: Node, faults: Sequence[Fault]) -> None:
    """No container and no pod of the faults' handlers starts, and the probe says why in the runtime's own words."""
    for kind in ("container", "pod"):
        seen = [one for one in faults if kind not in one.get("unprobed", {})]
        if seen:
            (finding,) = findings(node, probe=kind, only=["handler_starts"]).values()
            assert isinstance(finding["found"], dict), (kind, finding)
            said = {one["name"]: (one["says"], finding["found"][one["handler"]]) for one in seen}
            unlike = {name: both for name, both in said.items() if not both[1].startswith("failed: ") or both[0] not in both[1]}
            assert unlike == {}, kind


def status_of(fault: Fault, node: Node) -> str:
    status = fault["status"]
    return str(status if isinstance(status, str) else status[".".join(map(str, node.line))])


def findings(node: Node, **options: Any) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in node.module("node_verify", {"fail_on": [], **options})["checks"]}


def well(node: Node, number: int) -> None:
    """The checks of all faults are ok after the round with this number, 0 for none."""
    checks = {fault["check"] for faults in ROUNDS for fault in faults}
    assert {name: one for name, one in findings(node).items() if name in checks and one["status"] != "ok"} == {}, number


def check_found(node: Node, faults: Sequence[Fault], found: dict[str, dict[str, Any]]) -> None:
    """Each fault is found by its check, with a remedy."""
    for one in faults:
        finding = found[one["check"]]
        assert finding["status"] == status_of(one, node), (one, finding)
        assert one["found"] in str(finding["found"]), (one, finding)
        assert finding["remedy"], one


def follow_remedies(node: Node, faults: Sequence[Fault], found: dict[str, dict[str, Any]]) -> None:
    """Do what the remedies say, commands first; one run of a playbook repairs the faults of a round."""
    followed = [one for one in faults if "heal_by" in one]
    plays = set()
    for one in followed:
        remedy = found[one["check"]]["remedy"]
        playbook = PLAYBOOKS.get(one["heal_by"])
        if playbook:
            assert playbook in remedy, (one, remedy)
            plays.add(playbook)
        else:
            (command,) = re.findall("'([^']+)'", remedy)
            node.ssh(command)
    for playbook in plays:
        played = node.play(playbook)
        said = [task["hosts"][node.name] for play in played["plays"] for task in play["tasks"] if node.name in task["hosts"]]
        assert [one.get("msg") for one in said if one.get("failed")] == []
    if followed:
        healed = findings(node, only=[one["check"] for one in followed])
        assert {name: one for name, one in healed.items() if one["status"] != "ok"} == {}


def test_each_fault_is_found_and_none_on_the_healed_node(healthy: Node) -> None:
    well(healthy, 0)
    healthy.ssh(f"{CRICTL} runp --runtime runc {cri.POD}")
    line = ".".join(map(str, healthy.line))
    for number, every in enumerate(ROUNDS, 1):
        faults = [one for one in every if line in one.get("lines", [line])]
        with injected(healthy, faults):
            found = findings(healthy)
            check_found(healthy, faults, found)
            follow_remedies(healthy, faults, found)
        well(healthy, number)


def test_surroundings_of_every_version_are_well(node: Node) -> None:
    """Without a kubelet and CNI, and with a kubelet whose network is not there yet."""
    daemon.install(node)
    daemon.reset(node)
    node.ssh(f"rm -rf /var/lib/kubelet /etc/cni/net.d; {WAIT}")
    checks = {fault["check"] for faults in ROUNDS for fault in faults}
    found = {name: one for name, one in findings(node, only=sorted(checks)).items() if one["status"] != "ok"}
    assert found == {}
    daemon.write(node, "/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration")
    named = findings(node, only=["sandbox_image", "pod_network"])
    node.ssh("rm -r /var/lib/kubelet")
    assert {name: one["status"] for name, one in named.items()} == dict.fromkeys(("sandbox_image", "pod_network"), "warn")
