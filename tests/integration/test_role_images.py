# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images with the playbooks: pulled once and as predicted, and reported if they are missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.test_role import PROVISION, VERIFY, made, messages, succeeded

from nodes import daemon
from nodes.images import random_layers, write_layout
from nodes.node import Node, ansible, run
from nodes.registry import Registry, serve

CARRIED = "registry.example/carried:1"
LOGIN = ("node", "correct-horse-battery")
PREDICT = "Predict the changes of the images"
BRING = "Pull or import the images, or remove them"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as there:
        yield there


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``docker save`` writes, of an image with the name CARRIED."""
    return pack(tmp_path_factory.mktemp("archive"))


def pack(directory: Path) -> Path:
    layout = write_layout(directory / "layout", random_layers(2))
    run(["skopeo", "copy", "--quiet", f"oci:{layout}:1", f"docker-archive:{directory}/images.tar:{CARRIED}"])
    return directory / "images.tar"


@pytest.fixture
def fresh() -> Iterator[Node]:
    with made("2.3") as node:
        yield node


def results(played: dict[str, Any], node: Node, name: str) -> list[dict[str, Any]]:
    """Those of the tasks of that name which weren't skipped."""
    tasks = [task for play in played["plays"] for task in play["tasks"] if task["task"]["name"].endswith(name)]
    found = [task["hosts"][node.name] for task in tasks if node.name in task["hosts"]]
    return [one for one in found if not one.get("skipped")]


def affected(played: dict[str, Any], node: Node) -> set[str]:
    """The images that something was done about, or would be."""
    succeeded(played, node)
    predicted = [one["msg"].split(": ", 1)[1].split(", ") for one in results(played, node, PREDICT)]
    images = [image for one in results(played, node, BRING) for image in one["images"]]
    changing = {name for names in predicted for name in names} | {one["name"] for one in images if one["action"] != "none"}
    assert bool(changing) == any(one["changed"] for name in (PREDICT, BRING) for one in results(played, node, name))
    return changing


def names(node: Node, namespace: str = "k8s.io") -> set[str]:
    listed = node.exec("ctr", "-n", namespace, "images", "ls", "-q").stdout.split()
    return {name for name in listed if not name.startswith("sha256:")}


def kept(node: Node) -> set[str]:
    """Every file on the node but those of Ansible's own."""
    return {line for line in daemon.etc_hashes(node) if not line.startswith(("/root/.ansible", "/root d "))}


def left(node: Node) -> str:
    """What is in Ansible's temporary directories, where archives are sent."""
    return node.ssh("find /root/.ansible/tmp -mindepth 1", check=False).stdout


def finding(played: dict[str, Any], node: Node, name: str) -> dict[str, Any]:
    (read,) = results(played, node, "Compare the node with the specification")
    found: dict[str, Any] = next(one for one in read["checks"] if one["id"] == name)
    return found


def test_a_fresh_node_gets_the_images_that_were_predicted(fresh: Node, registry: Registry, archive: Path) -> None:
    first, second = (registry.push(random_layers(3)) for _ in range(2))
    settings: dict[str, Any] = {
        "containerd_registries": [registry.entry],
        "containerd_images": [
            {"name": first},
            {"name": CARRIED, "archive": str(archive)},
            {"name": [second]},
            {"name": "registry.example/gone:1", "state": "absent"},
        ],
    }
    before = kept(fresh)
    predicted = affected(fresh.play(PROVISION, settings, check=True), fresh)
    assert kept(fresh) == before

    done = fresh.play(PROVISION, settings)
    assert affected(done, fresh) == predicted == {first, second, CARRIED}
    assert names(fresh) == predicted
    pulled, imported, _gone = results(done, fresh, BRING)
    assert [one["name"] for one in pulled["images"]] == [first, second]
    assert {one["durability"] for one in (*pulled["images"], *imported["images"])} == {"durable"}
    assert len(pulled["synced"]) == 1
    assert left(fresh) == ""

    again = fresh.play(PROVISION, settings)
    assert succeeded(again, fresh)["changed"] == 0
    assert succeeded(fresh.play(PROVISION, settings, check=True), fresh)["changed"] == 0
    succeeded(fresh.play(VERIFY, settings), fresh)

    fresh.exec("ctr", "-n", "k8s.io", "images", "rm", "--sync", first, CARRIED)
    missed = fresh.play(VERIFY, settings)
    assert missed["stats"][fresh.name]["failures"] == 1
    assert finding(missed, fresh, "images_present")["found"] == {f"{name} in k8s.io": "not there" for name in (first, CARRIED)}
    assert affected(fresh.play(PROVISION, settings, check=True), fresh) == {first, CARRIED}
    assert affected(fresh.play(PROVISION, settings), fresh) == {first, CARRIED}
    succeeded(fresh.play(VERIFY, settings), fresh)

    settings["containerd_images"] = [{"name": [first, CARRIED], "state": "absent"}, {"name": second}]
    assert affected(fresh.play(PROVISION, settings, check=True), fresh) == {first, CARRIED}
    assert affected(fresh.play(PROVISION, settings), fresh) == {first, CARRIED}
    assert names(fresh) == {second}
    assert succeeded(fresh.play(PROVISION, settings), fresh)["changed"] == 0


def test_registries_that_are_yet_to_be_configured_are_not_asked(trixie: Node, registry: Registry) -> None:
    """The daemon is there, but knows no registry of this name before its hosts.toml is written."""
    name = registry.push(random_layers(1)).replace(registry.name, "registry.example")
    registries = [{**registry.entry, "name": "registry.example"}]
    settings = {"containerd_registries": registries, "containerd_images": [{"name": name}]}
    predicted = affected(trixie.play(PROVISION, settings, check=True), trixie)
    assert affected(trixie.play(PROVISION, settings), trixie) == predicted == {name}
    assert affected(trixie.play(PROVISION, settings, check=True), trixie) == set()


def test_an_archive_that_is_carried_anew_replaces_the_image(trixie: Node, archive: Path, tmp_path: Path) -> None:
    settings = {"containerd_images": [{"name": CARRIED, "archive": str(archive), "namespace": "edge", "pull": "always"}]}
    affected(trixie.play(PROVISION, settings), trixie)
    assert affected(trixie.play(PROVISION, settings), trixie) == set()
    settings["containerd_images"][0]["archive"] = str(pack(tmp_path))
    for check in (True, False):
        assert affected(trixie.play(PROVISION, settings, check=check), trixie) == {CARRIED}
    assert affected(trixie.play(PROVISION, settings), trixie) == set()
    assert left(trixie) == ""

    trixie.exec("ctr", "-n", "edge", "images", "export", "/root/images.tar", CARRIED)
    trixie.exec("ctr", "-n", "edge", "images", "rm", "--sync", CARRIED)
    image = {"name": CARRIED, "archive": "/root/images.tar", "remote_src": True, "namespace": "edge"}
    remote = {"containerd_images": [image]}
    for check in (True, False):
        assert affected(trixie.play(PROVISION, remote, check=check), trixie) == {CARRIED}
    assert names(trixie, "edge") == {CARRIED}
    trixie.exec("ctr", "-n", "edge", "images", "rm", "--sync", CARRIED)


WRONG: list[tuple[Any, str]] = [
    ([{"name": "a", "archive": "/nosuch.tar"}], "containerd_images names archives that the controller doesn't have, /nosuch.tar"),
    ([{"name": "a", "remote_src": True}], "containerd_images[0] has remote_src, but no archive"),
    ([{"name": "a"}, {"name": []}], "containerd_images[1] needs a name"),
    ([{"name": "a"}, {"name": "a", "state": "absent"}], "docker.io/library/a:latest in k8s.io both present and absent"),
    ([{"name": "UPPER/case:1:2"}], "containerd_images[0]: 'UPPER/case:1:2' is no image's name"),
    ([{"name": "a", "colour": "red"}], "colour"),
    ([{"state": "absent"}], "missing required arguments: name"),
    (["docker.io/library/a:1"], "containerd_images"),
]


@pytest.mark.parametrize(("images", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_list_is_refused_before_anything_is_done(trixie: Node, images: Any, sentence: str) -> None:
    before, pid = kept(trixie), daemon.main_pid(trixie)
    played = trixie.play(PROVISION, {"containerd_max_concurrent_downloads": 7, "containerd_images": images})
    assert played["stats"][trixie.name]["failures"] == 1
    said = messages(played, trixie)
    assert sentence in said, said
    assert (kept(trixie), daemon.main_pid(trixie)) == (before, pid)


def test_credentials_are_not_shown(trixie: Node, tmp_path: Path) -> None:
    with serve(tmp_path, LOGIN) as guarded:
        name = guarded.push(random_layers(1))
        images = [{"name": name, "plain_http": True, "username": LOGIN[0], "password": LOGIN[1]}]
        # In check mode, no registry is asked for a daemon whose settings are yet to change.
        trixie.play(PROVISION)
        variables = tmp_path / "variables.json"
        shown = ""
        for password, code in (("wrong-" + LOGIN[1], 2), (LOGIN[1], 0)):
            images[0]["password"] = password
            variables.write_text(json.dumps({"containerd_images": images}))
            for flags in (["--check"], []):
                limit = ["--limit", f"{trixie.name},localhost"]
                argv = ["-i", str(trixie.inventory), *limit, "-e", f"@{variables}", "-vvv", "--diff"]
                done = ansible("ansible-playbook", *argv, *flags, PROVISION, check=False)
                shown += done.stdout + done.stderr
                assert done.returncode == code, shown
        done = ansible("ansible-playbook", *argv, VERIFY)
        shown += done.stdout + done.stderr
    assert name in names(trixie)
    assert name in shown
    assert LOGIN[1] not in shown
    assert trixie.ssh(f"grep -rl {LOGIN[1]} /etc /var/lib/containerd /var/log /root /tmp /var/tmp", check=False).stdout == ""
