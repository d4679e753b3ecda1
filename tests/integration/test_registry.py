# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_registry: its files on this machine, and pulls of each containerd from a registry with a password."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.local_module import LocalModule

from nodes import daemon
from nodes.node import Node
from nodes.registry import certificate, serve

USER, PASSWORD = "node", "hunter2"
AUTHORIZATION = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CERTIFICATE, KEY = certificate("127.0.0.1")


class HostsDirectory:
    def __init__(self, directory: Path, run: LocalModule) -> None:
        self.path = directory / "certs.d"
        self.run_module = run

    def __call__(self, *registries: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self.run_module(registries=list(registries), config_path=str(self.path), **options)

    def tree(self) -> dict[str, tuple[bytes, int]]:
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file()]
        return {str(path.relative_to(self.path)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in files}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LocalModule:
    return LocalModule("containerd_registry", tmp_path_factory.mktemp("collections"))


@pytest.fixture
def hosts_dir(run: LocalModule, tmp_path: Path) -> HostsDirectory:
    return HostsDirectory(tmp_path, run)


FULL: dict[str, Any] = {
    "name": "registry.example:5000",
    "server": "https://registry.example:5000",
    "username": USER,
    "password": PASSWORD,
    "mirrors": [
        {"url": "https://b.example", "client_cert": CERTIFICATE, "client_key": KEY, "headers": {"X-Token": "sesame-open"}},
        {"url": "https://a.example", "ca": [CERTIFICATE]},
    ],
}


@pytest.mark.smoke
def test_check_mode_on_a_fresh_node_then_the_same_then_nothing(hosts_dir: HostsDirectory) -> None:
    predicted = hosts_dir(FULL, check=True)
    assert not hosts_dir.path.exists()
    done = hosts_dir(FULL)
    assert {key: done[key] for key in ("changed", "files", "removed", "foreign")} == {
        key: predicted[key] for key in ("changed", "files", "removed", "foreign")
    }
    assert sorted(done["files"]) == [str(hosts_dir.path / name) for name in hosts_dir.tree()]
    assert hosts_dir.tree()[".slipway"] == (f"{hosts_dir.path}\n".encode(), 0o644)
    tree = {name: mode for name, (_, mode) in hosts_dir.tree().items() if name != ".slipway"}
    modes = {name.split("/")[1].split("-")[1] if "-" in name else name: mode for name, mode in tree.items()}
    assert modes == {"ca": 0o644, "cert": 0o644, "key": 0o600, "registry.example_5000_/hosts.toml": 0o600}
    assert stat.S_IMODE(hosts_dir.path.stat().st_mode) == 0o755
    assert hosts_dir(FULL)["changed"] is False
    assert hosts_dir(FULL, check=True)["changed"] is False
    hosts_dir()
    assert not hosts_dir.path.exists()


def test_no_secret_is_printed(hosts_dir: HostsDirectory) -> None:
    changed = {**FULL, "password": "correct horse"}
    changed["mirrors"] = [{**FULL["mirrors"][0], "headers": {"X-Token": "another-word"}}, FULL["mirrors"][1]]
    printed = [hosts_dir(entry, check=check, verbose=True)["output"] for entry in (FULL, changed) for check in (True, False)]
    printed.append(hosts_dir(verbose=True)["output"])
    secrets = [PASSWORD, "correct horse", AUTHORIZATION, "sesame-open", "another-word", KEY.splitlines()[1]]
    secrets.append(base64.b64encode(f"{USER}:correct horse".encode()).decode())
    for secret in secrets:
        assert not [output for output in printed if secret in output], secret
    assert "a secret that is not shown changes" in printed[3]


def test_purge_and_absent_leave_what_others_made(hosts_dir: HostsDirectory) -> None:
    (hosts_dir.path / "ghcr.io").mkdir(parents=True)
    (hosts_dir.path / "ghcr.io" / "hosts.toml").write_text('server = "https://ghcr.io"\n')
    before = hosts_dir.tree()
    hosts_dir(FULL, {"name": "quay.io"})
    kept = hosts_dir({"name": "quay.io"}, purge=False)
    assert (kept["changed"], kept["foreign"]) == (False, ["ghcr.io"])
    assert hosts_dir({"name": "quay.io"})["removed"][0] == str(hosts_dir.path / "registry.example_5000_/hosts.toml")
    assert not (hosts_dir.path / "registry.example_5000_").exists()
    assert hosts_dir({"name": "ghcr.io"}, state="absent")["changed"] is False
    assert hosts_dir(state="absent", check=True)["changed"]
    assert hosts_dir(state="absent")["changed"]
    assert hosts_dir(state="absent")["changed"] is False
    assert hosts_dir.tree() == before


@pytest.mark.smoke
def test_a_foreign_configuration_is_refused_then_adopted(hosts_dir: HostsDirectory) -> None:
    (hosts_dir.path / "quay.io").mkdir(parents=True)
    (hosts_dir.path / "quay.io" / "hosts.toml").write_text("[host]\n")
    before = hosts_dir.tree()
    for check in (True, False):
        refused = hosts_dir({"name": "ghcr.io"}, {"name": "quay.io"}, check=check)
        assert refused["failed"]
        assert f"{hosts_dir.path}/quay.io configures quay.io and was not created by this module" in refused["msg"]
    assert hosts_dir.tree() == before
    assert hosts_dir({"name": "quay.io"}, adopt=True)["changed"]
    assert hosts_dir({"name": "quay.io"})["changed"] is False


@pytest.mark.smoke
def test_a_killed_run_is_mended(hosts_dir: HostsDirectory) -> None:
    hosts_dir(FULL)
    whole = hosts_dir.tree()
    directory = hosts_dir.path / "registry.example_5000_"
    (directory / "hosts.toml").unlink()
    (directory / ".slipway-hosts.toml.abcdefgh.tmp").write_text(AUTHORIZATION)
    (directory / "slipway-key-0000000000000000.pem").write_text("old")
    assert hosts_dir(FULL)["changed"]
    assert hosts_dir.tree() == whole


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "../etc"}, "registries[0].name must be a registry host"),
        ({"name": "a\nb"}, "registries[0].name must be a registry host"),
        ({"name": "quay.io", "server": "quay.io"}, "registries[quay.io].server must be a URL"),
        ({"name": "quay.io", "ca": ["/etc/ca.pem"]}, "registries[quay.io].ca must be PEM text"),
        ({"name": "quay.io", "client_cert": CERTIFICATE}, "client_cert needs client_key"),
        ({"name": "quay.io", "mirrors": [{"url": "https://m", "capabilities": ["fly"]}]}, "capabilities"),
        ({"name": "quay.io", "mirrors": [{}]}, "url"),
        ({"server": "https://quay.io"}, "name"),
    ],
)
def test_bad_options(hosts_dir: HostsDirectory, entry: dict[str, Any], message: str) -> None:
    answer = hosts_dir(entry)
    assert answer["failed"]
    assert message in answer["msg"]
    assert not hosts_dir.path.exists()


def test_a_path_that_can_not_be_written(run: LocalModule, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run(registries=[{"name": "quay.io"}], config_path=str(tmp_path / "file"))
    assert answer["failed"]
    assert f"cannot list {tmp_path}/file: Not a directory" in answer["msg"]


def image(directory: Path) -> None:
    """An OCI layout of one image with one small layer."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        info = tarfile.TarInfo("hello")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"hi"))
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(layer.getvalue(), mtime=0))],
    }
    entry = blob("manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a registry with TLS and a password, which has the image demo:1. Nodes share this machine's loopback."""
    directory = tmp_path_factory.mktemp("registry")
    with serve(directory, (USER, PASSWORD), "127.0.0.1", (CERTIFICATE, KEY)) as server:
        image(directory / "image")
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}"]
        subprocess.run([*copy, f"oci:{directory}/image:1", f"docker://{server.name}/demo:1"], check=True)
        yield server.name


@pytest.fixture
def containerd(node: Node) -> Iterator[Node]:
    daemon.install(node)
    daemon.reset(node)
    yield node
    node.module("containerd_registry", {"state": "absent"})


def fetch(node: Node, reference: str) -> tuple[bool, str]:
    """Fetch an image as ctr does, with nothing of it there before; whether that worked, and what was said."""
    node.ssh("ctr images ls -q | xargs -r ctr images rm --sync")
    done = node.ssh(f"ctr content fetch --hosts-dir /etc/containerd/certs.d {reference}", check=False)
    return done.returncode == 0, done.stdout + done.stderr


def configure(node: Node, *registries: dict[str, Any]) -> None:
    done = node.module("containerd_registry", {"registries": list(registries)})
    assert done.get("failed", False) is False, done


@pytest.mark.smoke
def test_containerd_logs_in_and_trusts_as_told(containerd: Node, registry: str) -> None:
    """Also without mirrors: containerd 1.x ignores a hosts.toml that has no host table."""
    entry = {"name": registry, "server": f"https://{registry}", "ca": [CERTIFICATE], "username": USER, "password": PASSWORD}
    assert fetch(containerd, f"{registry}/demo:1")[0] is False
    configure(containerd, entry)
    worked, said = fetch(containerd, f"{registry}/demo:1")
    assert worked, said
    configure(containerd, {**entry, "password": "wrong"})
    worked, said = fetch(containerd, f"{registry}/demo:1")
    assert not worked, said
    configure(containerd, {**entry, "ca": [certificate("127.0.0.1")[0]]})
    worked, said = fetch(containerd, f"{registry}/demo:1")
    assert not worked
    assert "certificate" in said


def test_containerd_asks_the_mirrors_in_their_order(containerd: Node, registry: str) -> None:
    login = {"ca": [CERTIFICATE], "username": USER, "password": PASSWORD}
    dead = {"url": "https://127.0.0.1:1"}
    configure(containerd, {"name": "gone.invalid", "mirrors": [dead, {"url": f"https://{registry}", **login}]})
    worked, said = fetch(containerd, "gone.invalid/demo:1")
    assert worked, said
    configure(containerd, {"name": "_default", "mirrors": [{"url": f"https://{registry}", **login}]})
    worked, said = fetch(containerd, "other.invalid/demo:1")
    assert worked, said


def test_a_mirror_with_an_ipv6_address_is_used_or_refused(containerd: Node) -> None:
    """containerd 1.x drops the whole file for one such mirror; on 2.x the mirror is dialled."""
    entry = {"name": "gone.invalid", "mirrors": [{"url": "https://127.0.0.1:1"}, {"url": "http://[::1]:1"}]}
    done = containerd.module("containerd_registry", {"registries": [entry]})
    if containerd.line < (2, 0):
        assert done["failed"]
        assert "ignores a hosts.toml with the IPv6 address of http://[::1]:1: give the mirror a name" in done["msg"]
        assert containerd.exec("test", "-e", "/etc/containerd/certs.d/gone.invalid", check=False).returncode == 1
    else:
        assert done["changed"]
        assert "dial tcp [::1]:1" in fetch(containerd, "gone.invalid/demo:1")[1]


def test_a_mirror_with_odd_characters_is_asked(containerd: Node) -> None:
    """Underscores in its name, and every character of a path."""
    path = "/a+b/c=d/e:f/g@h/k,l;m!n$o&p'q(r)s*t"
    configure(containerd, {"name": "gone.invalid", "mirrors": [{"url": f"http://my_mirror.invalid:1{path}"}]})
    worked, said = fetch(containerd, "gone.invalid/demo:1")
    assert not worked
    assert f"http://my_mirror.invalid:1{path}/v2/demo/manifests/1" in said
