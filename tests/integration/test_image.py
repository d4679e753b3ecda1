# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come whole or not at all, whatever goes wrong; and a second run is a look."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes import daemon, registry
from nodes.images import Layer, busybox, random_layers, write_layout
from nodes.node import PODMAN, WORK, Node, ansible, run
from nodes.payload import run_module
from nodes.registry import Registry

NAMESPACE = "images"
LOGIN = ("deploy", "p4ss w$rd:'\"\\x")


@pytest.fixture
def clean(node: Node) -> Iterator[Node]:
    """A node as packaged, without images in the namespace; nothing unfinished is left behind either."""
    daemon.install(node)
    daemon.reset(node)
    emptied(node)
    yield node
    emptied(node)


def emptied(node: Node) -> None:
    # What a killed pull has left belongs to its lease for a day.
    for kind in ("leases", "images"):
        node.ssh(f"ctr -n {NAMESPACE} {kind} rm --sync $(ctr -n {NAMESPACE} {kind} ls -q)", check=False)
    node.ssh("rm -f /var/lib/containerd/slipway-pulls.json /root/image.tar")


def image(node: Node, *names: str, check: bool = False, **options: Any) -> dict[str, Any]:
    given = {"name": list(names)} if names else {}
    return run_module(node, "containerd_image", {"namespace": NAMESPACE, "plain_http": True, **given, **options}, check=check)


def ctr(node: Node, *arguments: str) -> str:
    return node.exec("ctr", "-n", NAMESPACE, *arguments).stdout


def names(node: Node) -> set[str]:
    return set(ctr(node, "images", "ls", "-q").split())


def state(node: Node) -> dict[str, Any]:
    """Everything that containerd and the module keep of the namespace's images."""
    return {
        "images": names(node),
        "content": set(ctr(node, "content", "ls", "-q").split()),
        "snapshots": {line.split()[0] for line in ctr(node, "snapshots", "ls").splitlines()[1:]},
        "record": daemon.read(node, "/var/lib/containerd/slipway-pulls.json"),
    }


def files(node: Node, reference: str) -> dict[str, str]:
    """SHA-256 by path of what a container of the image would see."""
    script = f"""
        mkdir -p /run/seen; ctr -n {NAMESPACE} images mount {reference} /run/seen >/dev/null
        cd /run/seen && find . -type f -print0 | xargs -0 -r sha256sum; cd /
        ctr -n {NAMESPACE} images unmount --rm /run/seen >/dev/null; rmdir /run/seen
    """
    rows = [line.split(None, 1) for line in node.ssh(script).stdout.splitlines()]
    return {path.removeprefix("./"): digest for digest, path in rows}


def expected(layers: Sequence[Layer]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for layer in layers for name, content in layer.items()}


def actions(done: dict[str, Any]) -> list[str]:
    assert not done.get("failed"), done
    return [one["action"] for one in done["images"]]


def empty(node: Node, path: str) -> None:
    """What a power cut makes of a file, in the snapshot that was made last of those that have it."""
    snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    node.ssh(f"f=$(ls -d {snapshots}/*/fs/{path} | sort -t/ -k7n | tail -n 1); test -s $f && : > $f")


def push_again(source: Registry, directory: Path, reference: str, layers: Sequence[Layer]) -> None:
    """Move the reference's tag to another image."""
    source.push_layout(write_layout(directory, layers), reference)


def test_a_batch_is_pulled_at_once_and_the_second_run_asks_nobody(clean: Node, tmp_path: Path) -> None:
    layers = [random_layers(3, seed=number) for number in range(4)]
    with registry.serve(tmp_path) as server:
        references = [server.push(one) for one in layers]
        predicted = image(clean, *references, check=True)
        assert actions(predicted) == ["pull"] * 4 and state(clean)["content"] == set()
        done = image(clean, *references)
        assert actions(done) == ["pull"] * 4 and done["changed"]
    same = ("name", "digest", "layers", "chain_id", "size", "bytes", "platform", "durability", "action")
    assert [{key: one[key] for key in same} for one in done["images"]] == [
        {key: one[key] for key in same} for one in predicted["images"]
    ]
    assert done["diff"] == predicted["diff"] and done["bytes"] == sum(one["bytes"] for one in done["images"]) > 0
    assert len(done["synced"]) == 1 and done["summary"]
    assert names(clean) == set(references) and state(clean)["record"] is None
    assert [files(clean, one) for one in references] == list(map(expected, layers))
    # The registry is gone by now.
    again = image(clean, *references)
    assert actions(again) == ["none"] * 4 and not again["changed"] and again["synced"] == []
    refused = image(clean, references[0], pull="always")
    assert refused["failed"] and "the registry can't be reached" in refused["msg"]


def test_a_moved_tag_is_seen_if_asked_for(clean: Node, source: Registry, tmp_path: Path) -> None:
    old, new = random_layers(2, seed=10), random_layers(2, seed=11)
    reference = source.push(old, repository="moving")
    assert actions(image(clean, reference)) == ["pull"]
    push_again(source, tmp_path / "new", reference, new)
    assert actions(image(clean, reference)) == ["none"]
    predicted = image(clean, reference, pull="always", check=True)
    assert actions(predicted) == ["pull"] and files(clean, reference) == expected(old)
    done = image(clean, reference, pull="always")
    assert actions(done) == ["pull"] and done["images"][0]["digest"] == predicted["images"][0]["digest"]
    assert files(clean, reference) == expected(new)
    assert actions(image(clean, reference, pull="always")) == ["none"]


def test_what_another_tool_pulled_is_judged_once(clean: Node, source: Registry) -> None:
    layers = random_layers(3, seed=20)
    reference = source.push(layers)
    ctr(clean, "images", "pull", "--plain-http", reference)
    empty(clean, "layer1/file2")
    done = image(clean, reference)
    assert actions(done) == ["sync"] and done["changed"]
    assert [(one["name"], one["outcome"]) for one in done["recovered"]] == [(reference, "unpacked again")]
    assert "layer1/file2" in done["recovered"][0]["reason"]
    assert files(clean, reference) == expected(layers)
    assert not image(clean, reference)["changed"]


def test_a_layer_is_unpacked_again_that_containerd_refuses_to_remove(clean: Node, source: Registry) -> None:
    """It takes a layer for the parent of one that its garbage collection removed."""
    layers = random_layers(3, seed=25)
    reference, other = source.push(layers[:2]), source.push([layers[0], layers[2]])
    for one in (reference, other):
        ctr(clean, "images", "pull", "--plain-http", one)
    ctr(clean, "images", "rm", "--sync", other)
    empty(clean, "layer0/file1")
    done = image(clean, reference)
    assert actions(done) == ["sync"] and [one["outcome"] for one in done["recovered"]] == ["unpacked again"]
    assert files(clean, reference) == expected(layers[:2])
    assert actions(image(clean, other)) == ["pull"]
    assert files(clean, other) == expected([layers[0], layers[2]])


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "oci-archive.gz"])
def test_an_archive_is_as_good_as_a_registry(clean: Node, tmp_path: Path, kind: str) -> None:
    layers = random_layers(3, seed=30)
    layout = write_layout(tmp_path / "layout", layers, tag="1")
    name = "registry.example/carried:1"
    where = f"{kind.removesuffix('.gz')}:{tmp_path}/image.tar:{name}"
    run(["skopeo", "copy", "--quiet", f"oci:{layout}:1", where])
    packed = tmp_path / "image.tar"
    if kind.endswith(".gz"):
        packed.write_bytes(gzip.compress(packed.read_bytes(), 1))
    run([*PODMAN, "cp", str(packed), f"{clean.container}:/root/image.tar"])
    predicted = image(clean, archive="/root/image.tar", check=True)
    assert actions(predicted) == ["import"] and names(clean) == set()
    done = image(clean, archive="/root/image.tar")
    assert actions(done) == ["import"] and done["images"][0]["name"] == name and names(clean) == {name}
    assert files(clean, name) == expected(layers)
    for pull in ("missing", "always"):
        assert actions(image(clean, archive="/root/image.tar", pull=pull)) == ["none"]
    assert actions(image(clean, "registry.example/other:2", archive="/root/image.tar")) == ["import"]
    assert names(clean) == {name, "registry.example/other:2"}
    wrong = image(clean, "a:1", "b:1", archive="/root/image.tar")
    assert wrong["failed"] and f"it has {name}" in wrong["msg"]


def test_the_other_snapshotter_needs_no_registry(clean: Node, tmp_path: Path) -> None:
    layers = random_layers(3, seed=40)
    with registry.serve(tmp_path) as server:
        reference = server.push(layers)
        assert actions(image(clean, reference)) == ["pull"]
    assert actions(image(clean, reference, snapshotter="native", check=True)) == ["unpack"]
    assert actions(image(clean, reference, snapshotter="native")) == ["unpack"]
    assert actions(image(clean, reference, snapshotter="native")) == ["none"]
    assert len(ctr(clean, "snapshots", "--snapshotter", "native", "ls").splitlines()) == 1 + len(layers)


def test_a_refused_image_costs_no_layer(clean: Node, source: Registry) -> None:
    """Also the good ones of the same task stay away: a refusal comes before the first change."""
    good, deep = source.push(random_layers(2, seed=50)), source.push(random_layers(501, files=1, size=16, seed=51))
    before = state(clean)
    for check in (True, False):
        refused = image(clean, good, deep, check=check)
        assert refused["failed"] and deep in refused["msg"] and "501 layers" in refused["msg"], refused
        missing = image(clean, good, f"{source.name}/none:1", check=check)
        assert missing["failed"] and "there is no such image" in missing["msg"]
        foreign = image(clean, good, platform="linux/s390x", check=check)
        assert foreign["failed"] and "not for linux/s390x" in foreign["msg"]
    assert state(clean) == before


# Giving ids takes a while, and the same mount(2) refuses them whatever the version.
@pytest.mark.parametrize("node", ["bookworm"], indirect=True)
def test_as_many_layers_as_the_ids_of_an_aged_node_leave_room_for(clean: Node, source: Registry) -> None:
    """Ids that were given and freed don't show in the directory; the module asks containerd."""
    own = "ctr snapshots mounts / probe | grep -o 'snapshots/[0-9]*' | cut -d/ -f2"
    clean.ssh(f"while id=$(ctr snapshots prepare probe >/dev/null; {own}; ctr snapshots rm probe); test $id -lt 1000; do :; done")
    layers = random_layers(489, files=1, size=16, seed=55)
    fits, deep = source.push(layers[:400]), source.push(layers)
    refused = image(clean, deep)
    assert refused["failed"] and "mount options of its 489 layers" in refused["msg"], refused
    assert actions(image(clean, fits)) == ["pull"]
    mount = f"ctr -n {NAMESPACE} images mount --rw"
    clean.ssh(f"mkdir /run/deep; {mount} {fits} /run/deep && ls /run/deep/layer399 && umount /run/deep")
    clean.ssh(f"ctr -n {NAMESPACE} snapshots rm /run/deep")
    # What was refused fails indeed.
    ctr(clean, "images", "pull", "--plain-http", deep)
    failed = clean.ssh(f"{mount} {deep} /run/deep", check=False)
    assert failed.returncode != 0 and ("too long" in failed.stderr or "invalid argument" in failed.stderr), failed
    clean.ssh(f"rmdir /run/deep; ctr -n {NAMESPACE} snapshots rm /run/deep", check=False)


def test_a_layer_that_is_not_what_its_digest_says_leaves_nothing(clean: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path) as server:
        good, bad = server.push(random_layers(2, seed=60)), server.push(random_layers(2, seed=61))
        manifest = json.loads((tmp_path / "v1/index.json").read_text())["manifests"][0]["digest"].removeprefix("sha256:")
        layer = json.loads((tmp_path / "v1/blobs/sha256" / manifest).read_text())["layers"][1]["digest"].removeprefix("sha256:")
        blob = tmp_path / "store/docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data"
        intact = blob.read_bytes()
        blob.write_bytes(intact[:-9] + bytes(9))
        done = image(clean, good, bad)
        assert done["failed"] and bad in done["msg"] and "a layer isn't what its digest says" in done["msg"], done
        # The other one is there, and whole.
        assert names(clean) == {good} and files(clean, good) == expected(random_layers(2, seed=60))
        assert state(clean)["record"] is None
        blob.write_bytes(intact)
        assert actions(image(clean, good, bad)) == ["none", "pull"]
        assert files(clean, bad) == expected(random_layers(2, seed=61))


def test_a_full_disk_is_not_left_full(clean: Node, source: Registry) -> None:
    big, small = source.push(random_layers(3, files=4, size=4_000_000, seed=70)), source.push(random_layers(1, seed=71))
    with own_daemon(clean, megabytes=64) as options:
        done = image(clean, small, big, **options)
        assert done["failed"] and "the disk is full" in done["msg"], done
        address = ("--address", str(options["address"]))
        assert ctr(clean, *address, "images", "ls", "-q").split() == [small]
        free = clean.ssh("df --output=avail -k /mnt/small | tail -1").stdout
        assert int(free) > 30_000
        assert actions(image(clean, small, **options)) == ["none"]
        assert actions(image(clean, source.push(random_layers(2, seed=72)), **options)) == ["pull"]


@contextmanager
def own_daemon(node: Node, megabytes: int) -> Iterator[dict[str, Any]]:
    """A containerd of its own on a small ext4, and the module's options for it."""
    config = (
        'version = 2\nroot = "/mnt/small/root"\nstate = "/run/small"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        '[grpc]\naddress = "/run/small/containerd.sock"\n[ttrpc]\naddress = "/run/small/ttrpc.sock"'
    )
    daemon.write(node, "/root/small.toml", config)
    node.ssh(
        f"truncate -s {megabytes}M /var/tmp/small.img && mkfs.ext4 -q /var/tmp/small.img && mkdir -p /mnt/small && "
        "mount -o loop /var/tmp/small.img /mnt/small && "
        "systemd-run --quiet --unit small-containerd containerd -c /root/small.toml && "
        "until ctr --address /run/small/containerd.sock plugins ls >/dev/null 2>&1; do sleep 0.2; done"
    )
    try:
        yield {"address": "/run/small/containerd.sock", "config_file": "/root/small.toml"}
    finally:
        node.ssh(
            "systemctl stop small-containerd; umount /mnt/small; rm -rf /var/tmp/small.img /root/small.toml /run/small",
            check=False,
        )


def test_containerd_goes_away_in_the_middle(clean: Node, source: Registry) -> None:
    layers = random_layers(4, files=20, size=1_000_000, seed=80)
    reference = source.push(layers)
    with in_background(clean, reference) as pull:
        when_pulling(clean, "systemctl kill --signal=KILL containerd; systemctl stop containerd")  # for good
        done = pull()
    assert done["failed"] and "Traceback" not in json.dumps(done), done
    clean.ssh("systemctl reset-failed containerd; systemctl start containerd")
    assert reference not in names(clean)
    assert actions(image(clean, reference)) == ["pull"]
    assert files(clean, reference) == expected(layers)
    assert names(clean) == {reference} and state(clean)["record"] is None
    assert not image(clean, reference)["changed"]


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.8])
def test_a_killed_run_is_finished_by_the_next(clean: Node, source: Registry, delay: float) -> None:
    layers = random_layers(4, files=20, size=1_000_000, seed=90)
    reference = source.push(layers)
    with in_background(clean, reference) as pull:
        when_pulling(clean, f"sleep {delay}; pkill -KILL -f modules.[c]ontainerd_image; true")
        pull()
    if reference in names(clean):
        assert files(clean, reference) == expected(layers)
    assert not image(clean, reference).get("failed")
    assert files(clean, reference) == expected(layers)
    assert names(clean) == {reference} and state(clean)["record"] is None
    assert not image(clean, reference)["changed"]


@contextmanager
def in_background(node: Node, reference: str, **options: Any) -> Iterator[Any]:
    """Start the module; yields a function that waits for its result."""
    arguments = {"namespace": NAMESPACE, "plain_http": True, "name": [reference], **options}
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_module, node, "containerd_image", arguments).result


def when_pulling(node: Node, command: str) -> None:
    """Run a command as soon as the record says that a pull is under way."""
    pulling = "test -e /var/lib/containerd/slipway-pulls.json"
    node.ssh(f"for i in $(seq 600); do {pulling} && {{ {command}; exit; }}; sleep 0.02; done; exit 1")


def test_no_one_sees_the_password(clean: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path, LOGIN) as server:
        reference = server.push(random_layers(3, files=8, size=1_000_000, seed=100))
        options = {"username": LOGIN[0], "password": LOGIN[1]}
        without = image(clean, reference)
        assert without["failed"] and "set username and password" in without["msg"]
        wrong = image(clean, reference, username=LOGIN[0], password="guessed-it")
        assert wrong["failed"] and "guessed-it" not in json.dumps({**wrong, "invocation": ""})
        look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
        seen = f"while :; do {look}; done > /run/seen-arguments"
        watcher = subprocess.Popen(
            ["ssh", "-F", str(WORK / "nodes" / clean.name / "ssh_config"), clean.name, f"echo $$; {seen}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        watcher.stdout.readline()
        try:
            arguments = json.dumps({"namespace": NAMESPACE, "plain_http": True, "name": [reference], **options})
            argv = [
                "ansible",
                clean.name,
                "-i",
                str(clean.inventory),
                "-m",
                "slipway.node.containerd_image",
                "-a",
                f"@{tmp_path}/a",
            ]
            (tmp_path / "a").write_text(arguments)
            argv[-1] = arguments
            done = ansible(*argv, "-vvv")
        finally:
            clean.ssh("pkill -f [s]een-arguments", check=False)
            watcher.terminate()
            watcher.wait()
        assert '"changed": true' in done.stdout
        secret = LOGIN[1]
        for shape in (secret, json.dumps(secret)[1:-1]):
            assert shape not in done.stdout + done.stderr
            daemon.write(clean, "/root/secret", shape)
            found = clean.ssh(
                "grep -qa content.fetch-object /run/seen-arguments || grep -qa fetch-object /run/seen-arguments || exit; "
                "grep -caFf /root/secret /run/seen-arguments; journalctl --no-pager | grep -cFf /root/secret; "
                "cat /var/log/syslog /var/log/messages 2>/dev/null | grep -cFf /root/secret",
                check=False,
            )
            assert found.stdout.split() == ["0", "0", "0"], found
        clean.ssh("rm -f /root/secret /run/seen-arguments")


def test_absent_takes_only_what_is_named(clean: Node, source: Registry) -> None:
    before = state(clean)
    layers = [busybox(), *random_layers(2, seed=110)]
    reference = source.push(layers, command=["/bin/busybox", "sleep", "1000"])
    other = source.push(random_layers(1, seed=111))
    image(clean, reference, other)
    ctr(clean, "images", "tag", reference, "registry.example/kept:1")
    predicted = image(clean, reference, "registry.example/none:1", state="absent", check=True)
    assert actions(predicted) == ["remove", "none"] and predicted["changed"] and len(names(clean)) == 3
    removed = image(clean, reference, "registry.example/none:1", state="absent")
    assert removed["diff"] == predicted["diff"]
    assert removed["images"][0]["used_by"] == ["registry.example/kept:1"]
    assert names(clean) == {other, "registry.example/kept:1"}
    assert files(clean, "registry.example/kept:1") == expected(layers)
    assert not image(clean, reference, state="absent")["changed"]
    shares = ["--cpu-shares", "0"] if clean.suite == "sid" else []
    clean.exec(
        "ctr", "-n", NAMESPACE, "run", "--detach", *shares, "registry.example/kept:1", "held", "/bin/busybox", "sleep", "1000"
    )
    try:
        last = image(clean, "registry.example/kept:1", state="absent")
        assert last["images"][0]["used_by"] == ["container held"]
        assert "RUNNING" in ctr(clean, "tasks", "ls")
    finally:
        clean.ssh(f"ctr -n {NAMESPACE} tasks kill -s KILL held; sleep 1; ctr -n {NAMESPACE} containers rm held", check=False)
    image(clean, other, state="absent")
    assert state(clean) == before


def test_in_the_kubelets_namespace_the_space_comes_back(clean: Node, source: Registry) -> None:
    """CRI names each image by its id as well; nobody would ever remove that name."""
    node_options: dict[str, Any] = {"plain_http": True, "namespace": "k8s.io"}
    reference = source.push(random_layers(2, seed=120))
    done = run_module(clean, "containerd_image", {"name": [reference], **node_options})
    assert actions(done) == ["pull"]
    deadline = time.monotonic() + 10
    while len(clean.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    gone = run_module(clean, "containerd_image", {"name": [reference], "state": "absent", **node_options})
    assert gone["changed"] and gone["images"][0]["used_by"] == []
    assert clean.exec("ctr", "-n", "k8s.io", "images", "ls", "-q").stdout.split() == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": ["UPPER"]}, "name:"),
        ({"name": ["-x"]}, "name:"),
        ({"name": ["a b"]}, "name:"),
        ({"name": [""]}, "name"),
        ({"name": ["x:slipway-staged@sha256:" + "0" * 64]}, "name:"),
        ({"name": ["alpine"], "platform": "arm64"}, "platform"),
        ({"name": ["alpine"], "username": "me"}, "username and password"),
        ({"name": ["alpine"], "username": "me", "password": "a\nb"}, "password"),
        ({"name": ["alpine"], "parallel": 0}, "parallel"),
        ({"name": ["alpine"], "hosts_dir": "certs.d"}, "hosts_dir"),
        ({"name": ["alpine"], "namespace": "-n"}, "namespace"),
        ({"name": ["alpine"], "archive": "/nothing/there.tar"}, "archive"),
        ({"name": ["alpine"], "archive": "/etc/passwd"}, "archive"),
        ({"archive": "/etc/passwd", "state": "absent"}, "archive"),
        ({}, "name"),
        ({"name": ["alpine"], "address": "/run/none.sock"}, "/run/none.sock"),
        ({"name": ["alpine"], "snapshotter": "nosuch"}, "nosuch"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(bookworm: Node, options: dict[str, Any], complaint: str) -> None:
    refused = run_module(bookworm, "containerd_image", options)
    assert refused["failed"] and complaint in refused["msg"], refused
    assert "Traceback" not in refused["msg"] and "\n" not in refused["msg"]
