# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A generation contains the previous state, and the script restores it."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.core.restore_list import ABSENT, DATABASE, FILE, LINK, PACKAGES, Kept
from ansible_collections.slipway.node.plugins.module_utils.release.host import install
from ansible_collections.slipway.node.plugins.module_utils.upgrade.generation import UPGRADED, Manifest
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host import generation as store

SUM = hashlib.sha256(b"password").hexdigest()
MANIFEST = Manifest(1, "1.7.24", "2.3.7", UPGRADED, 1.5, "boot")


@pytest.fixture
def generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of generations."""
    path = tmp_path / "state/generations"
    for module in (store, install):
        monkeypatch.setattr(module, "GENERATIONS", str(path))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file with a secret, a link to a file, and nothing."""
    (tmp_path / "file").write_text("password")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    return tmp_path


def keep(place: Path, *names: str) -> None:
    store.keep_generation(MANIFEST, [str(place / name) for name in names], packages=False)


def test_files_links_and_their_absence_are_kept(generations: Path, place: Path) -> None:
    keep(place, "link", "none", "file")
    user, group = os.getuid(), os.getgid()
    assert store.objects_of(1) == (
        Kept(LINK, str(place / "link"), target="file"),
        Kept(ABSENT, str(place / "none")),
        Kept(FILE, str(place / "file"), f"files/{SUM}", 0o640, user, group),
    )
    assert (generations / f"1/files/{SUM}").read_text() == "password"
    assert [one.number for one in store.manifests()] == [1]


def test_nobody_else_reads_a_generation(generations: Path, place: Path) -> None:
    keep(place, "file")
    store.package_directory(1)
    for path in (generations, *generations.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_link_that_is_followed_is_kept_with_its_file(place: Path) -> None:
    assert store.followed([str(place / "link"), str(place / "file")]) == [str(place / "file"), str(place / "link")]


@pytest.mark.usefixtures("generations")
def test_a_directory_in_the_place_of_a_file_is_refused(place: Path) -> None:
    with pytest.raises(HostError, match="neither a file nor a link"):
        keep(place, ".")


@pytest.mark.usefixtures("generations")
def test_a_change_of_anything_is_seen(place: Path) -> None:
    keep(place, "link", "none", "file")
    assert store.same(1)
    other = place / "other"
    other.symlink_to("none")
    changes = (
        lambda: (place / "file").write_text("other"),
        lambda: (place / "file").chmod(0o600),
        (place / "none").touch,
        lambda: os.replace(other, place / "link"),
    )
    for change in changes:
        store.remove_generation(1)
        keep(place, "link", "none", "file")
        change()
        assert not store.same(1)


@pytest.mark.usefixtures("generations")
def test_edits_after_a_change_are_known(place: Path) -> None:
    keep(place, "file", "link", "none", "other")
    assert store.edited(1) == []
    (place / "other").touch()
    store.keep_sums(1, [str(place / name) for name in ("file", "link", "none", "other")])
    assert store.edited(1) == []
    (place / "file").write_text("edited")
    (place / "none").touch()
    (place / "other").unlink()
    assert store.edited(1) == [str(place / name) for name in ("file", "none", "other")]


def test_databases_are_added_to_the_list(generations: Path, place: Path) -> None:
    store.keep_generation(MANIFEST, [str(place / "file")], packages=True)
    for _time in range(2):
        store.keep_databases(1, [str(place / "file")])
    kinds = [one.kind for one in store.objects_of(1)]
    assert kinds == [PACKAGES, FILE, DATABASE]
    assert (generations / "1/databases/0").read_text() == "password"


def test_databases_that_were_written_after_the_journal_are_used(
    generations: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = generations.parent / "upgrading"
    monkeypatch.setattr(store, "JOURNAL", str(journal))
    keep(place, "none")
    store.keep_databases(1, [str(place / "file")])
    journal.touch()
    os.utime(place / "file", (1, 1))
    assert not store.databases_used(1)
    os.utime(journal, (0, 0))
    assert store.databases_used(1)


def test_the_databases_of_the_metadata_and_of_snapshotters_are_found(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    names = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")
    for path in (*(root / name for name in names), other / "metadata.db"):
        path.parent.mkdir(parents=True)
        path.touch()
    (root / "io.containerd.snapshotter.v1.overlayfs/snapshots").mkdir()
    tables = {"io.containerd.snapshotter.v1.native": {"root_path": str(other)}, "io.containerd.snapshotter.v1.overlayfs": {}}
    config = EffectiveConfig({"version": 2, "root": str(root), "plugins": tables})
    wanted = [*(root / name for name in names), other / "metadata.db"]
    assert store.database_paths(config) == tuple(sorted(map(str, wanted)))


def test_versions_that_generations_lead_to_are_known(generations: Path, tmp_path: Path) -> None:
    home = tmp_path / "lib/containerd"
    home.mkdir(parents=True)
    (home / "current").symlink_to("1.7.24-0123456789ab")
    keep(tmp_path, "lib/containerd/current")
    (home / "current").unlink()
    assert install.read_state(str(home), str(tmp_path / "bin")).kept == {"1.7.24-0123456789ab"}
    (generations / "1/list").write_text("damaged\n")
    with pytest.raises(HostError, match="give up this generation"):
        install.read_state(str(home), str(tmp_path / "bin"))


def test_a_missing_generation_is_removed_without_trouble(generations: Path) -> None:
    store.remove_generation(1)
    generations.mkdir(parents=True)
    store.remove_generation(1)
    assert store.numbers() == []


def test_what_a_killed_run_left_beside_the_objects_is_removed(generations: Path, place: Path) -> None:
    keep(place, "file", "link")
    for name in (".slipway-file.abc.tmp", ".slipway-link.42.tmp", ".slipway-other.abc.tmp"):
        (place / name).touch()
    store.remove_temporary(1)
    assert sorted(path.name for path in place.glob(".slipway-*")) == [".slipway-other.abc.tmp"]
    assert generations.exists()


def test_a_lost_connection_does_not_end_a_run_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AT_WORK", str(tmp_path / "at-work"))
    before = signal.getsignal(signal.SIGTERM)
    with store.at_work():
        for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), one)
        assert (tmp_path / "at-work").exists()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "at-work").exists()


@pytest.mark.parametrize("content", [None, ""])
def test_a_damaged_copy_is_the_state_of_no_node(generations: Path, place: Path, content: str | None) -> None:
    keep(place, "file")
    path = generations / f"1/files/{SUM}"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(HostError, match="damaged: remove the directory"):
        store.same(1)


@pytest.mark.parametrize("text", [None, "", "garbage\n"])
def test_a_generation_without_its_list_is_the_state_of_no_node(generations: Path, place: Path, text: str | None) -> None:
    keep(place, "file")
    (generations / "1/list").unlink()
    if text is not None:
        (generations / "1/list").write_text(text)
    with pytest.raises(HostError, match="give up this generation"):
        store.same(1)


@pytest.mark.parametrize("name", ["file", "none"])
def test_what_can_not_be_replaced_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    paths = [str(place / one) for one in ("file", "link", "none", "missing/none")]
    for unit in ("SCRIPT", "UNIT_PATH"):
        monkeypatch.setattr(store, unit, paths[2])
    store.check_writable(paths)
    refused = str(place / "file") if name == "file" else str(place)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != refused)
    with pytest.raises(HostError, match=f"^{refused} can't be written"):
        store.check_writable([str(place / name)])


def test_the_root_of_a_file_system_becomes_private(generations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Systemd:
        def run(self, *_command: str, **_options: str) -> None:
            for name in ("containerd.service.requires", "multi-user.target.wants"):
                (generations.parent / "units" / name).mkdir(parents=True, exist_ok=True)

    generations.parent.mkdir(mode=0o755)
    for name, path in (("STATE_DIRECTORY", ""), ("SCRIPT", "/restore"), ("UNIT_PATH", "/units/slipway-restore.service")):
        monkeypatch.setattr(store, name, f"{generations.parent}{path}")
    (generations.parent / "units").mkdir()
    store.install_script(cast(Runner, Systemd()), "containerd.service")
    assert stat.S_IMODE(generations.parent.stat().st_mode) == 0o700
