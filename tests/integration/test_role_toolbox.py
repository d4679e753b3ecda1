# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Toolboxes with the playbooks: created as predicted, usable, and pruned if they are not listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.test_role import PROVISION, VERIFY, changed, made, messages, succeeded
from integration.test_role_images import finding, kept, results

from nodes import daemon
from nodes.images import chain_ids, random_layers
from nodes.node import Node, ansible
from nodes.registry import Registry, serve
from nodes.toolboxes import PREFIX, enterable, keys, mounted, process_in, removed

# Without the daemon, which test_role.py deals with.
ROLE = "tests/nodes/toolbox.yml"
MEGABYTE = 1024 * 1024
LOGIN = ("node", "correct-horse-battery")
MAKE = "Change the toolboxes"
PREDICT = "Predict the changes of the toolboxes"
PRUNE = "Remove the unlisted toolboxes"
COMMAND = "/usr/local/bin/toolbox"
DEFAULTS = "/etc/default/toolbox"
# What Flatcar's command does before it enters; made again here from its description, see github.com/flatcar/toolbox.
FLATCAR = f"""
set -eu
TOOLBOX_DIRECTORY={PREFIX}
. {DEFAULTS}
name=$(echo "core-$TOOLBOX_DOCKER_IMAGE-$TOOLBOX_DOCKER_TAG" | sed -r 's/[^a-zA-Z0-9_.-]/_/g')
test -f "$TOOLBOX_DIRECTORY/$name/etc/os-release"
SYSTEMD_NSPAWN_SHARE_SYSTEM=1 systemd-nspawn --quiet --directory="$TOOLBOX_DIRECTORY/$name" --capability=all \
  --bind=/:/media/root --bind=/usr:/media/root/usr --bind=/run:/media/root/run --user=root /bin/cat /etc/os-release
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as there:
        yield there


@contextmanager
def cleared(node: Node) -> Iterator[Node]:
    daemon.install(node)
    daemon.reset(node)
    removed(node)
    yield node
    removed(node)


@pytest.fixture
def box_bookworm(bookworm: Node) -> Iterator[Node]:
    with cleared(bookworm):
        yield bookworm


@pytest.fixture
def box_trixie(trixie: Node) -> Iterator[Node]:
    with cleared(trixie):
        yield trixie


@pytest.fixture
def box_sid(sid: Node) -> Iterator[Node]:
    """Where systemd-nspawn runs in a node on a machine with cgroup v1 as well: systemd is new enough to want v2 alone."""
    with cleared(sid):
        yield sid


def entry(image: str, **options: Any) -> dict[str, Any]:
    return {"image": image, "plain_http": True, **options}


def made_by_hand(node: Node, key: str, parent: str, *, size: int = 0) -> None:
    """A pinned toolbox that is mounted, with a file of that many bytes in it."""
    node.ssh(f"ctr snapshots prepare '{key}' {parent} && mkdir -p '{key}' && $(ctr snapshots mounts '{key}' '{key}')")
    node.ssh(f"head -c {size} /dev/urandom > '{key}/blob'; sync")


def used(node: Node) -> int:
    """Bytes of all snapshots."""
    return int(node.ssh("du -sb /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs").stdout.split()[0])


@pytest.mark.parametrize("suite", ["trixie"])
def test_a_fresh_node_gets_the_toolboxes_that_were_predicted(suite: str, registry: Registry) -> None:
    with made(suite) as fresh:
        settings: dict[str, Any] = {
            "toolbox_snapshots": [
                entry(registry.push(enterable()), name="debug"),
                entry(registry.push(random_layers(2)), name="spare", state="present"),
                {"name": "gone", "state": "absent"},
            ],
            "toolbox_install_command": True,
            "toolbox_prune_after": "30d",
        }
        before = kept(fresh)
        predicted = fresh.play(PROVISION, settings, check=True)
        succeeded(predicted, fresh)
        assert kept(fresh) == before
        assert {PREDICT, "Write the command"} <= set(changed(predicted, fresh))
        first = fresh.play(PROVISION, settings)
        succeeded(first, fresh)
        assert {MAKE, "Write the command"} <= set(changed(first, fresh))
        assert mounted(fresh, f"{PREFIX}/debug")
        assert keys(fresh) == {f"{PREFIX}/debug", f"{PREFIX}/spare"}

        assert succeeded(fresh.play(PROVISION, settings), fresh)["changed"] == 0
        verified = fresh.play(VERIFY, settings)
        succeeded(verified, fresh)
        assert {
            finding(verified, fresh, name)["status"] for name in ("toolboxes", "unlisted_snapshots", "snapshots_at_risk")
        } == {"ok"}
        # What isn't in the inventory any more is found, and nothing is done about it.
        alone = {**settings, "toolbox_snapshots": settings["toolbox_snapshots"][:1]}
        unlisted = finding(fresh.play(VERIFY, alone), fresh, "unlisted_snapshots")
        assert unlisted["status"] == "warn" and f"{PREFIX}/spare in default (overlayfs)" in unlisted["found"]


def test_what_nobody_lists_goes_by_age_and_nothing_else(box_bookworm: Node, registry: Registry) -> None:
    node = box_bookworm
    layers = enterable()
    image, top = registry.push(layers), chain_ids(layers)[-1]
    listed: dict[str, Any] = {"toolbox_snapshots": [entry(image, name="listed")]}
    succeeded(node.play(ROLE, listed), node)
    made_by_hand(node, f"{PREFIX}/old", top, size=3 * MEGABYTE)
    made_by_hand(node, f"{PREFIX}/busy", top)
    made_by_hand(node, "/mnt/outside", top, size=MEGABYTE)
    node.ssh(f"ctr snapshots prepare '{PREFIX}/my box' {top}; mkdir '{PREFIX}/my box'")
    there = keys(node)

    young = {**listed, "toolbox_prune_after": "1h"}
    assert succeeded(node.play(ROLE, young), node)["changed"] == 0
    assert keys(node) == there

    exclusive = {**listed, "toolbox_prune_unlisted": True}
    dry = node.play(ROLE, exclusive, check=True)
    succeeded(dry, node)
    assert keys(node) == there
    (said,) = results(dry, node, "Report the freed space")
    assert 3 * MEGABYTE <= int(said["msg"].split()[0]) < 4 * MEGABYTE

    before = used(node)
    with process_in(node, f"{PREFIX}/busy") as pid:
        refused = node.play(ROLE, exclusive)
    assert refused["stats"][node.name]["failures"] == 1
    assert f"pid {pid}" in json.dumps(results(refused, node, PRUNE))
    assert keys(node) == there - {f"{PREFIX}/old", f"{PREFIX}/my box"}
    assert before - used(node) >= 3 * MEGABYTE
    assert node.exec("ls", PREFIX).stdout.split() == ["busy", "listed"]

    succeeded(node.play(ROLE, exclusive), node)
    assert keys(node) == {f"{PREFIX}/listed", "/mnt/outside"}
    assert mounted(node, "/mnt/outside") and mounted(node, f"{PREFIX}/listed")
    assert succeeded(node.play(ROLE, exclusive), node)["changed"] == 0


def test_the_command_enters_and_runs_a_command(box_sid: Node, registry: Registry) -> None:
    settings: dict[str, Any] = {
        "toolbox_snapshots": [entry(registry.push(enterable()), name="debug")],
        "toolbox_install_command": True,
    }
    succeeded(box_sid.play(ROLE, settings), box_sid)
    entered = box_sid.exec("toolbox", "/bin/cat", "/etc/os-release", "/media/root/etc/hostname")
    assert entered.stdout.split() == ["ID=boxed", box_sid.ssh("cat /etc/hostname").stdout.strip()]
    assert box_sid.exec("toolbox", "-c", "echo $((6 * 7)) > /written", check=False).returncode == 0
    assert box_sid.ssh(f"cat {PREFIX}/debug/written").stdout == "42\n"
    # With the node's processes, the shell's own number is one of the node's.
    assert int(box_sid.exec("toolbox", "/bin/sh", "-c", "echo $$").stdout) > 10
    assert box_sid.exec("toolbox", "/bin/sh", "-c", "exit 7", check=False).returncode == 7
    assert succeeded(box_sid.play(ROLE, settings), box_sid)["changed"] == 0

    box_sid.exec("systemctl", "stop", "var-lib-toolbox-debug.mount")
    stopped = box_sid.exec("toolbox", "/bin/sh", check=False)
    assert stopped.returncode == 1 and f"{PREFIX}/debug is not mounted" in stopped.stderr
    settings["toolbox_install_command"] = False
    succeeded(box_sid.play(ROLE, settings), box_sid)
    assert box_sid.exec("test", "-e", COMMAND, check=False).returncode == 1
    assert mounted(box_sid, f"{PREFIX}/debug")


def test_flatcars_command_finds_its_toolbox(box_sid: Node, registry: Registry) -> None:
    box_sid.ssh("command -v systemd-nspawn || apt-get -qq install --no-install-recommends systemd-container >/dev/null")
    image = registry.push(enterable())
    settings = {"toolbox_snapshots": [entry(image)], "toolbox_flatcar_defaults": True}
    succeeded(box_sid.play(ROLE, settings), box_sid)
    repository, _colon, tag = image.rpartition(":")
    lines = (daemon.read(box_sid, DEFAULTS) or "").splitlines()[1:]
    assert lines == [f"TOOLBOX_DOCKER_IMAGE={repository}", f"TOOLBOX_DOCKER_TAG={tag}", f"TOOLBOX_DIRECTORY={PREFIX}"]
    daemon.write(box_sid, "/root/flatcar.sh", FLATCAR)
    assert box_sid.ssh("bash /root/flatcar.sh").stdout.strip() == "ID=boxed"
    assert succeeded(box_sid.play(ROLE, settings), box_sid)["changed"] == 0
    verified = box_sid.play(VERIFY, {**settings, "verify_only": ["toolboxes", "unlisted_snapshots", "snapshots_at_risk"]})
    succeeded(verified, box_sid)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"toolbox_snapshots": [{"image": "debian:13", "name": "../etc"}]}, "name must be at most"),
    (
        {"toolbox_snapshots": [{"image": "debian:13", "name": "a"}], "toolbox_default_name": "b"},
        "toolbox_default_name names b, but",
    ),
    (
        {"toolbox_snapshots": [{"image": "debian:13", "name": "a"}], "toolbox_flatcar_defaults": True},
        f"Flatcar's command doesn't find {PREFIX}/a",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_inventory_is_refused_before_anything_is_done(trixie: Node, settings: dict[str, Any], sentence: str) -> None:
    played = trixie.play(ROLE, settings)
    assert played["stats"][trixie.name]["failures"] == 1
    assert sentence in messages(played, trixie)
    assert keys(trixie) == set()


def test_files_of_others_are_not_overwritten(box_trixie: Node, registry: Registry) -> None:
    daemon.write(box_trixie, COMMAND, "#!/bin/sh\necho mine")
    settings = {"toolbox_snapshots": [entry(registry.push(enterable()), name="debug")], "toolbox_install_command": True}
    played = box_trixie.play(ROLE, settings)
    assert f"{COMMAND} was not written by this role" in messages(played, box_trixie)
    assert daemon.read(box_trixie, COMMAND) == "#!/bin/sh\necho mine\n"
    del settings["toolbox_install_command"]
    succeeded(box_trixie.play(ROLE, settings), box_trixie)
    assert daemon.read(box_trixie, COMMAND) == "#!/bin/sh\necho mine\n"


def test_credentials_are_not_shown(box_trixie: Node, tmp_path: Path) -> None:
    with serve(tmp_path, LOGIN) as guarded:
        box = entry(guarded.push(random_layers(1)), name="guarded", username=LOGIN[0], password=LOGIN[1])
        variables = tmp_path / "variables.json"
        shown = ""
        for password, code in (("wrong-" + LOGIN[1], 2), (LOGIN[1], 0)):
            variables.write_text(json.dumps({"toolbox_snapshots": [{**box, "password": password}]}))
            limit = ["--limit", f"{box_trixie.name},localhost"]
            argv = ["-i", str(box_trixie.inventory), *limit, "-e", f"@{variables}", "-vvv", "--diff"]
            done = ansible("ansible-playbook", *argv, ROLE, check=False)
            shown += done.stdout + done.stderr
            assert done.returncode == code, shown
    assert f"{PREFIX}/guarded" in keys(box_trixie)
    assert LOGIN[1] not in shown
