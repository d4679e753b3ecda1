# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failure, each image is complete or absent, and the next run completes all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.image_module import (
    LOGIN,
    NAMESPACE,
    actions,
    ctr,
    empty_node,
    expected,
    files,
    image,
    in_background,
    names,
    state,
    when_pulling,
)

from nodes import daemon, registry
from nodes.images import random_layers
from nodes.node import Node, ansible
from nodes.payload import run_module
from nodes.registry import Registry

__all__ = ["empty_node"]


@pytest.mark.two_versions
def test_a_refused_image_costs_no_layer(empty_node: Node, source: Registry) -> None:
    """Also the good ones of the same task stay away: a refusal comes before the first change."""
    good, deep = source.push(random_layers(2, seed=50)), source.push(random_layers(501, files=1, size=16, seed=51))
    before = state(empty_node)
    for check in (True, False):
        refused = image(empty_node, good, deep, check=check)
        assert refused["failed"] and deep in refused["msg"] and "501 layers" in refused["msg"], refused
        missing = image(empty_node, good, f"{source.name}/none:1", check=check)
        assert missing["failed"] and "there is no such image" in missing["msg"]
        foreign = image(empty_node, good, platform="linux/s390x", check=check)
        assert foreign["failed"] and "not for linux/s390x" in foreign["msg"]
    assert state(empty_node) == before


# The same mount(2) refuses them whatever the version.
@pytest.mark.parametrize("node", ["bookworm"], indirect=True)
def test_as_many_layers_as_the_ids_of_an_aged_node_leave_room_for(empty_node: Node, source: Registry) -> None:
    """Ids that were given and freed don't show in the directory; the module asks containerd."""
    layers = random_layers(489, files=1, size=16, seed=55)
    fits, deep = source.push(layers[:400]), source.push(layers)
    own = "ctr snapshots mounts / probe | grep -o 'snapshots/[0-9]*' | cut -d/ -f2"
    unpacked = f"ctr images pull --plain-http {deep} >/dev/null && ctr images rm --sync {deep} >/dev/null"
    empty_node.ssh(
        f"while id=$(ctr snapshots prepare probe >/dev/null; {own}; ctr snapshots rm probe); "
        f"test $id -lt 1000; do {unpacked} || exit; done"
    )
    refused = image(empty_node, deep)
    assert refused["failed"] and "mount options of its 489 layers" in refused["msg"], refused
    assert actions(image(empty_node, fits)) == ["pull"]
    mount = f"ctr -n {NAMESPACE} images mount --rw"
    empty_node.ssh(f"mkdir /run/deep; {mount} {fits} /run/deep && ls /run/deep/layer399 && umount /run/deep")
    empty_node.ssh(f"ctr -n {NAMESPACE} snapshots rm /run/deep")
    # What was refused fails indeed.
    ctr(empty_node, "images", "pull", "--plain-http", deep)
    failed = empty_node.ssh(f"{mount} {deep} /run/deep", check=False)
    assert failed.returncode != 0 and ("too long" in failed.stderr or "invalid argument" in failed.stderr), failed
    empty_node.ssh(f"rmdir /run/deep; ctr -n {NAMESPACE} snapshots rm /run/deep", check=False)


@pytest.mark.smoke
@pytest.mark.two_versions
def test_a_layer_that_is_not_what_its_digest_says_leaves_nothing(empty_node: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path) as server:
        good, bad = server.push(random_layers(2, seed=60)), server.push(random_layers(2, seed=61))
        manifest = json.loads((tmp_path / "v1/index.json").read_text())["manifests"][0]["digest"].removeprefix("sha256:")
        layer = json.loads((tmp_path / "v1/blobs/sha256" / manifest).read_text())["layers"][1]["digest"].removeprefix("sha256:")
        blob = tmp_path / "store/docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data"
        intact = blob.read_bytes()
        blob.write_bytes(intact[:-9] + bytes(9))
        done = image(empty_node, good, bad)
        assert done["failed"] and bad in done["msg"] and "the content of a layer doesn't match its digest" in done["msg"], done
        assert [one["durability"] for one in done["images"]] == ["durable", "not_durable"]
        # The other one is there, and whole.
        assert names(empty_node) == {good} and files(empty_node, good) == expected(random_layers(2, seed=60))
        assert state(empty_node)["record"] is None
        blob.write_bytes(intact)
        assert actions(image(empty_node, good, bad)) == ["none", "pull"]
        assert files(empty_node, bad) == expected(random_layers(2, seed=61))


@pytest.mark.two_versions
def test_a_full_disk_is_not_left_full(empty_node: Node, source: Registry) -> None:
    big, small = source.push(random_layers(3, files=4, size=4_000_000, seed=70)), source.push(random_layers(1, seed=71))
    with own_daemon(empty_node, megabytes=64) as options:
        # One after the other: pulled at the same time, either may be the one that finds no room.
        assert actions(image(empty_node, small, **options)) == ["pull"]
        done = image(empty_node, small, big, **options)
        assert done["failed"] and "the disk is full" in done["msg"], done
        address = ("--address", str(options["address"]))
        assert ctr(empty_node, *address, "images", "ls", "-q").split() == [small]
        free = empty_node.ssh("df --output=avail -k /mnt/small | tail -1").stdout
        assert int(free) > 30_000
        assert actions(image(empty_node, small, **options)) == ["none"]
        assert actions(image(empty_node, source.push(random_layers(2, seed=72)), **options)) == ["pull"]


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


def test_containerd_goes_away_in_the_middle(empty_node: Node, source: Registry) -> None:
    layers = random_layers(4, files=20, size=1_000_000, seed=80)
    reference = source.push(layers)
    pid = daemon.main_pid(empty_node)
    with in_background(empty_node, reference) as pull:
        # At once, and for good.
        when_pulling(empty_node, f"kill -KILL {pid}; systemctl stop containerd")
        done = pull()
    assert done["failed"] and "Traceback" not in json.dumps(done), done
    empty_node.ssh("systemctl reset-failed containerd; systemctl start containerd")
    assert reference not in names(empty_node)
    assert actions(image(empty_node, reference)) == ["pull"]
    assert files(empty_node, reference) == expected(layers)
    assert names(empty_node) == {reference} and state(empty_node)["record"] is None
    assert not image(empty_node, reference)["changed"]


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.8])
@pytest.mark.two_versions
def test_a_killed_run_is_finished_by_the_next(empty_node: Node, source: Registry, delay: float) -> None:
    layers = random_layers(4, files=20, size=1_000_000, seed=90)
    reference = source.push(layers)
    with in_background(empty_node, reference) as pull:
        when_pulling(empty_node, f"sleep {delay}; pkill -KILL -f modules.[c]ontainerd_image; true")
        pull()
    if reference in names(empty_node):
        assert files(empty_node, reference) == expected(layers)
    assert not image(empty_node, reference).get("failed")
    assert files(empty_node, reference) == expected(layers)
    assert names(empty_node) == {reference} and state(empty_node)["record"] is None
    assert not image(empty_node, reference)["changed"]


def test_a_missing_or_wrong_password_is_reported_without_it(empty_node: Node, tmp_path: Path) -> None:
    with registry.serve(tmp_path, LOGIN) as server:
        reference = server.push(random_layers(1, seed=101))
        without = image(empty_node, reference)
        assert without["failed"] and "set username and password" in without["msg"]
        wrong = image(empty_node, reference, username=LOGIN[0], password="guessed-it")
        assert wrong["failed"] and "guessed-it" not in json.dumps({**wrong, "invocation": ""})


# Keeps what ctr was started with, and runs it. A look into /proc from time to time would miss commands that end quickly.
NOTING_CTR = """#!/bin/sh
tr '\\0' '\\n' </proc/$$/cmdline >>/run/seen-arguments
tr '\\0' '\\n' </proc/$$/environ >>/run/seen-arguments
exec /root/real-ctr "$@"
"""


@pytest.mark.two_versions
def test_no_one_sees_the_password(empty_node: Node, tmp_path: Path) -> None:
    path = empty_node.program("ctr")
    daemon.write(empty_node, "/root/noting-ctr", NOTING_CTR)
    empty_node.ssh(f"cp {path} /root/real-ctr; chmod 0755 /root/noting-ctr; mount --bind /root/noting-ctr {path}")
    try:
        with registry.serve(tmp_path, LOGIN) as server:
            reference = server.push(random_layers(3, files=8, size=1_000_000, seed=100))
            login = {"username": LOGIN[0], "password": LOGIN[1]}
            arguments = json.dumps({"namespace": NAMESPACE, "plain_http": True, "name": [reference], **login})
            module = ["-m", "slipway.node.containerd_image", "-a", arguments]
            done = ansible("ansible", empty_node.name, "-i", str(empty_node.inventory), *module, "-vvv")
    finally:
        empty_node.ssh(f"umount {path}; rm -f /root/real-ctr /root/noting-ctr")
    assert '"changed": true' in done.stdout
    assert "fetch-object" in empty_node.ssh("cat /run/seen-arguments").stdout
    secret = LOGIN[1]
    for shape in (secret, json.dumps(secret)[1:-1]):
        assert shape not in done.stdout + done.stderr
        daemon.write(empty_node, "/root/secret", shape)
        found = empty_node.ssh(
            "grep -caFf /root/secret /run/seen-arguments; journalctl --no-pager | grep -cFf /root/secret; "
            "cat /var/log/syslog /var/log/messages 2>/dev/null | grep -cFf /root/secret",
            check=False,
        )
        assert found.stdout.split() == ["0", "0", "0"], found
    empty_node.ssh("rm -f /root/secret /run/seen-arguments")


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
        ({"name": ["alpine"], "archive": "/nothing/there.tar", "remote_src": True}, "archive"),
        ({"name": ["alpine"], "archive": "/etc/passwd", "remote_src": True}, "archive"),
        ({"name": ["alpine"], "archive": "images.tar", "remote_src": True}, "archive"),
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
