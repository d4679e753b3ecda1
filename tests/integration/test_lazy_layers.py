# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real proxy snapshotter, soci-snapshotter: it mounts the layers of an image, and loads their files as they are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes import cri, daemon, registry
from nodes.fixtures import packaged
from nodes.images import busybox, random_layers
from nodes.node import Node
from nodes.payload import run_module
from nodes.registry import Registry

SOCKET = "/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"
TRUST = "/root/registry.pem"
HOSTS = "/etc/containerd/certs.d"
# Programs take what is at an address of the loopback for a registry without TLS, each in its own way.
NAME = "registry.test"
# Its layers lie on the node's volume, for overlays can't be laid over the node's own.
UNIT = """
[Unit]
Before=containerd.service
[Service]
Type=notify
Environment=SSL_CERT_FILE=/root/registry.pem
ExecStartPre=sh -c 'grep -q registry.test /etc/hosts || echo ADDRESS registry.test >> /etc/hosts'
ExecStart=soci-snapshotter-grpc --root /var/lib/containerd/soci
[Install]
WantedBy=multi-user.target
"""
BOX = {"name": "lazy", "state": "mounted", "namespace": "k8s.io", "snapshotter": "soci"}
PATH = "/var/lib/toolbox/lazy"
KEPT = "/etc/systemd/system/var-lib-toolbox-lazy.*"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """A registry, and the certificate to trust."""
    certificate, key = registry.certificate(NAME)
    with registry.serve(tmp_path_factory.mktemp("secured"), tls=(certificate, key)) as server:
        server.name = f"{NAME}:{server.name.rpartition(':')[2]}"
        yield server, certificate


@pytest.fixture
def lazy(modern: Node, secured: tuple[Registry, str]) -> Iterator[Node]:
    """A node on which the proxy runs, and that trusts the registry."""
    node = packaged(modern)
    daemon.write(node, TRUST, secured[1])
    daemon.write(node, "/etc/systemd/system/soci.service", UNIT.replace("ADDRESS", registry.address()))
    node.ssh(
        "command -v soci-snapshotter-grpc fusermount3 >/dev/null || DEBIAN_FRONTEND=noninteractive "
        "apt-get -qq install --no-install-recommends soci-snapshotter fuse3 >/dev/null; "
        "mkdir -p /etc/soci-snapshotter-grpc; touch /etc/soci-snapshotter-grpc/config.toml; "
        "systemctl daemon-reload; systemctl enable --now soci"
    )
    run_module(node, "containerd_registry", {"registries": [{"name": secured[0].name, "ca": [secured[1]]}]})
    yield node
    node.ssh(
        f"systemctl disable --now var-lib-toolbox-lazy.mount; rm -f {KEPT}; ctr -n k8s.io containers ls -q | "
        f"xargs -r ctr -n k8s.io containers rm; ctr -n k8s.io snapshots --snapshotter soci rm {PATH}; "
        "for space in default k8s.io; do ctr -n $space images ls -q | xargs -r ctr -n $space images rm --sync; done; "
        "systemctl disable --now soci; findmnt --list --noheadings --output TARGET --types fuse.rawBridge | xargs -r umount; "
        f"rm -rf /etc/systemd/system/soci.service {TRUST} {HOSTS} /var/lib/containerd/soci; "
        "systemctl daemon-reload; systemctl reset-failed",
        check=False,
    )
    daemon.reset(node)


def indexed(node: Node, source: Registry) -> str:
    """An image of three layers that can be loaded file by file."""
    image = source.push([busybox(), *random_layers(2)], command=["/bin/busybox", "true"])
    node.ssh(
        f"export SSL_CERT_FILE={TRUST}; ctr images pull --local --hosts-dir {HOSTS} {image} && "
        f"soci create --min-layer-size 0 {image} && soci push {image} && ctr images rm --sync {image}"
    )
    return image


def lazily_mounted(node: Node) -> int:
    return len(node.ssh("findmnt --list --noheadings --types fuse.rawBridge", check=False).stdout.splitlines())


def test_layers_that_a_proxy_mounts(lazy: Node, secured: tuple[Registry, str]) -> None:
    image = indexed(lazy, secured[0])
    wanted = {"snapshotter": "soci", "snapshotters": {"soci": {"address": SOCKET}}, "registry_config_path": HOSTS}
    configured = run_module(lazy, "containerd_config", {"settings": wanted})
    assert configured.get("restarted"), configured
    cri.pull(lazy, image)
    assert lazily_mounted(lazy) == 3
    # The check of the version warns on 1.7 by the calendar, which says nothing of layers.
    found = run_module(lazy, "node_verify", {"skip": ["containerd_version"], "fail_on": []})["checks"]
    assert {one["id"] for one in found if one["status"] != "ok"} == {"durability_cri"}

    box = {**BOX, "image": image}
    assert run_module(lazy, "toolbox_snapshot", box)["mounted"]
    assert run_module(lazy, "toolbox_snapshot", box)["steps"] == []
    lazy.ssh(f"echo kept > {PATH}/layer1/note; sync")
    lazy.reboot()
    assert lazy.ssh(f"cat {PATH}/layer1/note; {PATH}/bin/busybox ls {PATH}").stdout.split() == ["kept", "bin", "layer0", "layer1"]
    assert run_module(lazy, "toolbox_snapshot", box)["steps"] == []
    # As where the proxy is gone: there is nothing to lay it over.
    lazy.ssh("systemctl stop var-lib-toolbox-lazy.mount; systemctl stop soci; mv /usr/bin/soci-snapshotter-grpc /root")
    lazy.ssh("findmnt --list --noheadings --output TARGET --types fuse.rawBridge | xargs -r umount", check=False)
    mounted = lazy.ssh("systemctl start var-lib-toolbox-lazy.mount", check=False).returncode
    # containerd takes its time to look for it again; one that is started does so at once.
    lazy.ssh("mv /root/soci-snapshotter-grpc /usr/bin; systemctl start soci; systemctl restart containerd")
    assert mounted != 0 and lazy.ssh(f"ls -A {PATH}").stdout == ""
    gone = run_module(lazy, "toolbox_snapshot", {**BOX, "state": "absent"})
    assert gone.get("changed"), gone
    assert lazy.ssh(f"ls {KEPT}", check=False).stdout == ""
