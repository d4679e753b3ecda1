# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the controller are sent only to nodes that need them, and removed from the nodes afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.image_module import NAMESPACE, actions, ctr, emptied, names, state
from integration.release_module import Installation, installation, release, run

from nodes import daemon
from nodes.images import random_layers, write_layout
from nodes.node import CHECKOUT, LIMIT, Node, ansible, ansible_json, ansible_settings
from nodes.node import run as run_program

__all__ = ["installation", "run"]

CARRIED = "registry.example/carried:1"
BLOBS = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
RECORD = "/var/lib/containerd/slipway-pulls.json"
LOCK = "/run/slipway-containerd.lock"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ansible makes its temporary directories."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("ANSIBLE_REMOTE_TMP", str(directory))
    return directory


def sent(answer: dict[str, Any]) -> int:
    """How many files were sent, besides the module itself."""
    return len(re.findall(r"PUT \S+ TO \S+/file$", answer["output"], re.MULTILINE))


def given(archive: Path) -> dict[str, Any]:
    """The options of a release whose file is on the controller."""
    content = archive.read_bytes() if archive.exists() else b""
    sha256 = hashlib.sha256(content).hexdigest()
    return {"version": "1.0", "src": str(archive), "sha256": sha256, "remote_src": False, "verbose": True}


@pytest.mark.smoke
def test_a_release_is_sent_once(installation: Installation, tmp_path: Path, temporary: Path) -> None:
    options = given(release(tmp_path))
    done = installation(**options)
    assert (done["failed"], done["changed"], done["links"]) == (False, True, [str(installation.links / "demo")])
    assert sent(done) == 1
    again = installation(**options)
    assert (again["failed"], again["changed"], sent(again)) == (False, False, 0)
    assert list(temporary.iterdir()) == []


def test_check_mode_sends_no_release(installation: Installation, tmp_path: Path, temporary: Path) -> None:
    options, before = given(release(tmp_path)), installation.tree()
    predicted = installation(**options, check=True)
    assert (predicted["failed"], predicted["changed"], predicted["installed"], sent(predicted)) == (False, True, False, 0)
    assert installation.tree() == before
    assert list(temporary.iterdir()) == []


def test_a_file_that_the_controller_lacks_is_named_with_its_option(installation: Installation, tmp_path: Path) -> None:
    archive, before = tmp_path / "archives" / "none.tar", installation.tree()
    for check in (True, False):
        refused = installation(**given(archive), check=check)
        assert refused["failed"] and refused["msg"].startswith(f"src: the controller has no file {archive}: correct"), refused
        assert "\n" not in refused["msg"]
    assert installation.tree() == before


def test_a_release_that_is_installed_needs_no_file(installation: Installation, tmp_path: Path) -> None:
    archive = release(tmp_path)
    options = given(archive)
    installation(**options)
    archive.unlink()
    for check in (True, False):
        again = installation(**options, check=check)
        assert (again["failed"], again["changed"]) == (False, False)


def test_a_failure_leaves_nothing_of_the_file(installation: Installation, tmp_path: Path, temporary: Path) -> None:
    before = installation.tree()
    refused = installation(**{**given(release(tmp_path)), "sha256": "0" * 64})
    assert refused["failed"] and "sha256" in refused["msg"] and sent(refused) == 1
    assert installation.tree() == before
    assert list(temporary.iterdir()) == []


def test_a_file_in_a_vault_is_decrypted(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = release(tmp_path)
    options = given(archive)
    password = tmp_path / "password"
    password.write_text("vault's password\n")
    run_program(["ansible-vault", "encrypt", "--vault-password-file", str(password), str(archive)])
    assert archive.read_bytes().startswith(b"$ANSIBLE_VAULT")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    assert installation(**options)["failed"] is False


def in_the_background(installation: Installation, **options: Any) -> dict[str, Any]:
    """Run release_install on this machine by a task with async."""
    arguments = json.dumps({"name": "demo", "prefix": str(installation.prefix), "link_dir": str(installation.links), **options})
    argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-B", "60", "-P", "1"]
    played = ansible_json(*argv, "-m", "slipway.node.release_install", "-a", arguments)
    found: dict[str, Any] = played["plays"][0]["tasks"][0]["hosts"]["localhost"]
    return found


def test_a_task_with_async_takes_only_files_that_are_on_the_node(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default the job is written below $HOME and looked for below the home that passwd names.
    monkeypatch.setenv("ANSIBLE_ASYNC_DIR", str(tmp_path / "jobs"))
    options, before = given(release(tmp_path)), installation.tree()
    del options["verbose"]
    refused = in_the_background(installation, **options)
    assert refused["failed"] and refused["msg"].startswith("src: a task with async can't send a file"), refused
    assert installation.tree() == before
    done = in_the_background(installation, **{**options, "src": f"file://{options['src']}"})
    assert done["changed"] and not done.get("failed"), json.dumps(done)


def run_until_seen(argv: Sequence[str], end: Callable[[], object]) -> tuple[str, str]:
    """Run a task that waits for something, and end that when the first line of a long run is there; return both streams."""
    environment = {**os.environ, **ansible_settings()}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=CHECKOUT, env=environment, **streams) as started:
        assert started.stdout is not None and started.stderr is not None
        limit = threading.Timer(LIMIT, started.kill)
        limit.start()
        try:
            seen = ""
            while "still running" not in seen:
                line = started.stderr.readline()
                assert line, seen
                seen += line
            end()
            return started.stdout.read(), seen + started.stderr.read()
        finally:
            limit.cancel()
            started.kill()


def test_a_long_run_is_seen_in_ansibles_own_output(installation: Installation, tmp_path: Path) -> None:
    """The module waits for the writer of a named pipe, before it refuses it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    arguments = {
        "name": "demo",
        "version": "1.0",
        "src": f"file://{pipe}",
        "sha256": "0" * 64,
        "prefix": str(installation.prefix),
    }
    argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "slipway.node.release_install"]
    argv += ["-a", json.dumps(arguments), "-e"]
    sentence = r"^localhost: slipway\.node\.release_install is still running after \d+ seconds$"
    output, errors = run_until_seen([*argv, "slipway_progress_seconds=1"], lambda: pipe.write_bytes(b""))
    assert re.search(sentence, errors, re.MULTILINE), errors
    assert "pipe is not" in output and "still running" not in output
    writer = threading.Timer(6, pipe.write_bytes, [b""])
    writer.start()
    assert "still running" not in ansible(*argv, "slipway_progress_seconds=0", check=False).stderr
    writer.join()
    refused = ansible(*argv, "slipway_progress_seconds=often", check=False)
    assert "slipway_progress_seconds has to be a number of seconds, or 0, not 'often'" in refused.stdout


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What ``docker save`` writes, of an image with the name CARRIED."""
    return pack(tmp_path / "one")


def pack(directory: Path) -> Path:
    layout = write_layout(directory / "layout", random_layers(2))
    subprocess.run(
        ["skopeo", "copy", "--quiet", f"oci:{layout}:1", f"docker-archive:{directory}/images.tar:{CARRIED}"], check=True
    )
    return directory / "images.tar"


@pytest.fixture
def empty(trixie: Node) -> Iterator[Node]:
    """A node as packaged, without images in the namespace."""
    daemon.install(trixie)
    daemon.reset(trixie)
    emptied(trixie)
    yield trixie
    emptied(trixie)


def image(node: Node, archive: Path, *, check: bool = False, become_user: str | None = None, **options: Any) -> dict[str, Any]:
    """The module by Ansible, with an archive on the controller."""
    arguments = {"name": [CARRIED], "namespace": NAMESPACE, "archive": str(archive), **options}
    # Runs that other tests have killed leave files there.
    before = temporary_files(node)
    done = node.module("containerd_image", arguments, check=check, become_user=become_user)
    assert "needs_file" not in done
    assert temporary_files(node) <= before
    return done


def temporary_files(node: Node) -> set[str]:
    """The paths of Ansible's temporary files on the node."""
    return set(node.ssh("find /root/.ansible/tmp /var/tmp /tmp -mindepth 1 -name 'ansible*'", check=False).stdout.splitlines())


@pytest.mark.parametrize("become_user", [None, "root"])
def test_an_archive_is_sent_to_a_node_that_lacks_an_image(empty: Node, archive: Path, become_user: str | None) -> None:
    before = state(empty)
    predicted = image(empty, archive, check=True, become_user=become_user)
    assert actions(predicted) == ["import"] and predicted["changed"]
    unknown = ("digest", "platform", "layers", "chain_id", "size_bytes", "downloaded_bytes")
    assert [predicted["images"][0][key] for key in unknown] == [None] * len(unknown)
    assert state(empty) == before
    done = image(empty, archive, become_user=become_user)
    assert actions(done) == ["import"] and done["images"][0]["durability"] == "durable"
    assert names(empty) == {CARRIED}
    # The second run would fail if it needed the file.
    archive.unlink()
    for check in (True, False):
        again = image(empty, archive, check=check, become_user=become_user)
        assert actions(again) == ["none"] and not again["changed"]


def test_an_archive_that_the_controller_lacks_is_refused(empty: Node, tmp_path: Path) -> None:
    before = state(empty)
    for options in ({}, {"pull": "always"}, {"name": None}):
        for check in (True, False):
            refused = image(empty, tmp_path / "none.tar", check=check, **options)
            assert refused["failed"] and refused["msg"].startswith("archive: the controller has no file"), refused
    assert state(empty) == before


def test_an_archive_without_names_or_with_pull_always_is_read_in_check_mode_too(
    empty: Node, archive: Path, tmp_path: Path
) -> None:
    for check in (True, False):
        found = image(empty, archive, check=check, name=None)
        assert actions(found) == ["import"] and found["images"][0]["size_bytes"] > 0
        assert names(empty) == (set() if check else {CARRIED})
    assert actions(image(empty, archive, check=True, pull="always")) == ["none"]
    other = pack(tmp_path / "other")
    for check in (True, False):
        assert actions(image(empty, other, check=check, pull="always")) == ["import"]
    assert actions(image(empty, other, pull="always")) == ["none"]


def test_a_blob_that_is_lost_comes_from_the_archive(empty: Node, archive: Path) -> None:
    done = image(empty, archive)
    digests = {line.split()[0].removeprefix("sha256:") for line in ctr(empty, "content", "ls").splitlines()[1:]}
    largest = empty.ssh(f"cd {BLOBS} && ls -S {' '.join(digests)} | head -n 1").stdout.strip()
    empty.ssh(f"truncate -s 0 {BLOBS}/{largest}")
    checked: dict[str, Any] = {"integrity": "content", "repair": True}
    for check in (True, False):
        assert actions(image(empty, archive, check=check, **checked)) == ["repair"]
    archive.unlink()
    again = image(empty, archive, **checked)
    assert actions(again) == ["none"] and again["images"][0]["integrity"] == "intact"
    assert again["images"][0]["digest"] == done["images"][0]["digest"]


def test_what_a_power_cut_has_undone_comes_from_the_archive(empty: Node, archive: Path) -> None:
    """A pull of an earlier boot whose image has lost a layer's file."""
    image(empty, archive)
    pull = {"boot": "another", "namespace": NAMESPACE, "snapshotter": "overlayfs", "names": [CARRIED], "before": [], "blobs": []}
    empty.ssh(f"cat > {RECORD} <<'END'\n{json.dumps({'version': 1, 'pulls': [pull]})}\nEND")
    digests = {line.split()[0].removeprefix("sha256:") for line in ctr(empty, "content", "ls").splitlines()[1:]}
    empty.ssh(f"cd {BLOBS} && truncate -s 0 $(ls -S {' '.join(digests)} | head -n 1)")
    done = image(empty, archive)
    assert not done.get("failed"), done
    assert [one["name"] for one in done["recovered"]] == [CARRIED]
    assert names(empty) == {CARRIED}
    assert actions(image(empty, archive, integrity="content")) == ["none"]


@pytest.mark.parametrize("become", [False, True])
def test_a_long_run_on_a_node_is_seen_too(empty: Node, archive: Path, become: bool) -> None:
    """Another run holds the node's lock; the connection is the inventory's, with pipelining."""
    holder = empty.ssh(f"setsid flock {LOCK} sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!").stdout.strip()
    empty.ssh(f"while flock --nonblock {LOCK} true; do sleep 0.05; done")
    arguments = json.dumps({"name": [CARRIED], "namespace": NAMESPACE, "archive": str(archive)})
    argv = ["ansible", empty.name, "-i", str(empty.inventory), "-m", "slipway.node.containerd_image", "-a", arguments]
    argv += ["-e", "slipway_progress_seconds=1"] + ["--become", "--become-method", "su"] * become
    try:
        _output, errors = run_until_seen(argv, lambda: empty.ssh(f"kill -- -{holder}"))
    finally:
        empty.ssh(f"kill -- -{holder}", check=False)
    sentence = rf"^{re.escape(empty.name)}: slipway\.node\.containerd_image is still running after \d+ seconds$"
    assert re.search(sentence, errors, re.MULTILINE), errors
    assert names(empty) == {CARRIED}
