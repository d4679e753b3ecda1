# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reported durability of pulls agrees with the system calls of the running daemon."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from integration.image_module import expected

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from nodes import cri, daemon, registry
from nodes.fixtures import SUITES
from nodes.images import busybox, random_layers
from nodes.node import WORK, Node
from nodes.registry import Registry

LAYERS = 4
CERTS = "/etc/containerd/certs.d"
TRACE = "/root/trace"
# What strace says: first that it traces every thread of the daemon.
ATTACHED = "/root/trace-attached"


@contextmanager
def traced(node: Node) -> Iterator[Callable[[], dict[str, int]]]:
    """Yields a function that says, after the block, how often the daemon called syncfs(2) and renameat(2) in it.

    ``metadata`` is how often it flushed the database of its metadata.
    """
    script = f"echo $$; exec strace -f -y -e trace=syncfs,renameat,fdatasync -o {TRACE} -p {daemon.main_pid(node)} 2>{ATTACHED}"
    node.exec("rm", "-f", ATTACHED)
    argv = ["ssh", "-F", str(WORK / "nodes" / node.name / "ssh_config"), node.name, script]
    tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert tracer.stdout is not None
    pid = tracer.stdout.readline().strip()
    calls: dict[str, int] = {}
    try:
        node.ssh(f"set -e; until grep -qs ' attached' {ATTACHED}; do kill -0 {pid}; sleep 0.1; done")
        yield lambda: calls
    finally:
        node.ssh(f"kill -INT {pid}", check=False)
        tracer.wait(timeout=120)
    text = node.exec("cat", TRACE).stdout
    # A call that another thread interrupts has a second line, which names it without a parenthesis.
    calls.update({name: len(re.findall(rf"\b{name}\(", text)) for name in ("syncfs", "renameat")})
    calls["metadata"] = len(re.findall(r"\bfdatasync\([^)]*meta\.db", text))


def pulled_by(node: Node, path: str, reference: str) -> None:
    """Pull on one of the paths that the module knows."""
    if path == "cri":
        cri.pull(node, reference)
        return
    # 1.6 has no other way than the local one, and no flag for it.
    local = {"ctr": "--local", "transfer": "--local=false"}[path] if node.suite != "bookworm" else ""
    node.ssh(f"ctr images pull {local} --hosts-dir {CERTS} {reference}")


def counted(node: Node, path: str, reference: str, layers: int = LAYERS) -> dict[str, int]:
    """The calls that a pull makes in the daemon."""
    with traced(node) as calls:
        pulled_by(node, path, reference)
    # The daemon renames each blob that it has fetched: without these calls, nothing was traced.
    assert calls()["renameat"] >= layers, calls()
    return calls()


def syncs(node: Node, path: str, reference: str) -> int:
    """How many syncfs(2) calls a pull makes in the daemon."""
    return counted(node, path, reference)["syncfs"]


def configured(node: Node, *sources: Registry, **options: Any) -> dict[str, Any]:
    """The module's result on a node that pulls from the registries."""
    daemon.install(node)
    daemon.reset(node)
    done = node.module("containerd_registry", {"registries": [one.entry for one in sources], "config_path": CERTS})
    assert not done.get("failed"), done
    done = node.module("containerd_config", {"settings": {"registry_config_path": CERTS, **options}})
    assert not done.get("failed"), done
    return done


CASES: list[tuple[str, bool, dict[str, str]]] = [
    ("bookworm", False, {"cri": "not_durable", "ctr": "not_durable"}),
    ("trixie", False, {"cri": "not_durable", "ctr": "not_durable", "transfer": "not_durable"}),
    ("trixie", True, {"cri": "durable", "ctr": "not_durable", "transfer": "not_durable"}),
    *(
        case
        for suite in SUITES[2:]
        for case in (
            (suite, False, {"cri": "not_durable", "ctr": "not_durable", "transfer": "not_durable"}),
            (suite, True, {"cri": "durable", "ctr": "durable", "transfer": "not_durable"}),
        )
    ),
]


@pytest.mark.parametrize(("suite", "setting", "expected"), CASES, ids=[f"{suite}-{setting}" for suite, setting, _ in CASES])
def test_the_verdict_is_what_the_daemon_does(
    nodes: dict[str, Node], source: Registry, suite: str, setting: bool, expected: dict[str, str]
) -> None:
    node = nodes[suite]
    done = configured(node, source, image_pull_sync_fs=setting)
    assert {path: verdict["durability"] for path, verdict in done["durability"].items()} == expected
    # On 1.7 the transfer service can't be told that a registry speaks plain HTTP.
    paths = [path for path in expected if (suite, path) != ("trixie", "transfer")]
    references = {path: source.push(random_layers(LAYERS)) for path in paths}
    calls = {path: syncs(node, path, reference) for path, reference in references.items()}
    measured = {path: "durable" if count >= LAYERS else "not_durable" if count == 0 else count for path, count in calls.items()}
    assert measured == {path: expected[path] for path in paths}, calls
    cri.remove(node, references["cri"])
    node.exec("ctr", "images", "rm", "--sync", *(reference for path, reference in references.items() if path != "cri"))


def test_1_6_is_not_durable_whatever_is_asked(bookworm: Node, source: Registry) -> None:
    configured(bookworm, source)
    refused = bookworm.module("containerd_config", {"settings": {"registry_config_path": CERTS, "image_pull_sync_fs": True}})
    assert refused["failed"]
    assert "1.7.14" in refused["msg"]
    assert syncs(bookworm, "cri", source.push(random_layers(LAYERS))) == 0


# Keys of CRI's images plugin (dotted), and whether CRI then pulls by itself: through the diff service, whose sync_fs is on.
SWITCHES: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"max_concurrent_downloads": 3, "disable_snapshot_annotations": True}, False),
    ({"use_local_image_pull": True}, True),
    ({"disable_snapshot_annotations": False}, True),
    ({"discard_unpacked_layers": True}, True),
    ({"registry.mirrors": {"other.example": {"endpoint": ["http://127.0.0.1:1"]}}}, True),
    ({"registry.configs": {"other.example": {"auth": {"username": "me", "password": "secret"}}}}, True),
    ({"registry.auths": {"http://other.example": {"username": "me", "password": "secret"}}}, True),
    ({"max_concurrent_downloads": 7}, True),
]


def pulled_with(
    node: Node, source: Registry, images: dict[str, Any], *, sync: bool = True, no_sync: bool = False
) -> tuple[str, dict[str, int]]:
    """The verdict on CRI's pulls with these keys, and the calls of a pull of two layers."""
    registry: dict[str, Any] = {"config_path": CERTS}
    if "registry.mirrors" in images:
        registry = {"mirrors": {source.name: {"endpoint": [f"http://{source.name}"]}, **images["registry.mirrors"]}}
    table = {key: value for key, value in images.items() if "." not in key}
    registry |= {key.partition(".")[2]: value for key, value in images.items() if "." in key and key != "registry.mirrors"}
    tables = {
        daemon.IMAGES: {**table, "registry": registry},
        "io.containerd.service.v1.diff-service": {"sync_fs": sync},
        "io.containerd.metadata.v1.bolt": {"no_sync": no_sync},
    }
    daemon.write(node, daemon.ROOT, tomlkit.dumps({"version": 3, "plugins": tables}))
    daemon.restart(node)
    version = Version.parse(node.exec("containerd", "--version").stdout)
    verdict = EffectiveConfig(daemon.dump(node)).pull_durability(version)["cri"]["durability"]
    reference = source.push(random_layers(2))
    calls = counted(node, "cri", reference, layers=2)
    cri.remove(node, reference)
    return verdict, calls


@pytest.mark.parametrize("suite", SUITES[2:])
def test_the_verdict_knows_every_setting_that_makes_cri_pull_by_itself(
    nodes: dict[str, Node], source: Registry, suite: str
) -> None:
    node = nodes[suite]
    configured(node, source)
    for images, by_itself in SWITCHES:
        verdict, calls = pulled_with(node, source, images)
        assert (verdict, calls["syncfs"]) == (("durable", 2) if by_itself else ("not_durable", 0)), (images, calls)
        assert calls["metadata"] > 0, (images, calls)
    verdict, calls = pulled_with(node, source, {"max_concurrent_downloads": 7}, sync=False)
    assert (verdict, calls["syncfs"]) == ("not_durable", 0), calls
    verdict, calls = pulled_with(node, source, {"image_pull_with_sync_fs": True}, no_sync=True)
    # The layers are flushed, and the metadata without which they are nothing isn't.
    assert (verdict, calls["syncfs"], calls["metadata"]) == ("not_durable", 2, 0), calls


@pytest.mark.parametrize("release", registry.PROGRAMS)
def test_cri_pulls_from_a_registry_of_every_release_of_distribution(node: Node, tmp_path: Path, release: str) -> None:
    with registry.serve(tmp_path, release=release) as server:
        reference = server.push(random_layers(LAYERS))
        configured(node, server)
        cri.pull(node, reference)
        status = cri.image_status(node, reference)
        assert status["repoTags"] == [reference] and status["id"] in server.blobs(reference)
    cri.remove(node, reference)


# sid's systemd mounts cgroup v2, where a node has no cpu controller, and CRI gives every sandbox CPU shares.
@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite != "sid"])
def test_a_pod_runs_images_that_cri_pulled(nodes: dict[str, Node], source: Registry, suite: str) -> None:
    """crictl pulls the container's image, as a kubelet does, and containerd the sandbox's."""
    node = nodes[suite]
    layers = random_layers(LAYERS)
    image = source.push([busybox(), *layers])
    pause = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    # Nodes lack CAP_SYS_RESOURCE, which a lower oom_score_adj needs.
    plugin = daemon.RUNTIME if node.line >= (2,) else daemon.CRI
    extra = {"plugins": {plugin: {"restrict_oom_score_adj": True}}}
    configured(node, source, sandbox_image=pause, image_pull_sync_fs=node.line >= (1, 7), extra_config=extra)
    cri.pull(node, image)
    hashes = cri.printed_by(node, image, ["/bin/busybox", "sha256sum", *expected(layers)])
    assert {path: digest for digest, path in map(str.split, hashes.splitlines())} == expected(layers)
    for reference in (image, pause):
        cri.remove(node, reference)
