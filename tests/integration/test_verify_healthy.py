# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_verify raises no false alarm on healthy nodes, and doesn't hang on those where something else does."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes import daemon
from nodes.config import DURABLE, configure
from nodes.images import busybox, random_layers, write_layout
from nodes.node import PODMAN, WORK, Node, run
from nodes.registry import Registry

# How often a node under load is verified: LOOKS=50 for more than the default.
LOOKS = int(os.environ.get("LOOKS", "10"))
BOX = "docker.io/library/box:1"
# Names that containerd allows, of a namespace, a container, a snapshot, an image and a handler.
ODD = "odd.name-1_x"
ODD_SETUP = f"""
ctr namespaces create {ODD}
for ns in default {ODD}; do ctr -n $ns images import --base-name docker.io/library/box --all-platforms /root/box.tar; done
digest=$(ctr images ls name=={BOX} | awk 'NR == 2 {{print $3}}')
ctr -n k8s.io images tag {BOX} docker.io/library/box@$digest
top=$(ctr -n {ODD} snapshots ls | awk '$3 == "Committed" {{print $1}}' | tail -1)
ctr -n {ODD} snapshots prepare 'a key with spaces' $top
ctr -n {ODD} snapshots view 'a view: of / "layers"' $top
ctr -n {ODD} containers create {BOX} c.1_x-2
"""
ODD_HEAL = f"""
for c in $(ctr -n $ns containers ls -q); do
    ctr -n $ns tasks rm --force $c; ctr -n $ns containers rm $c
done
ctr -n $ns snapshots rm 'a key with spaces'; ctr -n $ns snapshots rm 'a view: of / "layers"'
ctr -n $ns images rm --sync $(ctr -n $ns images ls -q); ctr namespaces rm {ODD}
"""
LOADS = (
    f"ctr -n k8s.io run --rm {BOX} short-$$-$n /bin/busybox sleep 0.2",
    f"ctr -n {ODD} run --rm --read-only {BOX} read-only-$$-$n /bin/busybox true",
    f"ctr -n {ODD} run --detach {BOX} ending-$$-$n /bin/busybox sleep 1; sleep 1; ctr -n {ODD} containers rm ending-$$-$n",
    "ctr -n k8s.io images pull PULL; ctr -n k8s.io images rm --sync IMAGE",
)


def boxed(node: Node, source: Registry, tmp_path: Path) -> None:
    """Give the node the archive /root/box.tar with an image that runs, and the image in the namespace of CRI."""
    layout = write_layout(tmp_path / "box", [busybox(), *random_layers(2)], command=["/bin/busybox", "true"])
    run(["tar", "-C", str(layout), "-cf", str(tmp_path / "box.tar"), "."])
    run([*PODMAN, "cp", str(tmp_path / "box.tar"), f"{node.container}:/root/box.tar"])
    node.module("containerd_image", {"name": [BOX], "namespace": "k8s.io", "archive": "/root/box.tar", "remote_src": True})


@contextmanager
def loaded(node: Node, image: str) -> Iterator[None]:
    """Containers start and end, and a pull runs, during the block."""
    plain = f"--plain-http {image}"
    loads = [one.replace("PULL", plain).replace("IMAGE", image) for one in LOADS]
    loops = [f"n=0; while sleep 1; do n=$((n + 1)); {{ {one}; }} >>/root/load 2>&1; done" for one in loads]
    node.ssh("rm -f /root/load")
    pids = [node.ssh(f"setsid sh -c {shlex.quote(one)} >/dev/null 2>&1 & echo $!").stdout.strip() for one in loops]
    try:
        yield
    finally:
        node.ssh(f"kill -- {' '.join(f'-{pid}' for pid in pids)}", check=False)


@pytest.fixture
def odd(modern: Node, source: Registry, tmp_path: Path) -> Iterator[Node]:
    """A node with healthy objects of odd names."""
    done = configure(modern, **DURABLE)
    assert not done.get("failed"), done
    boxed(modern, source, tmp_path)
    modern.ssh(ODD_SETUP)
    yield modern
    for namespace in (ODD, "k8s.io", "default"):
        modern.ssh(f"ns={namespace}{ODD_HEAL}", check=False)


def worse_than_ok(node: Node, times: int = 1, **other: Any) -> list[dict[str, Any]]:
    """What each of so many runs finds. One run of Ansible does them all."""
    options = {
        "settings": DURABLE,
        "images": [{"name": [BOX], "namespace": "k8s.io"}],
        **other,
        # By the calendar, 1.7 isn't supported any longer.
        "skip": ["containerd_version"],
        "fail_on": [],
    }
    task = {"slipway.node.node_verify": options, "loop": list(range(times))}
    # Other nodes are verified at the same time, with other options.
    playbook = WORK / f"verify-healthy-{node.name}.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = node.play(playbook)["plays"][-1]["tasks"][0]["hosts"][node.name]["results"]
    return [{one["id"]: one for one in run["checks"] if one["status"] != "ok"} for run in done]


def test_a_provisioned_node_is_green(installed: Node) -> None:
    """containerd 1.6 can't pull durably, and the inventory has to say so."""
    settings = {"image_pull_sync_fs": installed.line >= (1, 7)}
    done = configure(installed, **settings)
    assert not done.get("failed"), done
    assert worse_than_ok(installed, settings=settings, images=[]) == [{}]


def test_a_healthy_node_under_load_is_green(odd: Node, source: Registry) -> None:
    assert worse_than_ok(odd) == [{}]
    image = source.push(random_layers(4, size=1 << 20))
    with loaded(odd, image):
        assert worse_than_ok(odd, LOOKS) == [{}] * LOOKS
    log = odd.exec("cat", "/root/load").stdout
    assert "elapsed" in log, log[-2000:]


# Ways to containerd's root that are as good as any: how each is made, and undone.
ROOTS = {
    "a link": ("ln -s /var/lib/containerd /srv/root", "rm /srv/root"),
    "a bind mount": ("mkdir /srv/root; mount --bind /var/lib/containerd /srv/root", "umount /srv/root; rmdir /srv/root"),
}


@pytest.mark.parametrize("way", ROOTS)
def test_a_root_behind_a_link_or_a_mount_is_green(odd: Node, way: str) -> None:
    there, back = ROOTS[way]
    odd.ssh(f"systemctl stop containerd; {there}; sed -i '1i root = \"/srv/root\"' {daemon.ROOT}; systemctl start containerd")
    try:
        odd.ssh(f"ctr -n {ODD} run --detach {BOX} running /bin/busybox sleep 600; grep -q upperdir=/srv/root /proc/mounts")
        assert worse_than_ok(odd) == [{}]
    finally:
        odd.ssh(f"ctr -n {ODD} tasks rm --force running; ctr -n {ODD} containers rm running", check=False)
        odd.ssh(f"systemctl stop containerd; sed -i 1d {daemon.ROOT}; {back}; systemctl start containerd", check=False)


# A file system whose server reads each request, and answers none but the first: the process that waits can't be killed.
HUNG = "/run/hung"
HANG = f"""
import ctypes, os, struct
os.makedirs("{HUNG}", exist_ok=True)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={{fuse}},rootmode=40000,user_id=0,group_id=0".encode()
assert ctypes.CDLL(None, use_errno=True).mount(b"hung", b"{HUNG}", b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
unique = struct.unpack_from("<IIQ", os.read(fuse, 1 << 20))[2]
os.write(fuse, struct.pack("<IiQ IIIIHHIIHHIIIIIIII", 80, 0, unique, 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0))
while True:
    os.read(fuse, 1 << 20)
"""


@pytest.fixture
def mended(lts: Node) -> Iterator[list[str]]:
    """Takes commands that undo what ``daemon.reset`` doesn't, and runs them after the test."""
    commands: list[str] = []
    yield commands
    for command in commands:
        lts.ssh(command, check=False)


@pytest.fixture
def hung(lts: Node, mended: list[str]) -> Node:
    """A node whose directory of registries is on a file system that hangs."""
    mended.append(f"pkill -f '[h]ang.py'; umount -l {HUNG}")
    done = configure(lts, **DURABLE, registry_config_path=HUNG)
    assert not done.get("failed"), done
    daemon.write(lts, "/root/hang.py", HANG)
    lts.ssh(f"setsid python3 /root/hang.py >/root/hang.log 2>&1 & until grep -q {HUNG} /proc/mounts; do sleep 0.2; done; sleep 1")
    return lts


def test_what_hangs_is_unknown_and_the_rest_is_verified(hung: Node) -> None:
    found = {one["id"]: one for one in hung.module("node_verify", {"settings": DURABLE, "fail_on": []})["checks"]}
    assert (found["registry_files"]["status"], found["registry_files"]["found"]) == ("unknown", "no answer within 30 seconds")
    assert found["registry_files"]["remedy"].startswith("find the file system or the service that hangs")
    assert {name: one for name, one in found.items() if one["status"] != "ok" and name != "registry_files"} == {}


def test_a_client_that_hangs_is_one_finding(lts: Node, mended: list[str]) -> None:
    mended.append("rm -rf /root/hung")
    daemon.write(lts, "/root/hung/ctr", "#!/bin/sh\nsleep 600")
    lts.ssh("chmod +x /root/hung/ctr; ln -s /usr/local/bin/containerd /root/hung")
    found = lts.module("node_verify", {"binary": "/root/hung/containerd", "fail_on": []})["checks"]
    assert [one["id"] for one in found if one["status"] == "fail"] == ["daemon_running"]
    assert [one["id"] for one in found if one["status"] == "unknown"] == ["undetermined"]
    assert [one["id"] for one in found][:2] == ["daemon_running", "undetermined"]
    # A process that was killed ends when it is scheduled the next time.
    lts.ssh("timeout 60 sh -c \"while pgrep -f '[r]oot/hung/ctr'; do sleep 0.1; done\"")
