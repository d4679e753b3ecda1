# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook upgrade from version to version on a node in use, and the state that an upgrade must not change."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.test_role import PROVISION, VERIFY, messages, succeeded
from integration.test_role_kata import block_snapshotter

from nodes import cri, daemon, realistic
from nodes.images import busybox, random_layers
from nodes.node import CHECKOUT, Node, ansible_json, run
from nodes.payload import run_module
from nodes.registry import Registry
from nodes.upstream import unpacked_package

# The releases to which a node is upgraded in turn, by the suite of the package that it has first.
CHAINS = [("bookworm", ["1.7.24", "2.3.7", "2.4.2"]), ("trixie", ["2.3.7"]), ("sid", ["2.3.7"])]
UPGRADE = "slipway.node.upgrade"
SWITCH = "Replace the programs and the configuration"
TOOLBOX = "/var/lib/toolbox/debug"
SLEEP = ("/bin/busybox", "sleep", "1000000")
# Configuration of an administrator: keys of the root file, a drop-in that it imports, and a drop-in of the unit.
SITE, THEIR_UNIT = "/etc/containerd/site.d/10-site.toml", "/etc/systemd/system/containerd.service.d/10-site.conf"
# Keys that 2.0 drops or renames.
LOST = "/etc/containerd/site.d/20-lost.toml"
WOULD_BE_LOST = """version = 2
disabled_plugins = ["io.containerd.internal.v1.restart"]
required_plugins = ["io.containerd.monitor.v1.cgroups"]
[plugins."io.containerd.internal.v1.tracing"]
  sampling_ratio = 0.5
"""
# Entries of the report, and a check of node_verify.
REASONS = ("lost_key", "disabled_plugin", "required_plugin", "handler_starts")
TREES = "/etc /opt /usr/local /var/lib/slipway-node"
# Written in addition to the predicted files: the programs, the record of the settings, and the generations.
BESIDE = re.compile(r"/var/lib/slipway-node/|/usr/local/(bin|lib/slipway)/|.*\.slipway\.json$|.*/slipway-restore\.service$")
# Settings that have another name in newer versions. If the new one is a list, the value is its only element.
RENAMED = {"bin_dir": "bin_dirs", "sandbox_image": "sandbox"}


def site(schema: int) -> str:
    """The drop-in of an administrator."""
    return f"""version = {schema}
[plugins."io.containerd.gc.v1.scheduler"]
  pause_threshold = 0.03
[plugins."io.containerd.internal.v1.restart"]
  interval = "7s"
"""


def root_file(schema: int) -> str:
    """The root file of an administrator. Nodes lack CAP_SYS_RESOURCE, which a lower oom_score_adj needs."""
    return f"""version = {schema}
imports = ["{Path(SITE).parent}/*.toml"]
[grpc]
  max_recv_message_size = 33554432
[plugins."{daemon.CRI if schema == 2 else daemon.RUNTIME}"]
  restrict_oom_score_adj = true
  max_container_log_line_size = 8192
[plugins."{daemon.CRI if schema == 2 else daemon.RUNTIME}".cni]
  {'bin_dir = "/usr/lib/cni"' if schema == 2 else 'bin_dirs = ["/usr/lib/cni"]'}
"""


def archive(version: str, directory: Path) -> dict[str, Any]:
    """Variables for a release of upstream, or for 1.7.24 with the programs of Debian's package."""
    if version.startswith("2."):
        releases = json.loads(run([str(CHECKOUT / "tests/upstream"), "--releases", "containerd", version]).stdout)
    else:
        path = directory / f"containerd-{version}.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as packed:
            for program in ("containerd", "ctr", "containerd-shim-runc-v2"):
                packed.add(unpacked_package("containerd", "trixie") / "usr/bin" / program, f"bin/{program}")
        machine = run(["dpkg", "--print-architecture"]).stdout.strip()
        releases = {machine: {"src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    return {"containerd_install_method": "archive", "containerd_version": version, "containerd_releases": releases}


@dataclass(frozen=True)
class Figures:
    """The figures of a step: seconds of the run and without a daemon, and containers that kept running."""

    before: str
    after: str
    seconds: float
    without: float
    containers: int
    changed: int


class InUse:
    """A node with a realistic inventory, files of others, images on several snapshotters, toolboxes and running containers."""

    def __init__(self, node: Node, server: Registry, directory: Path, *, whole: bool = True) -> None:
        self.node = node
        self.directory = directory
        self.app = server.push([busybox(), *random_layers(2, seed=100)], command=SLEEP)
        given = realistic.variables(server, directory)
        # Variables for settings that 1.6 lacks.
        self.newer: dict[str, Any] = {"containerd_image_pull_sync_fs": True}
        kata = {name: given.pop(name) for name in tuple(given) if name.startswith("kata_")}
        if whole:
            # The stand-ins for Kata's programs start no guest.
            self.newer |= {**kata, "upgrade_verify_skip": ["handler_starts"]}
        self.whole = whole
        (directory / "reports").mkdir()
        self.variables = {
            **given,
            "containerd_images": [*given["containerd_images"], {"name": self.app}, {"name": self.app, "snapshotter": "native"}],
            "containerd_sandbox_image": server.push([busybox()], command=SLEEP),
            "containerd_max_concurrent_downloads": 6,
            "containerd_service_directives": {"LimitNOFILE": 65536},
            "containerd_image_pull_sync_fs": False,
            "upgrade_soak": 1,
            "upgrade_report_dir": str(directory / "reports"),
        }
        self.numbers = iter(range(100))

    def prepare(self) -> None:
        """Provision the node with the packaged version, and use it."""
        schema = 2 if self.node.line < (2,) else 3
        daemon.write(self.node, daemon.ROOT, root_file(schema))
        daemon.write(self.node, SITE, site(schema))
        daemon.write(self.node, THEIR_UNIT, "[Service]\nEnvironment=SITE=theirs")
        if self.node.line > (1, 6):
            self.add_newer()
        self.play(PROVISION)
        self.node.ssh(f"echo kept > {TOOLBOX}/root-was-here")
        self.run_containers()

    def add_newer(self) -> None:
        """Add settings that 1.6 lacks: flushed pulls and, if the inventory is whole, Kata, and blockfile with an image."""
        self.variables |= self.newer
        if self.whole:
            self.variables |= block_snapshotter(self.node, self.directory)
            images = [*self.variables["containerd_images"], {"name": self.app, "snapshotter": "blockfile"}]
            self.variables["containerd_images"] = images

    def run_containers(self) -> None:
        """Start a container on each of two snapshotters, and one with CRI if the node supports it."""
        number = next(self.numbers)
        for snapshotter in ("overlayfs", "native"):
            options = f"--detach --cpu-shares 0 --snapshotter {snapshotter}"
            self.node.ssh(f"ctr -n k8s.io run {options} {self.app} {snapshotter}-{number}")
        if self.node.suite == "sid":
            # It has cgroup v2 without the controllers that a pod needs.
            return
        pod = {"metadata": {"name": f"pod-{number}", "namespace": "default", "uid": str(number)}, "linux": cri.NODE_NETWORK}
        what = {"metadata": {"name": "app"}, "image": {"image": self.app}, "mounts": [cri.NO_CGROUPS], "linux": cri.NODE_NETWORK}
        daemon.write(self.node, cri.POD, json.dumps(pod))
        daemon.write(self.node, cri.CONTAINER, json.dumps(what))
        cri.crictl(self.node, "run", "--no-pull", cri.CONTAINER, cri.POD)

    def play(self, playbook: str, *, check: bool = False) -> dict[str, Any]:
        """Run a playbook with the variables in the inventory, as users have them. It has to succeed."""
        played = self.try_to_play(playbook, check=check)
        succeeded(played, self.node)
        return played

    def try_to_play(self, playbook: str, *, check: bool = False) -> dict[str, Any]:
        own = self.directory / "inventory.json"
        own.write_text(json.dumps({"all": {"hosts": {self.node.name: self.variables}}}))
        inventories = ("-i", str(self.node.inventory), "-i", str(own), "--limit", f"{self.node.name},localhost")
        return ansible_json("ansible-playbook", *inventories, playbook, *["--check", "--diff"] * check)

    def processes(self) -> list[list[str]]:
        """The containers with their processes, as the daemon lists them."""
        rows = self.node.ssh("ctr -n k8s.io tasks ls").stdout.splitlines()[1:]
        found = sorted(row.split() for row in rows)
        ready = json.loads(cri.crictl(self.node, "ps", "--output", "json").stdout)["containers"]
        return [*found, sorted(one["id"] for one in ready)]

    def images(self) -> dict[str, Any]:
        """The images with the result of the comparison with their layers, by snapshotter."""
        snapshotters = ["overlayfs", "native", *self.variables.get("containerd_snapshotters", ())]
        # blockfile's layers are file systems of their own, which aren't compared.
        options = {one: {"snapshotter": one, "integrity": "content" if one != "blockfile" else "none"} for one in snapshotters}
        found = {one: run_module(self.node, "containerd_image_info", {"namespace": "k8s.io", **options[one]}) for one in options}
        keys = ("name", "digest", "integrity", "unpacked")
        return {
            one: {image["name"]: [image.get(key) for key in keys] for image in result["images"]} for one, result in found.items()
        }

    def toolbox(self) -> str:
        return self.node.ssh(f"findmnt --noheadings --output TARGET,FSTYPE {TOOLBOX}; cat {TOOLBOX}/root-was-here").stdout

    def settings(self, *, changed: bool) -> set[tuple[str, str]]:
        """The settings by the last name in their paths, or those that differ from the version's own defaults."""
        dumped, default = (
            dict(leaves(tomllib.loads(self.node.ssh(f"containerd config {what}").stdout))) for what in ("dump", "default")
        )
        return {
            (RENAMED.get(path[-1], path[-1]), value)
            for path, value in dumped.items()
            if path[-1] not in ("version", "imports") and not (changed and value in ("", default.get(path)))
        }

    def version(self) -> str:
        said = self.node.ssh(f"/proc/{daemon.main_pid(self.node)}/exe --version").stdout.split()[2]
        return re.split("[+~]", said.lstrip("v"))[0]

    def listed(self) -> dict[str, str]:
        """All files and links by path: mode, owner, and the target or the hash."""
        lines = self.node.ssh(
            f"find {TREES} -xdev ! -type d -printf '%p %m %U %G %l\\n'; find {TREES} -xdev -type f -print0 | xargs -0 sha256sum",
            check=False,
        ).stdout.splitlines()
        hashes = {line[66:]: line[:64] for line in lines if not line.startswith("/")}
        found = dict(line.split(" ", 1) for line in lines if line.startswith("/"))
        return {path: f"{said} {hashes.get(path)}" for path, said in found.items()}

    def starts(self, since: str) -> int:
        """The number of starts of the daemon by systemd since a time of the node's clock."""
        return self.node.ssh(f"journalctl --sync; journalctl --unit containerd --since @{since} --output cat").stdout.count(
            "Starting containerd.service"
        )

    def without_daemon(self) -> float:
        """The seconds between the daemon's last stop and its start."""
        names = ("ActiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        said = self.node.ssh(f"systemctl show --property {','.join(names)} containerd").stdout
        stopped, started = (int(dict(line.split("=") for line in said.splitlines())[name]) for name in names)
        return (started - stopped) / 1e6


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings of a parsed file as text, by path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, list) and len(value) == 1:
            yield (*path, key), str(value[0])
        else:
            yield (*path, key), str(value)


def switch_of(played: dict[str, Any], node: Node) -> dict[str, Any]:
    """The last result of the module containerd_upgrade: in check mode, the predicted one."""
    tasks = [task for play in played["plays"] for task in play["tasks"] if node.name in task["hosts"]]
    found: dict[str, Any]
    *_others, found = [task["hosts"][node.name] for task in tasks if task["task"]["name"].split(" : ")[-1] == SWITCH]
    return found


def upgraded(used: InUse, version: str) -> Figures:
    """Upgrade the node with the playbook, and check that the change is the predicted one, loses nothing, and is complete."""
    node, old = used.node, used.version()
    used.variables |= archive(version, used.directory)
    kept = [used.processes(), used.images(), used.toolbox()]
    settings, listed = used.settings(changed=True), used.listed()

    checked = used.play(UPGRADE, check=True)
    predicted = switch_of(checked, node)
    assert used.listed() == listed
    assert (predicted["version"], predicted["to_version"], predicted["restarted"]) == (old, version, True)

    since, began = node.ssh("date +%s").stdout.strip(), time.monotonic()
    played = used.play(UPGRADE)
    seconds = time.monotonic() - began
    done = switch_of(played, node)
    assert used.version() == version and daemon.is_well(node)
    # A CRI pod is two containers.
    assert (done["containers"], predicted["containers"]) == (len(kept[0]) - 1,) * 2
    assert [used.processes(), used.images(), used.toolbox()] == kept
    lost = settings - used.settings(changed=False)
    assert lost == set(), lost
    assert "SITE=theirs" in node.ssh(f"tr '\\0' '\\n' < /proc/{daemon.main_pid(node)}/environ").stdout.split()

    # The run restarted the daemon once, and changed the files that were predicted.
    assert used.starts(since) == 1
    now = used.listed()
    differ = {path for path, _said in listed.items() ^ now.items() if not BESIDE.match(path)}
    expected = {one["path"] for one in predicted["files"] if one["changed"]}
    assert sorted(differ ^ expected) == [], sorted(differ ^ expected)
    without = used.without_daemon()

    again = used.play(UPGRADE)
    assert again["stats"][node.name]["changed"] == 0
    assert used.play(PROVISION)["stats"][node.name]["changed"] == 0
    used.play(VERIFY)
    assert used.listed() == now and used.starts(since) == 1
    return Figures(old, version, seconds, without, done["containers"], again["stats"][node.name]["changed"])


def refused(used: InUse, version: str) -> None:
    """Run the playbook with handlers that don't start, and a drop-in with a key that the new version would lose.

    The node is left unchanged.
    """
    node, old, variables = used.node, used.version(), used.variables
    used.variables = {**variables, **archive(version, used.directory), "upgrade_verify_skip": []}
    daemon.write(node, LOST, WOULD_BE_LOST)
    daemon.restart(node)
    kept = used.processes()
    assert daemon.is_well(node)
    listed = used.listed()
    played = used.try_to_play(UPGRADE)
    said = messages(played, node)
    assert played["stats"][node.name]["failures"] == 1
    assert [reason for reason in REASONS if f"FAIL {reason}: " not in said] == [], said
    # The release is staged.
    assert {path for path in listed.items() ^ used.listed().items() if not path[0].startswith("/usr/local/lib/slipway/")} == set()
    assert (used.version(), used.processes()) == (old, kept)
    node.ssh(f"rm {LOST}")
    daemon.restart(node)
    used.variables = variables


def table(found: Sequence[Figures]) -> str:
    """The page with the figures of all steps."""
    rows = "".join(
        f"| {one.before} | {one.after} | {one.seconds:.0f} | {one.without:.1f} | {one.containers} | {one.changed} |\n"
        for one in found
    )
    return f"""# The cost of an upgrade

Written by `make test-upgrade`. Each node has 3 registries with mirrors, images on 3 snapshotters, a toolbox, 2 Kata
handlers, a proxy, directives of the unit, and files of an administrator. containerd 1.6 has neither blockfile nor the
Kata handlers. The run is that of the playbook `upgrade` with its report, its health checks, and a soak time of a
second. Every container keeps its process. A pod of CRI is two of them.

| from | to | seconds of the run | seconds without a daemon | containers that kept running | changed by the second run |
|---|---|---|---|---|---|
{rows}
Load average of the machine (2 cores) at the end: {os.getloadavg()[1]:.1f}.
"""
