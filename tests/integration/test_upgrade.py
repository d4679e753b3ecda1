# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_upgrade: the node has a working new version, or its previous state. Containers keep running."""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from integration.toolbox_module import box, emptied, is_mounted, steps_of

from nodes import daemon
from nodes.images import busybox
from nodes.node import CHECKOUT, Node, run
from nodes.payload import command, install, run_module
from nodes.registry import Registry

MODULE = "containerd_upgrade"
HOME = "/usr/local/lib/slipway/containerd"
STATE = "/var/lib/slipway-node"
UNIT = "/etc/systemd/system/containerd.service"
METADATA = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
NAME = "survivor"
UNIT_CONTENT = """# Managed by slipway.node: changes made here are lost.
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
# A key of an administrator, and settings of the collection that are in other places of other schemas.
THEIRS = f"""version = 2
[grpc]
  max_recv_message_size = 33554432
[plugins."{daemon.CRI}".cni]
  bin_dir = "/usr/lib/cni"
"""
BLOCKED = "/run/systemd/system/containerd.service.d/90-blocked.conf"
FOREIGN_UNIT = "/etc/systemd/system/containerd.service.d/10-theirs.conf"
SETTINGS = {"settings": {"max_concurrent_downloads": 6, "snapshotter": "overlayfs", "runtimes": []}}


@functools.cache
def staged(node: Node, version: str) -> str:
    """Stage a release on the node, once; return the path of its version directory."""
    [release] = json.loads(run([str(CHECKOUT / "tests/upstream"), "--releases", "containerd", version]).stdout).values()
    done = node.module("release_install", {"name": "containerd", "version": version, "state": "staged", **release})
    assert not done.get("failed"), done
    path: str = done["path"]
    return path


def to(path: str, **options: Any) -> dict[str, Any]:
    """Options for an upgrade to a staged release."""
    return {
        "to_binary": f"{path}/bin/containerd",
        "releases": [{"name": "containerd", "path": path}],
        "unit_content": UNIT_CONTENT,
        **SETTINGS,
        **options,
    }


def cleaned(node: Node) -> None:
    node.ssh(
        f"systemctl disable slipway-restore.service; rm -rf {STATE} {HOME}/current {HOME}/2.3.7-bad /run/slipway-upgrading "
        f"/etc/systemd/system/slipway-restore.service {UNIT} /usr/local/sbin/systemctl; "
        "find /usr/local/bin -lname '*slipway*' -delete; "
        f"for name in {NAME} newer; do ctr tasks rm --force $name; ctr containers rm $name; done; pkill -KILL -x busybox; "
        "runc --root /run/containerd/runc/default delete --force newer; "
        "systemctl daemon-reload",
        check=False,
    )


@pytest.fixture
def old(trixie: Node, source: Registry) -> Iterator[Node]:
    """1.7.24 as packaged, 2.3.7 staged, with settings of the collection, files of others, and a running container."""
    staged(trixie, "2.3.7")
    cleaned(trixie)
    # A database that a failed test has damaged.
    trixie.ssh(f"grep -q damaged {METADATA} && systemctl stop containerd && rm {METADATA}", check=False)
    daemon.reset(trixie, THEIRS)
    daemon.write(trixie, FOREIGN_UNIT, "[Service]\nLimitNOFILE=54321")
    done = run_module(trixie, "containerd_config", SETTINGS)
    assert not done.get("failed"), done
    image = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    trixie.ssh(f"ctr images pull --plain-http {image} && ctr run --detach --cpu-shares 0 {image} {NAME}")
    yield trixie
    cleaned(trixie)
    daemon.reset(trixie)
    emptied(trixie)


@pytest.fixture
def newer(lts: Node, source: Registry) -> Iterator[Node]:
    """2.3.7 from an archive, 2.4.2 staged, and a running container."""
    staged(lts, "2.4.2")
    lts.ssh(f"rm -rf {STATE}")
    image = source.push([busybox()], command=["/bin/busybox", "sleep", "100000"])
    lts.ssh(f"ctr images pull --plain-http {image} && ctr run --detach --cpu-shares 0 {image} {NAME}")
    yield lts
    lts.ssh(f"[ ! -d {STATE}/generations/1 ] || {STATE}/restore 1 keep")
    lts.ssh(
        f"systemctl disable slipway-restore.service; rm -rf {STATE} /etc/systemd/system/slipway-restore.service; "
        f"systemctl restart containerd; ctr tasks rm --force {NAME}; ctr containers rm {NAME}",
        check=False,
    )
    daemon.reset(lts)


def test_an_archive_is_upgraded_and_taken_back_with_containers_of_both(newer: Node) -> None:
    before = files(newer), container(newer)
    options = {key: value for key, value in to(staged(newer, "2.4.2")).items() if key != "unit_content"}
    done = run_module(newer, MODULE, options)
    assert not done.get("failed"), done
    assert (version(newer), container(newer), done["containers"]) == ("2.4.2", before[1], 1)
    newer.ssh(f"ctr run --detach --cpu-shares 0 {image_of(newer)} {NAME}2")
    running = container(newer)
    assert len(running) == 2
    back = run_module(newer, MODULE, {"state": "previous"})
    assert not back.get("failed"), back
    assert (version(newer), container(newer), back["containers"]) == ("2.3.7", running, 2)
    assert files(newer) == before[0]
    newer.ssh(f"ctr tasks rm --force {NAME}2; ctr containers rm {NAME}2")


def container(node: Node) -> list[str]:
    """The containers with their processes, by name: the daemon lists them in any order."""
    return sorted(" ".join(row.split()) for row in node.exec("ctr", "tasks", "ls").stdout.splitlines() if row.startswith(NAME))


def image_of(node: Node) -> str:
    """The image of the container."""
    rows = [row.split() for row in node.exec("ctr", "containers", "ls").stdout.splitlines()]
    (image,) = (row[1] for row in rows if row[0] == NAME)
    return image


def version(node: Node) -> str:
    """The version of the running daemon."""
    return node.ssh(f"/proc/{daemon.main_pid(node)}/exe --version").stdout.split()[2].lstrip("v")


def files(node: Node) -> set[str]:
    """Every file of /etc and the programs, without the times at which they were written."""
    lines = node.ssh(
        "find /etc/containerd /etc/systemd /usr/local/bin /usr/local/lib/slipway -xdev ! -type d -printf '%p %y %m %U %G %l\\n'; "
        "find /etc/containerd /etc/systemd /usr/local/lib/slipway -xdev -type f -print0 | xargs -0 sha256sum"
    ).stdout.splitlines()
    return {line for line in lines if "slipway-restore" not in line}


def test_a_container_runs_through_an_upgrade_that_was_predicted(old: Node) -> None:
    path = staged(old, "2.3.7")
    image = image_of(old)
    assert not box(old, image).get("failed")
    before, running = files(old), container(old)
    assert running and "RUNNING" in running[0]
    predicted = run_module(old, MODULE, to(path), check=True)
    assert not predicted.get("failed"), predicted
    assert files(old) == before and version(old).startswith("1.7.24")
    assert (predicted["changed"], predicted["version"], predicted["to_version"]) == (True, "1.7.24", "2.3.7")

    done = run_module(old, MODULE, to(path))
    assert not done.get("failed"), done
    assert version(old) == "2.3.7" and daemon.is_well(old)
    assert container(old) == running
    assert (done["generation"], done["containers"], done["rolled_back"]) == (1, 1, False)
    assert {key: value for key, value in done.items() if key not in ("generation", "invocation")} == {
        key: value for key, value in predicted.items() if key not in ("generation", "invocation")
    }
    dump = old.exec("containerd", "config", "dump").stdout
    assert "max_concurrent_downloads = 6" in dump and "33554432" in dump
    again = run_module(old, MODULE, to(path))
    assert (again.get("failed", False), again["changed"]) == (False, False), again
    # 2.x names the same options of the mount in another order.
    assert is_mounted(old) and steps_of(box(old, image)) in ([], ["unit"])
    assert old.ssh(f"ls {STATE}/upgrading /run/slipway-upgrading", check=False).returncode != 0


def spoiled(node: Node, path: str, program: str, script: str) -> str:
    """Copy a staged release with another program in it; return the path of its version directory."""
    bad = f"{HOME}/2.3.7-bad"
    node.ssh(f"rm -rf {bad}; cp -a {path} {bad}; mv {bad}/bin/{program} {bad}/bin/{program}.real")
    daemon.write(node, f"{bad}/bin/{program}", f"#!/bin/sh\n{script}")
    node.ssh(
        f"chmod 755 {bad}/bin/{program}; size=$(stat -c %s {bad}/bin/{program}); "
        f"sed -i 's|\"bin/{program}\": [0-9]*|\"bin/{program}\": '$size'|' {bad}/.slipway-manifest.json"
    )
    return bad


# A program that prints its version and the configuration, and ends when it is started as the daemon.
NO_DAEMON = 'case "$*" in *--version*|*config*) exec "$0.real" "$@";; esac\necho "containerd: no daemon in this one" >&2\nexit 3'
NO_SHIM = 'echo "this shim can not run" >&2\nexit 1'


def is_as_before(node: Node, before: set[str], running: list[str], generations: int = 0) -> None:
    """Check that the node has its earlier files, version and container, and no trace of an upgrade except generations."""
    assert files(node) == before
    assert version(node).startswith("1.7.24") and daemon.is_well(node)
    assert container(node) == running
    assert node.ssh(f"ls -d {STATE}/upgrading /run/slipway-upgrading", check=False).stdout == ""
    assert len(node.ssh(f"ls {STATE}/generations", check=False).stdout.split()) == generations


@pytest.mark.parametrize(
    ("program", "script", "settings", "words"),
    [
        ("containerd", NO_DAEMON, {}, ("no daemon in this one",)),
        ("containerd-shim-runc-v2", NO_SHIM, {}, ("no container starts with the runtime handler",)),
        (None, "", {"extra_config": {"plugins": {daemon.CRI: {"stream_idle_timeout": "soon"}}}}, ("CRI plugin", "soon")),
    ],
    ids=["a daemon that doesn't start", "a shim that can't run", "a configuration that kills CRI"],
)
def test_a_step_that_fails_leaves_the_node_as_it_was(
    old: Node, program: str | None, script: str, settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    path = staged(old, "2.3.7")
    bad = spoiled(old, path, program, script) if program else path
    before, running = files(old), container(old)
    options = to(bad, probe=program == "containerd-shim-runc-v2")
    options["settings"] = {**options["settings"], **settings}
    failed = run_module(old, MODULE, options)
    assert failed["failed"] and failed["rolled_back"], failed
    assert all(word in failed["msg"] for word in (*words, "is back on containerd 1.7.24, which is healthy")), failed["msg"]
    is_as_before(old, before, running)


def test_databases_that_the_older_version_does_not_open_go_back_too(old: Node) -> None:
    damage = NO_DAEMON.replace("echo", f"echo damaged > {METADATA}\necho")
    bad = spoiled(old, staged(old, "2.3.7"), "containerd", damage)
    before, running = files(old), container(old)
    failed = run_module(old, MODULE, to(bad, probe=False))
    assert (failed["failed"], failed["rolled_back"], failed["databases"]) == (True, True, "restored"), failed
    is_as_before(old, before, running)


def test_a_node_that_does_not_come_back_is_named_and_recovered_later(old: Node) -> None:
    damage = NO_DAEMON.replace("echo", "chmod 644 /usr/bin/containerd\necho")
    bad = spoiled(old, staged(old, "2.3.7"), "containerd", damage)
    before, running = files(old), container(old)
    failed = run_module(old, MODULE, to(bad, probe=False))
    assert (failed["failed"], failed["rolled_back"], failed["generation"]) == (True, False, 1), failed
    assert "The node is NOT proven" in failed["msg"] and "state=recovered" in failed["msg"]
    again = run_module(old, MODULE, {"state": "recovered", "probe": False})
    assert again["failed"] and "The node is NOT proven" in again["msg"], again
    old.ssh("chmod 755 /usr/bin/containerd")
    found = run_module(old, MODULE, {"state": "recovered", "probe": False})
    assert not found.get("failed"), found
    is_as_before(old, before, running)


# A Python that is killed right after it wrote a step to the journal.
AFTER = """
import os, signal
rename = os.rename
def renamed(source, target, **options):
    rename(source, target, **options)
    if target.endswith("/slipway-node/upgrading") and "STEP=%s" in open(target).read():
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = renamed
"""
# A Python that is killed right before its rename with this number.
BEFORE = """
import os, signal
rename, renames = os.rename, []
def renamed(source, target, **options):
    if "slipway-bytecode" not in str(target):
        renames.append(target)
    if len(renames) == %s:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target, **options)
os.rename = renamed
"""


def killed(node: Node, when: str, options: dict[str, Any]) -> bool:
    """Run the module with a Python that may be killed; return whether it was."""
    daemon.write(node, "/run/killing/sitecustomize.py", when)
    install(node)
    *argv, text = command(MODULE, options)
    argv[1] += ":/run/killing"
    done = node.ssh(f"printf %s {shlex.quote(text)} | {shlex.join(argv)}; rm -r /run/killing", check=False)
    return done.stdout == ""


def killed_after(node: Node, step: str, options: dict[str, Any]) -> None:
    assert killed(node, AFTER % step, options)
    assert f"STEP={step}" in node.ssh(f"cat {STATE}/upgrading").stdout


def test_a_killed_run_is_taken_back_by_the_next(old: Node) -> None:
    before, running = files(old), container(old)
    for step in ("keeping", "switching", "started"):
        killed_after(old, step, to(staged(old, "2.3.7"), probe=False))
        refused = run_module(old, "containerd_config", SETTINGS)
        assert "run slipway.node.upgrade first" in refused["msg"]
        if step == "switching":
            # Even without a next run, no daemon starts on files of both versions.
            old.ssh("systemctl start containerd")
            assert version(old).startswith("1.7.24")
        found = run_module(old, MODULE, {"state": "recovered", "probe": False})
        assert not found.get("failed"), found
        assert found["recovered"]["step"] == ("restored" if step == "switching" else step)
        is_as_before(old, before, running)


@pytest.mark.skipif("EVERY_MOMENT" not in os.environ, reason="EVERY_MOMENT=1 runs it, for some minutes")
def test_a_run_that_is_killed_at_every_moment_is_taken_back(old: Node) -> None:
    before, running = files(old), container(old)
    options = to(staged(old, "2.3.7"), probe=False)
    number = 1
    while killed(old, BEFORE % number, options):
        found = run_module(old, MODULE, {"state": "recovered", "probe": False})
        assert not found.get("failed"), (number, found)
        is_as_before(old, before, running)
        number += 1
    assert number > 20
    assert version(old) == "2.3.7" and container(old) == running


def test_a_run_that_was_killed_at_its_end_is_finished_by_the_next(old: Node) -> None:
    options = to(staged(old, "2.3.7"), probe=False)
    killed_after(old, "committed", options)
    found = run_module(old, MODULE, options)
    assert not found.get("failed"), found
    assert (found["recovered"]["step"], found["generation"], version(old)) == ("committed", None, "2.3.7")
    assert run_module(old, MODULE, options)["changed"] is False


def test_a_container_that_the_older_version_would_end_is_not_ended_unasked(old: Node) -> None:
    """containerd 1.x doesn't find shims that 2.x has started."""
    assert not run_module(old, MODULE, to(staged(old, "2.3.7"), probe=False)).get("failed")
    old.ssh(f"ctr run --detach --cpu-shares 0 {image_of(old)} newer")
    for check in (True, False):
        refused = run_module(old, MODULE, {"state": "previous"}, check=check)
        assert "default/newer" in refused["msg"] and "restart to force" in refused["msg"], refused
    forced = run_module(old, MODULE, {"state": "previous", "restart": "force", "probe": False})
    assert not forced.get("failed"), forced
    assert version(old).startswith("1.7.24") and len(container(old)) == 1


def test_the_node_goes_back_to_the_previous_version_and_forth(old: Node) -> None:
    before, running = files(old), container(old)
    done = run_module(old, MODULE, to(staged(old, "2.3.7"), probe=False))
    assert not done.get("failed"), done
    upgraded = files(old)

    predicted = run_module(old, MODULE, {"state": "previous"}, check=True)
    assert files(old) == upgraded
    back = run_module(old, MODULE, {"state": "previous"})
    assert not back.get("failed"), back
    assert (back["version"], back["to_version"], back["generation"]) == ("2.3.7", "1.7.24", 2)
    assert {**back, "generation": None} == {**predicted, "invocation": back["invocation"]}
    is_as_before(old, before, running, generations=2)
    assert old.ssh("ls -d /etc/containerd/conf.d", check=False).stdout == ""
    again = run_module(old, MODULE, {"state": "previous"})
    assert (again.get("failed", False), again["changed"]) == (False, False), again

    forth = run_module(old, MODULE, {"state": "previous", "generation": 2, "probe": False})
    assert not forth.get("failed"), forth
    assert (version(old), files(old), container(old)) == ("2.3.7", upgraded, running)
    assert old.ssh(f"ls {STATE}/generations").stdout.split() == ["2", "3"]


def test_a_node_goes_back_from_a_daemon_that_is_dead(old: Node) -> None:
    """Its program doesn't even say its version, and a first attempt fails as well."""
    before, running = files(old), container(old)
    assert not run_module(old, MODULE, to(staged(old, "2.3.7"), probe=False)).get("failed")
    program = old.ssh("readlink -f /usr/local/bin/containerd").stdout.strip()
    old.ssh(f"systemctl stop containerd; mv {program} {program}.real")
    daemon.write(old, program, "#!/bin/sh\nexit 1")
    try:
        daemon.write(old, BLOCKED, "[Service]\nExecStartPre=/bin/false")
        old.ssh(f"chmod 755 {program}; systemctl daemon-reload")
        failed = run_module(old, MODULE, {"state": "previous", "probe": False})
        assert failed["failed"] and not failed["rolled_back"], failed
        assert "has the files of containerd 2.3.7 again, which wasn't healthy before either" in failed["msg"]
        assert old.ssh(f"ls {STATE}/upgrading", check=False).returncode != 0
        old.ssh(f"rm {BLOCKED}; systemctl daemon-reload")
        back = run_module(old, MODULE, {"state": "previous"})
        assert not back.get("failed"), back
        assert (back["version"], back["to_version"]) == ("2.3.7", "1.7.24")
    finally:
        old.ssh(f"mv {program}.real {program}; rm -f {BLOCKED}; systemctl daemon-reload")
    is_as_before(old, before, running, generations=2)
