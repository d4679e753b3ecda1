# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on fresh nodes: the changes are those that were predicted, and a second run changes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes import daemon
from nodes.node import CHECKOUT, INVENTORY, WORK, Node, ansible, ansible_json, nodes_of, run

PROVISION = "slipway.node.provision"
VERIFY = "slipway.node.verify"
PASSWORD = "correct horse battery"
SETTINGS: dict[str, Any] = {
    "containerd_systemd_cgroup": True,
    "containerd_max_concurrent_downloads": 6,
    "containerd_service_directives": {"LimitNOFILE": 65536},
    "containerd_registries": [
        {"name": "registry.example", "mirrors": [{"url": "https://mirror.example", "username": "node", "password": PASSWORD}]}
    ],
}
# In check mode apt's own prediction, which needs package lists, is replaced.
SAME_TASK = {"Predict the packages that apt would install": "Install containerd"}
PROGRAMS = ("/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/containerd-shim-runc-v2")


@contextmanager
def made(suite: str) -> Iterator[Node]:
    """A node as it comes, removed at the end. Others that want it at the same time wait."""
    inventory = INVENTORY / "fresh.yml"
    (node,) = (node for node in nodes_of(inventory) if node.suite == suite)
    playbook = ["ansible-playbook", "-i", str(inventory), "--limit", f"{node.name},localhost", "-e", f"node_set={node.name}"]
    with (WORK / f"{node.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ansible(*playbook, "tests/nodes/create.yml")
        try:
            # Its address is that of the network which the checkout has by now.
            yield next(one for one in nodes_of(inventory) if one.name == node.name)
        finally:
            ansible(*playbook, "tests/nodes/destroy.yml")


@pytest.fixture(params=["bookworm", "2.3"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node without containerd, of each suite in turn."""
    with made(request.param) as node:
        yield node


def changed(played: dict[str, Any], node: Node) -> dict[str, dict[str, Any]]:
    """The results of the tasks that changed something, by the tasks' names."""
    here = [task for play in played["plays"] for task in play["tasks"] if node.name in task["hosts"]]
    tasks = [(task["task"]["name"], task["hosts"][node.name]) for task in here]
    short = [(name.split(" : ")[-1], result) for name, result in tasks if result.get("changed")]
    return {SAME_TASK.get(name, name): result for name, result in short}


def paths(results: dict[str, dict[str, Any]]) -> set[str]:
    """The files that the settings and the registries change."""
    files = {one["path"] for one in results["Apply the settings"]["files"] if one["changed"]}
    return files | set(results["Configure registry hosts"]["files"])


def succeeded(played: dict[str, Any], node: Node) -> dict[str, int]:
    stats: dict[str, int] = played["stats"][node.name]
    failures = [
        task["hosts"][node.name].get("msg")
        for play in played["plays"]
        for task in play["tasks"]
        if task["hosts"].get(node.name, {}).get("failed")
    ]
    assert (stats["failures"], stats["unreachable"]) == (0, 0), failures
    assert stats["ok"] > 0
    return stats


@pytest.mark.smoke
def test_a_fresh_node_becomes_what_was_predicted_and_stays(fresh: Node) -> None:
    predictions = []
    for command in ("true", "apt-get -qq update", "rm -rf /var/lib/apt/lists/*"):
        fresh.ssh(command)
        before = listed(fresh)
        predicted = fresh.play(PROVISION, SETTINGS, check=True)
        succeeded(predicted, fresh)
        assert listed(fresh) == before, command
        predictions.append(changed(predicted, fresh))
    known = predictions[1]

    first = fresh.play(PROVISION, SETTINGS)
    succeeded(first, fresh)
    done = changed(first, fresh)
    installed = "Install the release" if fresh.upstream else "Install containerd"
    assert set(done) >= {installed, "Apply the settings", "Configure registry hosts"}
    for prediction in predictions:
        assert set(prediction) == set(done)
    assert paths(known) == paths(done)
    assert known["Apply the settings"]["restarted"] == done["Apply the settings"]["restarted"]

    before = listed(fresh)
    assert succeeded(fresh.play(PROVISION, SETTINGS), fresh)["changed"] == 0
    assert succeeded(fresh.play(PROVISION, SETTINGS, check=True), fresh)["changed"] == 0
    succeeded(fresh.play(VERIFY, SETTINGS), fresh)
    assert listed(fresh) == before
    assert daemon.is_well(fresh)
    assert "max_concurrent_downloads = 6" in fresh.exec("containerd", "config", "dump").stdout

    fresh.ssh("systemctl stop containerd")
    broken = fresh.play(VERIFY, SETTINGS)
    assert broken["stats"][fresh.name]["failures"] == 1
    succeeded(fresh.play(PROVISION, SETTINGS), fresh)
    assert daemon.is_well(fresh)


def pack(path: Path, programs: Path, epoch: int) -> dict[str, str]:
    """A release archive as upstream packs it, and its entry in containerd_releases."""

    def stamped(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid = epoch, 0, 0
        return member

    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(programs, "bin", filter=stamped)
    return {"src": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, nodes: dict[str, Node]) -> dict[str, Any]:
    """Variables of an installation from archives, made of what Debian 13 packages; ``next`` is another version of it."""
    directory = tmp_path_factory.mktemp("releases")
    trixie = nodes["trixie"]
    daemon.install(trixie)
    (directory / "bin").mkdir()

    def fetch(program: str, to: Path) -> None:
        run(["scp", "-q", "-F", str(WORK / "nodes" / trixie.name / "ssh_config"), f"{trixie.name}:{program}", str(to)])

    for program in PROGRAMS:
        fetch(program, directory / "bin")
    runc = directory / "runc.amd64"
    fetch("/usr/sbin/runc", runc)
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    return {
        "first": {
            "containerd_install_method": "archive",
            "containerd_version": "1.7.24",
            "containerd_releases": {architecture: pack(directory / "first.tar.gz", directory / "bin", 1)},
            "containerd_runc_version": "1.1.15",
            "containerd_runc_releases": {
                architecture: {"src": str(runc), "sha256": hashlib.sha256(runc.read_bytes()).hexdigest()}
            },
        },
        "next": {
            "containerd_version": "1.7.24-2",
            "containerd_releases": {architecture: pack(directory / "next.tar.gz", directory / "bin", 2)},
        },
        "wrong": {
            "containerd_releases": {architecture: {"src": str(directory / "first.tar.gz"), "sha256": "0" * 64}},
        },
    }


@pytest.fixture
def fresh_trixie() -> Iterator[Node]:
    with made("trixie") as node:
        yield node


def program_of(node: Node) -> str:
    """The program that the daemon runs, with links resolved."""
    return node.exec("readlink", f"/proc/{daemon.main_pid(node)}/exe").stdout.strip()


def messages(played: dict[str, Any], node: Node) -> str:
    """What the failed tasks said."""
    results = [task["hosts"].get(node.name, {}) for play in played["plays"] for task in play["tasks"]]
    return " ".join(str(result.get("msg")) for result in results if result.get("failed"))


def installed(node: Node) -> str:
    """What an installation from archives would leave."""
    return node.ssh(
        "find /usr/local/lib /usr/local/bin /usr/bin/containerd /etc/systemd/system/containerd* /var/tmp -mindepth 1", check=False
    ).stdout


def listed(node: Node) -> set[str]:
    """Every file on the node but those that Ansible makes itself when it copies one there."""
    return {line for line in daemon.etc_hashes(node) if not line.startswith(("/root/.ansible", "/root d "))}


@pytest.mark.usefixtures("trixie")
def test_releases_are_installed_changed_and_taken_back(releases: dict[str, Any], fresh_trixie: Node) -> None:
    node, first = fresh_trixie, releases["first"]
    pristine = installed(node)
    wrong = node.play(PROVISION, {**first, **releases["wrong"]})
    assert wrong["stats"][node.name]["failures"] == 1
    assert "sha256" in messages(wrong, node)
    assert installed(node) == pristine

    before = listed(node)
    predicted = node.play(PROVISION, first, check=True)
    succeeded(predicted, node)
    assert listed(node) == before

    done = node.play(PROVISION, first)
    succeeded(done, node)
    assert set(changed(predicted, node)) == set(changed(done, node))
    assert daemon.is_well(node)
    assert "/slipway/containerd/1.7.24-" in program_of(node)
    assert node.ssh("dpkg-query --show containerd", check=False).returncode != 0
    assert succeeded(node.play(PROVISION, first), node)["changed"] == 0
    succeeded(node.play(VERIFY, first), node)

    program = program_of(node)
    upgraded = {**first, **releases["next"]}
    succeeded(node.play(PROVISION, upgraded), node)
    assert "/slipway/containerd/1.7.24-2-" in program_of(node)
    assert daemon.is_well(node)
    assert succeeded(node.play(PROVISION, upgraded), node)["changed"] == 0

    succeeded(node.play(PROVISION, first), node)
    assert program_of(node) == program
    assert daemon.is_well(node)
    assert node.ssh("find /root/.ansible/tmp -mindepth 1", check=False).stdout == ""


@pytest.mark.smoke
@pytest.mark.parametrize("network", ["10.0.0.0/99", "10.0.0.300", "fd00::/200", "10.0.0/8/8"])
def test_a_network_that_is_none_is_refused(trixie: Node, network: str) -> None:
    before, pid = daemon.etc_hashes(trixie), daemon.main_pid(trixie)
    proxy = {"https": "http://proxy.example:3128", "no_proxy": ["localhost", ".example", "10.0.0.0/8", network]}
    for check in (True, False):
        played = trixie.play(PROVISION, {"containerd_http_proxy": proxy}, check=check)
        assert played["stats"][trixie.name]["failures"] == 1
        said = messages(played, trixie)
        assert "containerd_http_proxy.no_proxy" in said and network in said, said
    assert daemon.etc_hashes(trixie) == before
    assert daemon.main_pid(trixie) == pid


def test_credentials_are_neither_shown_nor_readable(trixie: Node, tmp_path: Path) -> None:
    variables = tmp_path / "variables.json"
    shown = ""
    for password in (PASSWORD, "another one"):
        registries = [{"name": "registry.example", "username": "node", "password": password}]
        proxy = {"https": f"http://builder:{password.replace(' ', '-')}@proxy.example:3128"}
        variables.write_text(json.dumps({"containerd_registries": registries, "containerd_http_proxy": proxy}))
        for flags in (["--check"], []):
            argv = ["-i", str(trixie.inventory), "--limit", trixie.name, "-e", f"@{variables}", "-vvv", "--diff", *flags]
            done = ansible("ansible-playbook", *argv, PROVISION)
            shown += done.stdout + done.stderr
    assert "registry.example" in shown
    for secret in (PASSWORD, PASSWORD.replace(" ", "-"), "another one", "another-one"):
        assert secret not in shown
    secret_files = trixie.ssh("grep -rliE 'authorization|builder:' /etc/containerd /etc/systemd/system").stdout.split()
    assert len(secret_files) == 2, secret_files
    assert set(trixie.exec("stat", "--format=%a", *secret_files).stdout.split()) == {"600"}
    trixie.module("containerd_registry", {"state": "absent"})


def test_the_fleets_report_puts_the_worst_first(trixie: Node, tmp_path: Path) -> None:
    """One daemon under two names: for one inventory entry it is what it should be, for the other it isn't."""
    done = trixie.module("containerd_config", {"settings": {"image_pull_sync_fs": True}})
    assert not done.get("failed"), done
    reached = {
        "ansible_host": trixie.address,
        "ansible_port": 2222,
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-F {WORK}/nodes/{trixie.name}/ssh_config",
    }
    hosts = {
        "a-good": reached,
        "b-gone": {**reached, "ansible_port": 1},
        "c-broken": {**reached, "containerd_max_concurrent_downloads": 99},
        "d-unread": {**reached, "verify_only": ["nosuch"]},
    }
    inventory = tmp_path / "fleet.yml"
    inventory.write_text(json.dumps({"all": {"children": {"nodes": {"hosts": hosts}}}}))
    report = tmp_path / "report"
    argv = ["-i", str(inventory), VERIFY, "-e", f"verify_report_dir={os.path.relpath(report, CHECKOUT)}"]
    argv += ["-e", "verify_query=nodes[:2].name"]
    report.mkdir()
    before = daemon.etc_hashes(trixie)
    played = ansible("ansible-playbook", *argv, check=False)
    assert played.returncode != 0
    assert daemon.etc_hashes(trixie) == before

    fleet = json.loads((report / "fleet.json").read_text())
    assert [(node["name"], node["worst"]) for node in fleet["nodes"]] == [
        ("c-broken", "fail"),
        ("b-gone", "unreachable"),
        ("d-unread", "unreachable"),
        ("a-good", fleet["nodes"][3]["worst"]),
    ]
    assert fleet["nodes"][3]["worst"] in ("ok", "warn")
    assert "only names no check" in fleet["nodes"][2]["reason"]
    failed = [finding["id"] for finding in fleet["nodes"][0]["findings"].values() if finding["status"] == "fail"]
    assert failed == ["config_settings"], failed
    page = (report / "fleet.html").read_text()
    places = [page.index(f">{name}<") for name in ("c-broken", "b-gone", "d-unread")]
    assert places == sorted(places)
    assert "ansible -m ping NODE" in page and "only names no check" in page
    assert 0 < fleet["seconds"] < 600
    assert fleet["nodes"][1]["reason"] in (group["found"] for group in fleet["groups"] if group["status"] == "unreachable")
    assert re.search(r"msg:\s+- c-broken\s+- b-gone\n", played.stdout), played.stdout
    assert "c-broken" in played.stdout and "max_concurrent_downloads" in played.stdout


def test_a_wrong_query_ends_the_run_before_a_node_is_read(trixie: Node) -> None:
    argv = [
        "-i",
        str(trixie.inventory),
        "--limit",
        f"{trixie.name},localhost",
        "-e",
        "verify_query=nodes[?worst='fail'].name",
        VERIFY,
    ]
    played = ansible("ansible-playbook", *argv, check=False)
    assert played.returncode != 0
    assert "verify_query is not a JMESPath expression: \"nodes[?worst='fail'].name\": Unknown token '='" in played.stdout
    assert "Compare the node with the specification" not in played.stdout


@pytest.fixture
def elsewhere(trixie: Node) -> Iterator[str]:
    """The path of containerd on a node that has it where neither the unit nor a standard directory shows it."""
    daemon.install(trixie)
    daemon.reset(trixie)
    unit = "/run/systemd/system/containerd.service.d"
    start = "ExecStart=\\nExecStart=/bin/sh -c 'exec /opt/bin/containerd'"
    trixie.ssh(
        f"mkdir -p /opt/bin {unit}; mv /usr/bin/containerd /usr/bin/ctr /opt/bin/; "
        f'printf "[Service]\\n{start}\\n" > {unit}/elsewhere.conf'
    )
    daemon.restart(trixie)
    yield "/opt/bin/containerd"
    trixie.ssh(f"mv /opt/bin/containerd /opt/bin/ctr /usr/bin/; rm -r {unit}")
    daemon.reset(trixie)


def test_a_containerd_in_another_directory_is_named_once(trixie: Node, elsewhere: str) -> None:
    settings: dict[str, Any] = {"containerd_install_method": "none", "toolbox_snapshots": []}
    unnamed = trixie.play(VERIFY, settings)
    assert "containerd isn't installed on the node" in json.dumps(unnamed)
    settings["containerd_binary"] = elsewhere
    for check in (True, False):
        succeeded(trixie.play(PROVISION, settings, check=check), trixie)
    for playbook in (PROVISION, VERIFY, "slipway.node.repair"):
        assert succeeded(trixie.play(playbook, settings), trixie)["changed"] == 0


def test_the_python_of_ansibles_settings_is_the_one_that_is_checked(tmp_path: Path) -> None:
    """One that is too old to read TOML: the prediction ends there, and says so."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 5\n")
    python.chmod(0o755)
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"nodes": {"hosts": {"here": {"ansible_connection": "local"}}}}))
    playbook = tmp_path / "bootstrap.json"
    later = {"ansible.builtin.fail": {"msg": "the prediction goes on"}}
    playbook.write_text(
        json.dumps([{"hosts": "nodes", "gather_facts": False, "roles": ["slipway.node.bootstrap"], "tasks": [later]}])
    )
    settings = tmp_path / "ansible.cfg"
    settings.write_text(f"[defaults]\ninterpreter_python = {python}\n")
    for env in ({"ANSIBLE_PYTHON_INTERPRETER": str(python)}, {"ANSIBLE_CONFIG": str(settings)}):
        played = ansible_json("ansible-playbook", "-i", str(inventory), str(playbook), "--check", env=env)
        results = [task["hosts"]["here"] for task in played["plays"][0]["tasks"] if "here" in task["hosts"]]
        assert [result["msg"] for result in results if "prediction of here ends here" in str(result.get("msg"))], results
        assert played["stats"]["here"]["failures"] == 0


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")))
def test_an_inventory_without_nodes_is_an_error(playbook: str, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"others": {"hosts": {"here": {"ansible_connection": "local"}}}}))
    played = ansible("ansible-playbook", "-i", str(inventory), f"slipway.node.{playbook}", check=False)
    assert played.returncode == 2
    assert "The inventory has no host in 'nodes': add the nodes to that group" in played.stdout + played.stderr


@pytest.fixture(scope="module")
def bare() -> Iterator[Node]:
    """A node without containerd, which the tests leave as they found it."""
    with made("trixie") as node:
        node.ssh("apt-get -qq update")
        yield node


def fake_package(node: Node, fields: dict[str, str]) -> str:
    """Build a package with the program containerd on the node; returns the path of its file."""
    name = f"/root/{fields['Package']}"
    version = fields["Version"].partition("-")[0]
    node.ssh(f"mkdir -p {name}/DEBIAN {name}/usr/bin")
    control = {"Architecture": "all", "Maintainer": "tests <root@localhost>", "Description": "stands in", **fields}
    daemon.write(node, f"{name}/DEBIAN/control", "".join(f"{key}: {value}\n" for key, value in control.items()))
    daemon.write(node, f"{name}/usr/bin/containerd", f"#!/bin/sh\necho containerd example.invalid {version} 0\n")
    node.ssh(f"chmod 755 {name}/usr/bin/containerd; dpkg-deb --build --root-owner-group {name} {name}.deb")
    return f"{name}.deb"


def refused_twice(node: Node, variables: dict[str, Any], *words: str) -> None:
    """Provisioning fails with these words, also in check mode, and changes no package."""
    packages = node.ssh("dpkg-query --show").stdout
    for check in (True, False):
        played = node.play(PROVISION, variables, check=check)
        assert played["stats"][node.name]["failures"] == 1
        assert all(word in messages(played, node) for word in words), messages(played, node)
    before, after = ({*text.splitlines()} for text in (packages, node.ssh("dpkg-query --show").stdout))
    assert before <= after
    assert not {line for line in after - before if line.startswith(("containerd", "runc"))}


def test_a_package_that_is_in_the_way_is_not_removed(bare: Node) -> None:
    """Docker's containerd.io conflicts with the distribution's package, and replaces it."""
    relations = dict.fromkeys(("Conflicts", "Replaces", "Provides"), "containerd")
    package = fake_package(bare, {"Package": "containerd.io", "Version": "1.7.99-1", **relations})
    bare.ssh(f"dpkg --install {package}")
    try:
        refused_twice(
            bare, SETTINGS, "apt would remove containerd.io", "containerd_install_method to none", "containerd_packages"
        )
        played = bare.play(PROVISION, {"containerd_packages": ["containerd.io"]}, check=True)
        assert "apt would remove" not in messages(played, bare)
        assert "Predict the packages that apt would install" not in changed(played, bare)
    finally:
        bare.ssh("dpkg --purge containerd.io")


def test_a_program_that_belongs_to_no_package_gets_no_second_one_beside_it(bare: Node) -> None:
    daemon.write(bare, "/usr/local/bin/containerd", "#!/bin/sh\necho containerd example.invalid 2.2.2 0\n")
    bare.ssh("chmod 755 /usr/local/bin/containerd")
    try:
        refused_twice(bare, SETTINGS, "belongs to no package, /usr/local/bin/containerd", "containerd_install_method to none")
    finally:
        bare.ssh("rm /usr/local/bin/containerd")


def test_a_candidate_that_is_too_old_is_not_installed(bare: Node) -> None:
    package = fake_package(bare, {"Package": "containerd", "Version": "1.4.13-1"})
    index = f"(dpkg-deb --field {package} | grep .; echo Filename: ./containerd.deb; stat --printf 'Size: %s\\n' {package}; "
    index += f"echo SHA256: $(sha256sum < {package} | cut -c 1-64)) > /srv/old/Packages"
    bare.ssh(f"mkdir -p /srv/old; cp {package} /srv/old; {index}; chmod -R a+rX /srv/old")
    daemon.write(bare, "/etc/apt/sources.list.d/old.list", "deb [trusted=yes] file:/srv/old ./\n")
    daemon.write(bare, "/etc/apt/preferences.d/old", "Package: containerd\nPin: version 1.4*\nPin-Priority: 1001\n")
    bare.ssh("apt-get -qq update")
    try:
        refused_twice(bare, SETTINGS, "containerd 1.4.13 is not supported")
    finally:
        bare.ssh("rm -r /etc/apt/sources.list.d/old.list /etc/apt/preferences.d/old /srv/old; apt-get -qq update")


def test_a_release_that_is_too_old_is_not_installed(bare: Node) -> None:
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    release = {architecture: {"src": "/nowhere/containerd-1.5.18.tar.gz", "sha256": "0" * 64}}
    variables = {"containerd_install_method": "archive", "containerd_version": "1.5.18", "containerd_releases": release}
    refused_twice(bare, variables, "containerd_version is 1.5.18, which is not supported")
