# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook deprovision restores the node by marks and records on it, and containers keep running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from integration.test_role import PROVISION, changed, made, messages, succeeded
from integration.test_running_containers import remove as remove_container
from integration.test_running_containers import start as start_container

from nodes import daemon, kata
from nodes.images import busybox
from nodes.node import CHECKOUT, Node, ansible_settings
from nodes.registry import Registry, serve
from nodes.toolboxes import PREFIX, enterable, mounted, process_in, removed

DEPROVISION = "slipway.node.deprovision"
ADMIN = "/etc/containerd/conf.d/10-admin.toml"
UNIT_DROP_IN = "/etc/systemd/system/containerd.service.d"
# An administrator's file, with comments, keys that the collection doesn't set, and one key that it replaces.
ROOT_TEXT = {
    "trixie": """# kept by hand, see the wiki
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    max_concurrent_downloads = 4   # the uplink is slow
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni" # Debian's
""",
    "2.3": """# kept by hand, see the wiki
version = 4
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.cri.v1.images"]
  max_concurrent_downloads = 4   # the uplink is slow
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
""",
}
# The nodes share the network of this machine.
ADMIN_TEXT = '# metrics for the node\n[metrics]\n  address = "ADDRESS:11338"'
# Files that Ansible, the package manager and the daemon change in a run that changes nothing else.
NOT_COMPARED = (
    "-path /root/.ansible -o -path /root/.ssh -o -path '/var/lib/containerd*' -o -path /var/lib/systemd -o -path /var/lib/dpkg "
    "-o -path /var/lib/private -o -path /var/lib/apt -o -path /etc/mtab"
)
# What deprovision leaves of SETTINGS.
LEFT = (
    "/var/lib/scratch.ext4",
    "/opt/kata",
    "/usr/local/lib/slipway",
    "/var/lib/toolbox",
    "/etc/systemd/system/var-lib-toolbox-debug.mount",
)
KATA = "/etc/kata-containers"
BLOCKFILE = {"scratch_file": "/var/lib/scratch.ext4", "fs_type": "ext4"}
# What a check of the images' layers keeps.
TREES = "/var/lib/containerd/slipway-trees"
# Directories that containerd creates when it starts.
NOT_OURS = ("/etc/cni", "/opt/containerd")
RESTORE_UNIT = """[Service]
Type=oneshot
ExecStart=/bin/true
[Install]
RequiredBy=containerd.service"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as there:
        yield there


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> dict[str, Any]:
    """An inventory with each kind of object."""
    runnable = registry.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    handler = {"name": "kata-qemu", "runtime": "go", "hypervisor": "qemu", "disable_block_device_use": True}
    return {
        **kata.archive(tmp_path_factory.mktemp("kata") / "kata-static-3.26.0.tar.xz", "3.26.0"),
        "kata_handlers": [handler],
        "kata_check_hardware": False,
        "containerd_snapshotter": "native",
        "containerd_snapshotters": {"blockfile": BLOCKFILE},
        "containerd_blockfile_scratch_size": "16M",
        "containerd_systemd_cgroup": True,
        "containerd_max_concurrent_downloads": 6,
        "containerd_service_directives": {"LimitNOFILE": 65536},
        "containerd_http_proxy": {"https": "http://proxy.example:3128", "no_proxy": ["127.0.0.0/8"]},
        "containerd_registries": [
            {"name": "registry.example", "username": "node", "password": "correct horse battery"},
            {"name": "docker.io", "mirrors": [{"url": "https://mirror.example"}]},
        ],
        "containerd_images": [{"name": runnable, "plain_http": True}],
        "toolbox_snapshots": [{"image": registry.push(enterable()), "plain_http": True, "name": "debug"}],
        "toolbox_install_command": True,
    }


@pytest.fixture
def owned(modern: Node) -> Iterator[Node]:
    """A node with files of an administrator, and no trace of the collection beside the release that it runs."""
    node = modern
    daemon.install(node)
    cleared(node)
    # The role would install the package.
    node.ssh("[ -e /usr/bin/systemd-nspawn ] || ln -s /bin/true /usr/bin/systemd-nspawn")
    daemon.reset(node, ROOT_TEXT[node.suite].rstrip())
    daemon.write(node, ADMIN, ADMIN_TEXT.replace("ADDRESS", node.address))
    daemon.write(node, f"{UNIT_DROP_IN}/10-admin.conf", "[Service]\nTasksMax=infinity")
    daemon.restart(node)
    assert daemon.is_well(node)
    yield node
    remove_container(node)
    cleared(node)
    node.ssh("systemctl disable slipway-restore; rm -f /etc/systemd/system/slipway-restore.service /opt/kata", check=False)
    node.ssh(f"rm -rf {BLOCKFILE['scratch_file']}")
    node.ssh(f"rm -rf {KATA} /etc/modules-load.d/slipway-* /usr/local/lib/slipway/kata /var/lib/slipway-node")
    node.ssh("rmdir --ignore-fail-on-non-empty /usr/local/lib/slipway", check=False)
    daemon.reset(node)


def cleared(node: Node) -> None:
    """Remove the toolboxes of all snapshotters."""
    node.ssh(f"umount -l {PREFIX}/debug; ctr snapshots --snapshotter native rm {PREFIX}/debug", check=False)
    removed(node)


def listed(node: Node) -> dict[str, str]:
    """Path, type, mode, owner and target of everything outside of packages, and the hash of each file."""
    places = f"/etc /opt /root /usr/local /var/lib \\( {NOT_COMPARED} \\) -prune -o"
    found = node.ssh(f"find {places} -printf '%p\\t%y %m %U %G %l\\n'; find {places} -type f -print0 | xargs -0 sha256sum").stdout
    entries: dict[str, str] = {}
    for line in found.splitlines():
        path, _tab, facts = line.partition("\t")
        if not facts:
            facts, _blanks, path = line.partition("  ")
        entries[path] = f"{entries.get(path, '')} {facts}".strip()
    return entries


def effective(node: Node) -> dict[str, Any]:
    """The daemon's configuration; 1.7 prints imports in any order."""
    dump = daemon.dump(node)
    return {**dump, "imports": sorted(dump["imports"])}


def differences(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def removed_files(played: dict[str, Any], node: Node) -> set[str]:
    """The paths that the tasks of a run removed or changed, by their results."""
    found = set()
    for result in changed(played, node).values():
        for one in (result, *result.get("results", [])):
            found |= {str(path) for path in one.get("removed", []) if one.get("changed")}
            found |= {file["path"] for file in one.get("files", []) if isinstance(file, dict) and file["changed"]}
            # In check mode, state is that before.
            gone = isinstance(one.get("diff"), dict) and isinstance(one["diff"].get("after"), dict) and one["diff"]["after"]
            found |= {one["path"]} if gone and gone.get("state") == "absent" else set()
    return found


def killed_when(node: Node, condition: str) -> None:
    """Run the playbook, and kill it with its module on the node as soon as the command succeeds there."""
    argv = ["ansible-playbook", "-i", str(node.inventory), "--limit", f"{node.name},localhost", DEPROVISION]
    environment = {**os.environ, **ansible_settings()}
    waiting = f"for attempt in $(seq 6000); do if {condition}; then pkill -9 python3; exit 0; fi; sleep 0.05; done; exit 1"
    with subprocess.Popen(argv, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            node.ssh(waiting)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
    # A module may have been started in between.
    node.ssh("timeout 60 sh -c 'while pkill -9 python3; do sleep 0.1; done'")


def test_a_node_is_as_before(owned: Node, settings: dict[str, Any]) -> None:
    node = owned
    before, config = listed(node), effective(node)
    succeeded(node.play(PROVISION, settings), node)
    # The files that an upgrade leaves.
    daemon.write(node, "/etc/systemd/system/slipway-restore.service", RESTORE_UNIT)
    node.ssh(
        "systemctl enable slipway-restore; mkdir -p /var/lib/slipway-node/generations/1; echo 1 > /var/lib/slipway-node/restore"
    )
    node.ssh(f"mkdir -p {TREES}; echo kept > {TREES}/tree")
    with_all = listed(node)
    container = start_container(node, settings["containerd_images"][0]["name"])
    node.ssh(f"echo kept > {PREFIX}/debug/kept")

    # The inventory describes none of the objects.
    predicted = node.play(DEPROVISION, check=True)
    succeeded(predicted, node)
    assert differences(with_all, listed(node)) == {f"{PREFIX}/debug/kept"}

    # The run is killed when the settings are taken back, so that only the notes name the handlers' files.
    killed_when(node, f"[ ! -e {daemon.RECORD} ] && [ -e {KATA}/kata-qemu/.slipway ]")
    done = node.play(DEPROVISION)
    succeeded(done, node)
    after = listed(node)
    assert {path for path in differences(before, after) if not path.startswith(LEFT)} == {
        "/etc/systemd/system/multi-user.target.wants/var-lib-toolbox-debug.mount"
    }
    files = {path for path in differences(with_all, after) if with_all.get(path, "").startswith("f")}
    assert removed_files(predicted, node) - {"/var/lib/slipway-node/generations"} == files - {daemon.RECORD} | {TREES}
    assert node.ssh(f"[ ! -e {TREES} ]", check=False).returncode == 0
    assert daemon.is_well(node) and effective(node) == config
    assert container.runs()
    assert mounted(node, f"{PREFIX}/debug") and node.exec("cat", f"{PREFIX}/debug/kept").stdout == "kept\n"

    images, text = settings["containerd_images"], json.dumps(done)
    assert f"the scratch file {BLOCKFILE['scratch_file']} [scratch_files]" in text and "in k8s.io [images]" in text
    # What no configuration of containerd names any more is named by the inventory.
    everything = {
        "deprovision_remove": ["toolboxes", "kata", "images", "scratch_files"],
        "containerd_images": images,
        "containerd_snapshotters": {"blockfile": BLOCKFILE},
    }
    with process_in(node, f"{PREFIX}/debug") as pid:
        busy = node.play(DEPROVISION, everything)
        assert f"pid {pid}" in json.dumps(busy)
    assert node.exec("test", "-e", "/opt/kata/VERSION", check=False).returncode == 0
    succeeded(node.play(DEPROVISION, everything), node)
    assert differences(before, listed(node)) == set()
    assert PREFIX not in node.exec("ctr", "snapshots", "--snapshotter", "native", "ls").stdout
    assert images[0]["name"] not in node.exec("ctr", "--namespace", "k8s.io", "images", "ls", "--quiet").stdout
    assert container.runs()
    assert succeeded(node.play(DEPROVISION, everything), node)["changed"] == 0


def packages(node: Node) -> set[str]:
    return set(
        node.ssh("dpkg-query --show --showformat='${db:Status-Status} ${Package}\\n' | sed -n 's/^installed //p'").stdout.split()
    )


@pytest.mark.parametrize("suite", ["2.3"])
def test_a_node_without_containerd_is_that_again(suite: str, settings: dict[str, Any]) -> None:
    with made(suite) as node:
        before, installed = listed(node), packages(node)
        assert succeeded(node.play(DEPROVISION), node)["changed"] == 0
        assert differences(before, listed(node)) == set()

        names = ("containerd_systemd_cgroup", "containerd_registries", "kata_handlers", "kata_version", "kata_releases")
        some = {name: settings[name] for name in names}
        succeeded(node.play(PROVISION, {**some, "kata_check_hardware": False}), node)
        start_container(node, settings["containerd_images"][0]["name"])
        everything: dict[str, Any] = {
            "deprovision_remove": ["kata", "containerd"],
            "deprovision_packages": sorted(packages(node) - installed),
        }
        refused = node.play(DEPROVISION, everything)
        assert "containers run, default/survivor" in messages(refused, node)
        assert daemon.is_well(node)
        remove_container(node)
        succeeded(node.play(DEPROVISION, everything), node)
        assert {path for path in differences(before, listed(node)) if not path.startswith(NOT_OURS)} == set()
        assert packages(node) == installed
        assert succeeded(node.play(DEPROVISION, everything), node)["changed"] == 0
