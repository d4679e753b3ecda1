# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases of one version of containerd under another one, and containers, there and back. On this machine, without a node."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.private_daemon import PrivateDaemon, private_daemon

from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import DATABASE, GENERATIONS, Kept, list_text
from ansible_collections.slipway.node.plugins.module_utils.upgrade.databases import BUNDLES, adopts, bundle_of, opens
from ansible_collections.slipway.node.plugins.module_utils.upgrade.restore_script import RESTORE_SCRIPT
from nodes.images import busybox, random_layers, write_layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run containers")

# The old and the new version of an upgrade.
PAIRS = [("1.6.20", "2.4.2"), ("1.7.24", "2.3.7"), ("2.1.9", "2.3.7"), ("2.3.7", "2.4.2")]
SNAPSHOTTERS = ("overlayfs", "native")
SLEEP = ("/bin/busybox", "sleep", "600")
SUMS = ("/bin/busybox", "sha256sum", "/layer0/file0", "/layer1/file3")


class Images:
    """Two images, ``old`` and ``new``, each as an archive that ctr imports."""

    def __init__(self, directory: Path) -> None:
        self.archives = {}
        for number, name in enumerate(("old", "new")):
            layout = write_layout(directory / name, [busybox(), *random_layers(2, seed=number)], command=SLEEP)
            self.archives[name] = directory / f"{name}.tar"
            subprocess.run(["tar", "-C", str(layout), "-cf", str(self.archives[name]), "."], check=True)

    def load(self, daemon: PrivateDaemon, name: str) -> None:
        """Import an image, and unpack it for each snapshotter."""
        # The transfer service unpacks only for the snapshotters in its configuration.
        local = ["--local"] if daemon.version.startswith("2.") else []
        for snapshotter in SNAPSHOTTERS:
            options = ("--base-name", f"test.invalid/{name}", "--snapshotter", snapshotter, *local)
            daemon.ctr("images", "import", *options, str(self.archives[name]))


def reference(name: str) -> str:
    return f"test.invalid/{name}:1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def daemon() -> Iterator[PrivateDaemon]:
    with private_daemon() as daemon:
        yield daemon


def column(text: str, number: int = 0) -> list[str]:
    """A column of what ctr prints as a table."""
    return sorted(line.split()[number] for line in text.splitlines()[1:] if line)


def written(daemon: PrivateDaemon) -> dict[str, list[str]]:
    """What the databases hold."""
    checked = daemon.ctr("images", "check").stdout.splitlines()[1:]
    return {
        "images": sorted(f"{line.split()[0]} {line.split()[3]} {line.split()[-1]}" for line in checked),
        "leases": column(daemon.ctr("leases", "ls").stdout),
        "labels": column(daemon.ctr("namespaces", "ls").stdout, -1),
        "containers": column(daemon.ctr("containers", "ls").stdout),
        **{one: column(daemon.ctr("snapshots", "--snapshotter", one, "ls").stdout) for one in SNAPSHOTTERS},
    }


def write(daemon: PrivateDaemon, images: Images, name: str) -> None:
    """Write something of each kind, and start a container."""
    images.load(daemon, name)
    daemon.ctr("leases", "create", "--id", f"lease-{name}", "--expires", "0")
    daemon.ctr("namespaces", "create", name, f"for={name}")
    daemon.ctr("containers", "create", reference(name), f"record-{name}")
    daemon.ctr("snapshots", "prepare", f"toolbox-{name}")
    daemon.ctr("run", "--detach", reference(name), f"runs-{name}", *SLEEP)


def tasks(daemon: PrivateDaemon) -> dict[str, str]:
    """Process ids of running containers."""
    rows = [line.split() for line in daemon.ctr("tasks", "ls").stdout.splitlines()[1:]]
    return {row[0].removeprefix("runs-"): row[1] for row in rows if row[2] == "RUNNING" and Path(f"/proc/{row[1]}").exists()}


def sums(daemon: PrivateDaemon, name: str) -> list[str]:
    """What a container reads of an image, for each snapshotter."""
    run = ("run", "--rm", "--snapshotter")
    return [daemon.ctr(*run, one, reference(name), f"reads-{one}", *SUMS).stdout for one in SNAPSHOTTERS]


def bundle(daemon: PrivateDaemon, name: str) -> list[str]:
    """The files of a running container's bundle."""
    return [path.name for path in (daemon.state / BUNDLES / "default" / f"runs-{name}").iterdir()]


def remove_everything(daemon: PrivateDaemon) -> None:
    for name in ("old", "new"):
        for command in (("tasks", "rm", "--force"), ("containers", "rm")):
            daemon.ctr(*command, f"runs-{name}", check=False)
        daemon.ctr("containers", "rm", f"record-{name}")
        daemon.ctr("snapshots", "rm", f"toolbox-{name}")
        daemon.ctr("leases", "rm", "--sync", f"lease-{name}")
        daemon.ctr("images", "rm", "--sync", reference(name))


def on_disk(daemon: PrivateDaemon) -> list[Path]:
    """Blobs, and the directories of snapshots.

    containerd renames the directory of a removed snapshot to rm-ID; if it can't be deleted then, that is logged, and it stays.
    """
    snapshots = [daemon.root.glob(f"io.containerd.snapshotter.v1.{one}/snapshots/[0-9]*") for one in SNAPSHOTTERS]
    return [path for found in (daemon.root.glob("*/blobs/sha256/*"), *snapshots) for path in found]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_databases_and_containers_survive_an_upgrade_and_the_way_back(
    daemon: PrivateDaemon, images: Images, old: str, new: str
) -> None:
    before, after = Version.parse(old), Version.parse(new)
    assert opens(after, before) and opens(before, after)
    daemon.start(old)
    write(daemon, images, "old")
    held, running, read = written(daemon), tasks(daemon), sums(daemon, "old")
    daemon.start(new)
    assert (written(daemon), tasks(daemon), sums(daemon, "old")) == (held, running, read)
    write(daemon, images, "new")
    held, running, read = written(daemon), tasks(daemon), sums(daemon, "new")
    assert set(running) == {"old", "new"}
    found = {name: adopts(before, bundle(daemon, name)) for name in running}
    assert found == {"old": True, "new": adopts(before, bundle_of(after))}
    daemon.start(old)
    assert tasks(daemon) == {name: pid for name, pid in running.items() if found[name]}
    assert (written(daemon), sums(daemon, "new")) == (held, read)
    remove_everything(daemon)
    deadline = time.monotonic() + 60
    while on_disk(daemon):
        assert time.monotonic() < deadline, on_disk(daemon)
        time.sleep(0.1)


def keep_copies(daemon: PrivateDaemon) -> None:
    """Make a generation of the databases below the daemon's directory, as a run does while the daemon is stopped."""
    generation = daemon.directory / GENERATIONS.lstrip("/") / "1"
    (generation / "databases").mkdir(parents=True)
    kept = []
    for index, path in enumerate(sorted(daemon.root.rglob("*.db"))):
        copy = generation / "databases" / str(index)
        shutil.copy2(path, copy)
        names = [f"{one.name}\n" for one in path.parent.glob("snapshots/*")]
        copy.with_name(f"{index}.snapshots").write_text("".join(names))
        kept.append(Kept(DATABASE, f"/{path.relative_to(daemon.directory)}", f"databases/{index}"))
    (generation / "list").write_text(list_text(kept))


def test_copies_of_the_databases_have_what_was_there_before(daemon: PrivateDaemon, images: Images) -> None:
    daemon.start("2.3.7")
    write(daemon, images, "old")
    held, read = written(daemon), sums(daemon, "old")
    daemon.stop()
    keep_copies(daemon)
    daemon.start("2.4.2")
    images.load(daemon, "new")
    newer = sums(daemon, "new")
    daemon.stop()
    environment = {**os.environ, "SLIPWAY_ROOT": str(daemon.directory)}
    subprocess.run(["sh", "-c", RESTORE_SCRIPT, "restore", "1", "restore"], env=environment, check=True)
    daemon.start("2.3.7")
    assert (written(daemon), sums(daemon, "old")) == (held, read)
    images.load(daemon, "new")
    assert sums(daemon, "new") == newer
