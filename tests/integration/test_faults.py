# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_verify finds the faults of tests/faults, and nothing on the healed node."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults import ROUNDS, Fault

from nodes import cri, daemon, toolboxes
from nodes.images import busybox, write_layout
from nodes.node import PODMAN, Node, run
from nodes.payload import run_module

BASE = "/root/healthy-config.toml"
# Nodes lack CAP_SYS_RESOURCE, which a lower oom_score_adj needs, and may lack the cpu controller.
CONFIG = """
[RUNTIME]
restrict_oom_score_adj = true
disable_cgroup = true
[IMAGES.registry]
config_path = "/etc/containerd/certs.d"
"""


def image_of(fault: Fault) -> str:
    """The image of a fault's toolbox."""
    return f"docker.io/library/boxed:{fault.get('layers', 'shared')}"


TOOLBOXES = {fault["toolbox"]: fault for faults in ROUNDS for fault in faults if "toolbox" in fault}
# The inventory's registries, which no server answers for.
REGISTRIES = [
    {"name": f"{name}.invalid", "server": "https://mirror.invalid", "username": "node", "password": "never-shown"}
    for name in ("deleted", "changed", "open", "foreign")
]
# An image with a volume, and the commands that bring all images.
VOLUMINOUS = "docker.io/library/voluminous:1"
IMPORTS = "/root/imports"
HOSTS = "/etc/containerd/certs.d"
EXPECTED = {"fail_on": [], "registries": REGISTRIES, "toolboxes": [{"path": path} for path in TOOLBOXES]}
NOTHING: dict[str, Any] = {"registries": [], "toolboxes": []}
PROBES_CRICTL = "/usr/local/bin/crictl"
# A daemon may need a second start, on a busy machine.
WAIT = "for i in $(seq 300); do ctr plugins ls >/dev/null 2>&1 && break; sleep 0.2; done"
# What a proof that was cut short has left.
REMOVE_PROOF = "ctr tasks rm --force proof; ctr containers rm proof"
INVENTORY = {
    "containerd_registries": REGISTRIES,
    "toolbox_snapshots": [{"name": Path(path).name, "path": path, "image": image_of(fault)} for path, fault in TOOLBOXES.items()],
}
PLAYBOOKS = {"provision": "slipway.node.provision", "repair": "slipway.node.repair"}
CRICTL = f"{cri.PROGRAM} --runtime-endpoint {cri.SOCKET} --image-endpoint {cri.SOCKET} --timeout 60s"


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
    toolboxes.removed(modern)
    modern.ssh("rm -rf /root/faults /var/lib/kubelet /etc/cni/net.d; mkdir -p /root/boxed/bin /root/faults")
    # The probe of pods finds it there.
    modern.ssh(f"cp {cri.PROGRAM} {PROBES_CRICTL}")
    run([*PODMAN, "cp", str(program), f"{modern.container}:/root/boxed/bin/busybox"])
    daemon.write(modern, daemon.ROOT, f"version = {2 if modern.line < (2,) else 3}" + named(modern, CONFIG))
    daemon.restart(modern)
    modern.ssh(f"{WAIT}; {CRICTL} rmp --all --force; {REMOVE_PROOF}", check=False)
    modern.ssh(f"cp {daemon.ROOT} {BASE}; rm -f {IMPORTS}")
    bring(modern, layout, "k8s.io", repository)
    create_toolboxes(modern, tmp_path)
    bring(modern, write_layout(tmp_path / "volume", [busybox()], volumes=["/volume"]), "k8s.io", VOLUMINOUS.partition(":")[0])
    configured = run_module(modern, "containerd_registry", {"registries": REGISTRIES})
    assert not configured.get("failed"), configured
    modern.ssh(f"rm -rf {HOSTS}.healthy; cp -a {HOSTS} {HOSTS}.healthy")
    pod = {"metadata": {"name": "a", "namespace": "default", "uid": "a"}, "log_directory": "/run", "linux": cri.NODE_NETWORK}
    daemon.write(modern, cri.POD, json.dumps(pod))
    container = {"metadata": {"name": "a"}, "image": {"image": VOLUMINOUS}, "command": ["/bin/busybox"], "log_path": "a.log"}
    daemon.write(modern, cri.CONTAINER, json.dumps({**container, "linux": cri.NODE_NETWORK}))
    yield modern
    toolboxes.removed(modern)
    removed = "; ".join(f"ctr -n {one} images ls -q | xargs -r ctr -n {one} images rm --sync" for one in ("k8s.io", "default"))
    modern.ssh(f"{CRICTL} rmp --all --force; {removed}", check=False)
    modern.ssh(f"rm -rf /root/faults {HOSTS} {HOSTS}.healthy {PROBES_CRICTL}")


def create_toolboxes(node: Node, directory: Path) -> None:
    """Create a toolbox for each fault of one, of an image that most of them share."""
    program = {"bin/busybox": busybox()["bin/busybox"], "etc/os-release": b"ID=boxed\n"}
    node.ssh("mkdir -p /srv/boxes")
    for kind in ("shared", "own"):
        layout = write_layout(directory / kind, [program, {f"etc/{kind}": b"layer"}], tag=kind)
        bring(node, layout, "default", "docker.io/library/boxed")
    for path, fault in TOOLBOXES.items():
        created = run_module(node, "toolbox_snapshot", {"name": Path(path).name, "path": path, "image": image_of(fault)})
        assert not created.get("failed"), created


def bring(node: Node, layout: Path, namespace: str, base: str) -> None:
    """Import a layout now, and its like again after a round that removed the images of CRI."""
    archive = layout.with_suffix(".tar")
    run(["tar", "-C", str(layout), "-cf", str(archive), "."])
    run([*PODMAN, "cp", str(archive), f"{node.container}:/root/{archive.name}"])
    line = f"ctr --namespace {namespace} images import --base-name {base} /root/{archive.name}"
    node.ssh(f"{line} && echo '{line}' >> {IMPORTS}")


def command(fault: Fault, key: str) -> str:
    """A shell command of a fault, with the names that it stands for."""
    text: str = fault.get(key, "true")
    path = fault.get("toolbox", "")
    mounts = f"$(ctr snapshots mounts / {path} | grep -o '{{}}=[^,: ]*' | cut -d= -f2)"
    places = {"UPPER": "upperdir", "WORK": "workdir", "LAYER": "lowerdir"}
    names = {name: mounts.format(option) for name, option in places.items()}
    names.update(POD=cri.POD, CONTAINER=cri.CONTAINER, BOX=path, UNIT=f"{path[1:].replace('/', '-')}.mount", CRICTL=CRICTL)
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], text)


def named(node: Node, text: str) -> str:
    """The configuration with the names that this line of containerd has for the tables of CRI."""
    runtime, images = (daemon.CRI, daemon.CRI) if node.line < (2,) else (daemon.RUNTIME, daemon.IMAGES)
    return "\n" + text.replace("RUNTIME", f'plugins."{runtime}"').replace("IMAGES", f'plugins."{images}"')


def sandbox_image(node: Node) -> str:
    dump = daemon.dump(node)["plugins"]
    name: str = dump[daemon.CRI]["sandbox_image"] if node.line < (2,) else dump[daemon.IMAGES]["pinned_images"]["sandbox"]
    return name


@contextmanager
def injected(node: Node, faults: Sequence[Fault]) -> Iterator[list[Fault]]:
    """The faults, each shown to be one; those that hide others come last. What the caller leaves in the list is healed."""
    config = daemon.read(node, BASE) or ""
    # A declared handler takes the place of containerd 1.x's default one.
    if any("config" in one for one in faults):
        config += named(node, '[RUNTIME.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"')
    config = "\n".join([*(one.get("top", "") for one in faults), config, *(named(node, one.get("config", "")) for one in faults)])
    daemon.write(node, daemon.ROOT, config)
    ordered = [[one for one in faults if one.get("last", False) is last] for last in (False, True)]
    left = [*ordered[1], *ordered[0]]
    try:
        node.ssh("\n".join(["set -e", *(command(one, "inject") for one in ordered[0])]))
        daemon.restart(node)
        node.ssh(WAIT)
        for one in ordered[0]:
            shown(node, one)
        probed(node, [one for one in ordered[0] if "handler" in one])
        for one in ordered[1]:
            node.ssh(command(one, "inject"))
            shown(node, one)
            probed(node, [one] if "handler" in one else [])
        yield left
    finally:
        heals = [command(one, "heal") for one in left if "heal" in one]
        written = f"{HOSTS} /etc/containerd/conf.d {daemon.RECORD}"
        restored = f"rm -rf {written}; cp -a {HOSTS}.healthy {HOSTS}; cp {BASE} {daemon.ROOT}"
        node.ssh("\n".join([f"{CRICTL} rmp --all --force", *heals, restored]))
        daemon.restart(node)
        node.ssh(f"{WAIT}; {REMOVE_PROOF}", check=False)
        node.ssh(f"ctr --namespace k8s.io images ls -q | grep -q . || sh {IMPORTS}")


def shown(node: Node, fault: Fault) -> None:
    """The truth: no pod of the handler starts, or the proof fails."""
    proof = f"{CRICTL} runp --runtime {fault['handler']} {cri.POD}" if "handler" in fault else command(fault, "proof")
    if {"handler", "proof"}.intersection(fault):
        if CRICTL in proof:
            # The name of a pod that is there couldn't be used again.
            proof = f"{CRICTL} rmp --all --force; {proof}"
        done = node.ssh("bash -o pipefail -c " + shlex.quote(proof), check=False)
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
    """Without Ansible's transport, which takes longer than the module."""
    return {one["id"]: one for one in run_module(node, "node_verify", {**EXPECTED, **options})["checks"]}


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
        assert "never-shown" not in str(finding)
        assert finding["remedy"], one


def follow_remedies(node: Node, faults: Sequence[Fault], found: dict[str, dict[str, Any]]) -> None:
    """Do what the remedies say, commands first; one run of a playbook repairs the faults of a round."""
    followed = [one for one in faults if "heal_by" in one]
    plays = set()
    for remedy, by in {found[one["check"]]["remedy"]: one["heal_by"] for one in followed}.items():
        if by == "steps":
            plays |= follow_steps(node, remedy)
        elif by == "command":
            (named_command,) = re.findall("'([^']+)'", remedy)
            node.ssh(named_command)
        else:
            assert PLAYBOOKS[by] in remedy, remedy
            plays.add(PLAYBOOKS[by])
    # A repair comes first.
    for playbook in sorted(plays, reverse=True):
        played = node.play(playbook, INVENTORY)
        said = [task["hosts"][node.name] for play in played["plays"] for task in play["tasks"] if node.name in task["hosts"]]
        assert [one.get("msg") for one in said if one.get("failed")] == []
    if followed:
        healed = findings(node, only=[one["check"] for one in followed])
        left = {name: one for name, one in healed.items() if one["status"] != "ok"}
        assert not left, json.dumps(left)


def follow_steps(node: Node, remedy: str) -> set[str]:
    """Do the steps of a remedy on the node; return the playbooks that it ends with."""
    plays = set()
    for step in remedy.split(", then "):
        if found := re.match("run '([^']+)'", step):
            node.ssh(found[1])
        elif found := re.match(
            r"remove it with the module slipway\.node\.(\w+) \(name: (\S+), path: (\S+), state: absent\)", step
        ):
            removed = run_module(node, found[1], {"name": found[2], "path": found[3], "state": "absent"})
            assert not removed.get("failed"), removed
        elif found := re.match(r"remove (/\S+)$", step):
            node.ssh(f"rm {found[1]}")
        elif found := re.match(r"run the playbook (\S+) on this node", step):
            plays.add(found[1])
        else:
            assert "was not created by slipway.node: remove it" in step or step.startswith(
                "copy the files that you need from "
            ), step
    return plays


def test_each_fault_is_found_and_none_on_the_healed_node(healthy: Node) -> None:
    well(healthy, 0)
    healthy.ssh(f"{CRICTL} runp --runtime runc {cri.POD} && {CRICTL} rmp --all --force")
    line = ".".join(map(str, healthy.line))
    chosen = os.environ.get("FAULT_ROUNDS", "").split(",")
    for number, every in enumerate(ROUNDS, 1):
        if chosen != [""] and str(number) not in chosen:
            continue
        faults = [one for one in every if line in one.get("lines", [line])]
        with injected(healthy, faults) as left:
            found = findings(healthy)
            check_found(healthy, faults, found)
            follow_remedies(healthy, faults, found)
            left[:] = [one for one in left if one.get("heal_by") != "steps"]
        well(healthy, number)


def test_surroundings_of_every_version_are_well(node: Node) -> None:
    """Without a kubelet and CNI, and with a kubelet whose network is not there yet."""
    daemon.install(node)
    # A daemon whose directory of CNI is removed ends.
    node.ssh("rm -rf /var/lib/kubelet /etc/cni/net.d")
    daemon.reset(node)
    node.ssh(WAIT)
    checks = {fault["check"] for faults in ROUNDS for fault in faults}
    found = {name: one for name, one in findings(node, only=sorted(checks), **NOTHING).items() if one["status"] != "ok"}
    assert found == {}
    daemon.write(node, "/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration")
    named = findings(node, only=["sandbox_image", "pod_network"])
    node.ssh("rm -r /var/lib/kubelet")
    assert {name: one["status"] for name, one in named.items()} == dict.fromkeys(("sandbox_image", "pod_network"), "warn")
