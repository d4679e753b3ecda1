# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images planned and provisioned. There is a stand-in for ctr with a daemon and a registry in a file; the real ones are met
in the integration tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.verify.host.test_node_state import Programs

from ansible_collections.slipway.node.plugins.module_utils.containerd.host.client import Containerd
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.images.host.intent import read_pulls, write_pulls
from ansible_collections.slipway.node.plugins.module_utils.images.host.planner import ImagePlanner
from ansible_collections.slipway.node.plugins.module_utils.images.host.provision import ImageProvisioner
from ansible_collections.slipway.node.plugins.module_utils.images.host.steps import ImagePlan, Outcome
from ansible_collections.slipway.node.plugins.module_utils.images.host.target import ImageTarget
from ansible_collections.slipway.node.plugins.module_utils.images.intent import Pull
from ansible_collections.slipway.node.plugins.module_utils.images.plan import Request

AMD64 = "linux/amd64"
MANIFEST, CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAMES = ("r.example/one:1", "r.example/two:1")
OPTIONS: dict[str, Any] = {
    "all": False,
    "state": "present",
    "pull": "missing",
    "archive": None,
    "platform": AMD64,
    "snapshotter": None,
    "namespace": "default",
    "hosts_dir": None,
    "plain_http": False,
    "username": None,
    "password": None,
    "parallel": 2,
    "durable": True,
    "integrity": "none",
    "repair": False,
    "timeout": 60,
}
CTR = """#!{python}
import fcntl, json, os, sys
directory = {directory!r}
lock = open(directory + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
with open(directory + "/state.json") as stream:
    state = json.load(stream)
words = sys.argv[1:]
with open(directory + "/calls", "a") as stream:
    stream.write(" ".join(words) + "\\n")
while words and words[0] in ("--address", "--namespace"):
    del words[:2]
group, verb, last = words[0], words[1], words[-1]

def fail(text):
    sys.exit("ctr: " + text)

if group == "plugins":
    plugin = last.partition("==")[2]
    kind = "content" if plugin == "content" else "snapshotter"
    print("Exports:\\n               root      {directory}/io.containerd." + kind + ".v1." + plugin)
elif words[:2] == ["images", "ls"]:
    print("REF TYPE DIGEST SIZE PLATFORMS LABELS")
    for name, digest in state["images"].items():
        print(name, {manifest!r}, digest, "1 B linux/amd64", ",".join(state["labels"].get(name, ["-"])))
elif words[:2] == ["content", "ls"]:
    print("\\n".join(state["blobs"]))
elif group == "snapshots":
    print("KEY".ljust(80) + "PARENT".ljust(80) + "KIND")
    for chain in state["snapshots"]:
        print(chain.ljust(160) + "Committed")
elif words[:2] == ["content", "get"]:
    sys.stdout.write(state["documents"][last])
elif words[:2] == ["content", "fetch-object"]:
    digest = state["registry"].get(last, last.partition("@")[2])
    sys.stdout.write(state["documents"].get(digest) or fail("not found"))
elif words[:2] == ["images", "pull"]:
    digest = last.partition("@")[2]
    if digest in state["broken"]:
        fail("unexpected EOF")
    state["images"][last] = digest
    state["blobs"] += state["parts"][digest]["blobs"]
    state["snapshots"] += state["parts"][digest]["chain"]
elif words[:2] == ["images", "tag"]:
    state["images"][last] = state["images"][words[-2]]
elif words[:2] == ["images", "rm"]:
    for name in words[2:]:
        state["images"].pop(name, None)
elif words[:2] == ["images", "label"]:
    state["labels"].setdefault(words[2], []).append(last)
elif group != "leases":
    fail("what is " + " ".join(words))
with open(directory + "/state.json", "w") as stream:
    json.dump(state, stream)
"""
PROGRAM = """#!/bin/sh
for word; do :; done
cat {directory}/${{word#--}}
"""


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Node:
    """A node whose registry has two images and whose content store has none."""

    def __init__(self, directory: Path, recorded: Callable[[str, str], str]) -> None:
        self._file = directory / "state.json"
        self.directory = directory
        self.state: dict[str, Any] = {key: {} for key in ("images", "labels", "documents", "registry", "parts")}
        self.state.update({"blobs": [], "snapshots": [], "broken": []})
        self.images = {name: self._publish(name) for name in NAMES}
        self.save()
        (directory / "io.containerd.snapshotter.v1.overlayfs" / "snapshots").mkdir(parents=True)
        (directory / "io.containerd.content.v1.content").mkdir()
        (directory / "version").write_text(recorded("1.7.24", "version.txt"))
        (directory / "default").write_text(recorded("1.7.24", "default.toml"))
        self._program("ctr", CTR.format(python=sys.executable, directory=str(directory), manifest=MANIFEST))
        self._program("containerd", PROGRAM.format(directory=directory))
        self.lock = os.open(directory / "held", os.O_CREAT | os.O_RDWR)

    def _program(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o755)

    def _publish(self, name: str) -> str:
        layer = digest(f"the layer of {name}")
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer]}})
        described = {"mediaType": CONFIG, "digest": digest(config), "size": len(config)}
        layers = [{"mediaType": LAYER, "digest": layer, "size": 1000}]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers})
        self.state["documents"].update({digest(config): config, digest(manifest): manifest})
        self.state["registry"][name] = digest(manifest)
        self.state["parts"][digest(manifest)] = {"blobs": [digest(manifest), digest(config), layer], "chain": [layer]}
        return digest(manifest)

    def save(self, **changes: Any) -> None:
        self.state.update(changes)
        self._file.write_text(json.dumps(self.state))

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found

    def calls(self) -> str:
        return (self.directory / "calls").read_text()

    def target(self, **options: Any) -> ImageTarget:
        containerd = Containerd(
            Runner(Programs()),
            config_file=str(self.directory / "none.toml"),
            unit="slipway-none.service",
            address=str(self.directory / "containerd.sock"),
            binary=str(self.directory / "containerd"),
        )
        return ImageTarget(containerd, Request.from_params({**OPTIONS, "name": list(NAMES), **options}, AMD64))

    def plan(self, *, watch: bool = False, **options: Any) -> ImagePlan:
        return ImagePlanner(self.target(**options), watch=watch).plan()

    def bring(self, **options: Any) -> Outcome:
        plan = self.plan(**options)
        return ImageProvisioner(plan.current.target, self.lock).bring(plan)


@pytest.fixture
def node(tmp_path: Path, recorded: Callable[[str, str], str]) -> Node:
    return Node(tmp_path, recorded)


def test_a_plan_changes_nothing(node: Node) -> None:
    plan = node.plan(watch=True)
    assert plan.changed and [(str(step.name), step.action, step.digest) for step in plan.steps] == [
        (name, "pull", node.images[name]) for name in NAMES
    ]
    assert node.now() == node.state
    assert read_pulls(str(node.directory)) == ()


def test_images_are_pulled_named_and_marked_as_synced(node: Node) -> None:
    outcome = node.bring()
    assert outcome.failures == {} and outcome.digests == node.images
    assert [one.path for one in outcome.synced] and outcome.seconds.keys() == set(NAMES)
    assert node.now()["images"] == node.images
    assert node.now()["labels"] == {name: [f"slipway.node/synced.overlayfs={node.images[name]}"] for name in NAMES}
    assert read_pulls(str(node.directory)) == ()
    again = node.plan()
    assert not again.changed and [step.action for step in again.steps] == ["none", "none"]


def test_what_fails_does_not_keep_the_rest_from_being_named(node: Node) -> None:
    node.save(broken=[node.images[NAMES[1]]])
    outcome = node.bring()
    assert list(outcome.failures) == [NAMES[1]] and "unexpected EOF" in outcome.failures[NAMES[1]]
    assert outcome.digests == {NAMES[0]: node.images[NAMES[0]]}
    assert node.now()["images"] == {NAMES[0]: node.images[NAMES[0]]}
    assert read_pulls(str(node.directory)) == ()


def test_an_image_that_is_there_is_only_synced(node: Node) -> None:
    one, parts = NAMES[0], node.state["parts"][node.images[NAMES[0]]]
    node.save(images={one: node.images[one]}, blobs=parts["blobs"], snapshots=parts["chain"])
    plan = node.plan(name=[one], durable=False)
    assert [step.action for step in plan.steps] == ["none"]
    (step,) = node.plan(name=[one]).steps
    assert (step.action, step.missing, step.image.layers) == ("sync", 0, 1)


def test_a_run_that_was_cut_short_in_this_boot_is_finished_without_being_judged(node: Node) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    theirs = Pull(boot, "k8s.io", "overlayfs", (), ())
    assert node.bring().failures == {}
    write_pulls(str(node.directory), [theirs, Pull(boot, "default", "overlayfs", NAMES, ())])
    plan = node.plan()
    assert plan.unfinished and plan.changed and {step.action for step in plan.steps} == {"none"}
    provisioner = ImageProvisioner(plan.current.target, node.lock)
    assert provisioner.recover() is None
    assert [one.path for one in provisioner.apply(plan).synced]
    assert read_pulls(str(node.directory)) == (theirs,)


def test_after_a_power_cut_it_is_recovered_first_and_planned_again(node: Node) -> None:
    assert node.bring().failures == {}
    there = node.now()
    pull = Pull("another boot", "default", "overlayfs", NAMES, tuple(there["snapshots"]), tuple(there["blobs"]))
    write_pulls(str(node.directory), [pull])
    node.save(**{**there, "labels": {}})
    plan = node.plan()
    assert {step.action for step in plan.steps} == {"sync"}
    node.save(**there)
    # The steps of the first plan would have every file compared, which takes a real daemon.
    outcome = ImageProvisioner(plan.current.target, node.lock).bring(plan)
    assert outcome.failures == {} and outcome.digests == node.images
    assert read_pulls(str(node.directory)) == ()


def test_names_that_no_registry_has_are_said_at_once(node: Node) -> None:
    with pytest.raises(HostError, match=r"r\.example/no:1: .*; r\.example/nor:1: "):
        node.plan(name=["r.example/no:1", NAMES[0], "r.example/nor:1"])
    assert node.now() == node.state


def test_an_image_for_another_platform_is_refused(node: Node) -> None:
    with pytest.raises(ValueError, match="the image is not for linux/riscv64: it is for linux/amd64"):
        node.plan(platform="linux/riscv64")


def test_outcomes_add_up() -> None:
    first = Outcome(seconds={"a": 1.0}, failures={"a": "no"})
    both = first.plus(Outcome(seconds={"b": 2.0}, failures={"a": "still no"}))
    assert both == Outcome(seconds={"a": 1.0, "b": 2.0}, failures={"a": "still no"})
    assert first == Outcome(seconds={"a": 1.0}, failures={"a": "no"})
