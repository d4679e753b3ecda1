# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script runs in a directory that stands for the node's root, and is killed before each program that it calls."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.core.host.lock import LOCK, exclusive
from ansible_collections.slipway.node.plugins.module_utils.upgrade.restore_script import RESTORE_SCRIPT, SCRIPT, restore_unit

GENERATIONS, JOURNAL = "/var/lib/slipway-node/generations", "/var/lib/slipway-node/upgrading"

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]
# Everything that the script calls and that isn't a part of the shell.
PROGRAMS = ("chcon", "chmod", "chown", "cp", "flock", "grep", "ln", "mkdir", "mv", "readlink", "rm", "sed", "sha256sum", "sync")
STAND_INS = ("dpkg", "systemctl")
# Calls are counted; before the one in KILL_AT, the script and everything that it started is killed.
COUNTING = """#!/bin/sh
read -r calls <"$COUNT"
calls=$((calls + 1))
echo "$calls" >"$COUNT"
[ "$KILL_AT" != "$calls" ] || kill -9 0
{command}
"""
CALLED = 'echo "{name} $*" >>"$COUNT.calls"'
CONFIG, DROP_IN, CURRENT, LINK = (
    "/etc/containerd/config.toml",
    "/etc/containerd/conf.d/60-slipway.toml",
    "/usr/local/lib/slipway/containerd/current",
    "/usr/local/bin/containerd",
)
DATABASE = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"


class Root:
    """A node after the first part of an upgrade: everything of generation 7 has been replaced or removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uid, self.gid = os.getuid(), os.getgid()
        self.count = path / "count"
        self.programs = path / "programs"
        self.programs.mkdir()
        for name in PROGRAMS:
            self.program(name, f'{shutil.which(name)} "$@"' if name != "sync" else "true")
        for name in STAND_INS:
            self.program(name, CALLED.format(name=name))
        self.write("/run/systemd/system/keep", "")
        generation = f"{GENERATIONS}/7"
        copy = self.keep("old config\n")
        self.write(f"{generation}/databases/0", "old database\n")
        self.write(f"{generation}/packages/containerd_1.deb", "")
        self.lines = [
            ["file", "640", str(self.uid), str(self.gid), copy, CONFIG],
            ["absent", DROP_IN],
            ["link", "1.7.24-abc", CURRENT],
            ["link", f"{CURRENT}/bin/containerd", LINK],
            ["database", "databases/0", DATABASE],
            ["packages", "packages"],
        ]
        self.spoil()

    def program(self, name: str, command: str) -> None:
        path = self.programs / name
        path.write_text(COUNTING.format(command=command))
        path.chmod(0o755)

    def at(self, path: str) -> Path:
        return self.path / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)

    def keep(self, text: str) -> str:
        """A copy of a file in the generation."""
        copy = f"files/{hashlib.sha256(text.encode()).hexdigest()}"
        self.write(f"{GENERATIONS}/7/{copy}", text)
        return copy

    def spoil(self, journal: str = "GENERATION=7\nSTEP=switching\nDATABASES=keep\n") -> None:
        self.write(f"{GENERATIONS}/7/list", "".join("\t".join(line) + "\n" for line in self.lines))
        self.write(CONFIG, "new config\n")
        self.write(DROP_IN, "new drop-in\n")
        self.write(DATABASE, "new database\n")
        for path in (CURRENT, LINK):
            self.at(path).unlink(missing_ok=True)
            self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(CURRENT).symlink_to("2.3.7-def")
        self.write(JOURNAL, journal)
        Path(f"{self.count}.calls").unlink(missing_ok=True)

    def run(self, *arguments: str, shell: tuple[str, ...] = ("dash",), kill_at: str = "") -> subprocess.CompletedProcess[str]:
        self.count.write_text("0")
        self.write(SCRIPT, RESTORE_SCRIPT)
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "COUNT": str(self.count), "KILL_AT": kill_at}
        return subprocess.run(
            [*shell, str(self.at(SCRIPT)), *arguments],
            env={**environment, "SLIPWAY_ROOT": str(self.path)},
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        """What the script called of dpkg and systemctl."""
        path = Path(f"{self.count}.calls")
        return path.read_text().splitlines() if path.exists() else []

    @property
    def step(self) -> str:
        """The step in the journal."""
        return self.at(JOURNAL).read_text().partition("STEP=")[2].partition("\n")[0]

    def assert_back(self, database: str = "new database\n") -> None:
        """Everything is as it was before the upgrade, and nothing is left."""
        config = self.at(CONFIG)
        assert (config.read_text(), stat.S_IMODE(config.stat().st_mode)) == ("old config\n", 0o640)
        assert not self.at(DROP_IN).exists()
        assert self.at(CURRENT).readlink() == Path("1.7.24-abc") and self.at(LINK).readlink() == Path(f"{CURRENT}/bin/containerd")
        assert self.at(DATABASE).read_text() == database
        assert list(self.path.rglob(".slipway-*")) == []

    def assert_untouched(self) -> None:
        assert self.at(CONFIG).read_text() == "new config\n" and self.at(CURRENT).readlink() == Path("2.3.7-def")
        assert self.calls == []


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


@pytest.fixture(params=[shell for shell in SHELLS if shutil.which(shell[0])], ids="-".join)
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(request.param)


def test_a_generation_is_put_back_twice_the_same(root: Root, shell: tuple[str, ...]) -> None:
    done = root.run("7", "keep", shell=shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "slipway: generation 7 is back (databases: keep)\n")
    root.assert_back()
    assert root.run("7", "keep", shell=shell).returncode == 0
    root.assert_back()
    assert root.step == "switching"


def test_a_file_keeps_its_attributes_when_its_content_goes_back(
    root: Root, shell: tuple[str, ...], attributed: Callable[[Path], dict[str, bytes]]
) -> None:
    given = attributed(root.at(CONFIG))
    assert root.run("7", "keep", shell=shell).returncode == 0
    root.assert_back()
    assert {name: os.getxattr(root.at(CONFIG), name) for name in given} == given


def test_databases_are_put_back_on_request(root: Root) -> None:
    assert root.run("7", "restore").returncode == 0
    root.assert_back("old database\n")


def test_snapshots_that_a_copy_does_not_know_go_with_it(root: Root) -> None:
    root.write(f"{GENERATIONS}/7/databases/1", "old\n")
    root.write(f"{GENERATIONS}/7/databases/1.snapshots", "1\n12\n")
    place = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    root.lines.append(["database", "databases/1", f"{place}/metadata.db"])
    root.spoil()
    for name in ("1", "12", "2", "21", "new-123"):
        root.write(f"{place}/snapshots/{name}/fs/etc/file", "")
    assert root.run("7", "keep").returncode == 0
    assert len(list(root.at(f"{place}/snapshots").iterdir())) == 5
    assert root.run("7", "restore").returncode == 0
    assert sorted(path.name for path in root.at(f"{place}/snapshots").iterdir()) == ["1", "12"]
    assert root.at(f"{place}/metadata.db").read_text() == "old\n"
    root.assert_back("old database\n")


@pytest.mark.parametrize("step", ["kept", "switching", "started"])
@pytest.mark.parametrize(("databases", "database"), [("keep", "new database\n"), ("restore", "old database\n")])
def test_a_boot_takes_an_upgrade_back_once(root: Root, step: str, databases: str, database: str) -> None:
    root.spoil(f"GENERATION=7\nSTEP={step}\nDATABASES={databases}\n")
    assert root.run().returncode == 0
    root.assert_back(database)
    assert root.at(JOURNAL).read_text() == f"GENERATION=7\nSTEP=restored\nDATABASES={databases}\n"
    root.write(CONFIG, "of a later run\n")
    assert root.run().returncode == 0
    assert root.at(CONFIG).read_text() == "of a later run\n"


@pytest.mark.parametrize("step", ["keeping", "restored", "committed", ""])
def test_a_boot_without_a_change_to_take_back_does_nothing(root: Root, step: str) -> None:
    root.spoil(f"GENERATION=7\nSTEP={step}\nDATABASES=keep\n")
    done = root.run()
    assert (done.returncode, done.stderr, root.step) == (0, "", step)
    root.assert_untouched()


def test_a_boot_without_a_journal_does_nothing(root: Root) -> None:
    root.at(JOURNAL).unlink()
    done = root.run()
    assert (done.returncode, done.stderr) == (0, "")
    root.assert_untouched()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STEP=switching\nDATABASES=keep\n", "the number of the generation is ''"),
        ("GENERATION=../7\nSTEP=switching\nDATABASES=keep\n", "the number of the generation is '../7'"),
        ("GENERATION=9\nSTEP=switching\nDATABASES=keep\n", "generation 9 is not complete"),
        ("GENERATION=7\nSTEP=switching\n", "databases are ''"),
    ],
)
def test_a_damaged_journal_is_refused(root: Root, text: str, message: str) -> None:
    root.spoil(text)
    done = root.run()
    assert done.returncode == 1 and message in done.stderr and root.step == "switching"
    root.assert_untouched()


def test_packages_come_first(root: Root) -> None:
    root.program("dpkg", CALLED.format(name="dpkg") + f'; echo conffile >"{root.at(CONFIG)}"')
    root.run("7", "keep")
    assert [call.split()[-1] for call in root.calls] == [
        "-a",
        f"{root.at(GENERATIONS)}/7/packages/containerd_1.deb",
        "daemon-reload",
    ]
    root.assert_back()


def test_an_object_that_cannot_be_restored_is_named_beside_the_others(root: Root) -> None:
    root.program("dpkg", "false")
    root.lines += [["future", "/etc/x"], ["file", "644", str(root.uid), str(root.gid), "files/9", "/etc/y"]]
    root.spoil()
    done = root.run()
    said = [line for line in done.stderr.splitlines() if line.startswith("slipway: ")]
    assert [line.removeprefix("slipway: ").split(" of ")[0].rstrip() for line in said] == [
        "cannot restore packages packages",
        "this script does not know lines with future",
        "cannot restore future /etc/x",
        f"cannot restore file 644 {root.uid} {root.gid} files/9 /etc/y",
        f"generation 7 is not back: repair the causes above, and call {root.at(SCRIPT)} 7 keep",
    ]
    assert done.returncode == 1 and root.step == "switching"
    root.assert_back()


def test_a_damaged_copy_is_not_restored(root: Root, shell: tuple[str, ...]) -> None:
    root.write(f"{GENERATIONS}/7/{root.lines[0][4]}", "")
    done = root.run(shell=shell)
    assert done.returncode == 1 and "is damaged" in done.stderr and root.step == "switching"
    assert root.at(CONFIG).read_text() == "new config\n" and root.at(CURRENT).readlink() == Path("1.7.24-abc")


def test_paths_with_blanks_and_missing_directories(root: Root) -> None:
    path = "/etc/some where/$HOME/a 'b' *.toml"
    copy = root.keep("theirs\n")
    root.lines.append(["file", "644", str(root.uid), str(root.gid), copy, path])
    root.lines.append(["absent", "/etc/nowhere/file"])
    root.spoil()
    assert root.run().returncode == 0
    assert root.at(path).read_text() == "theirs\n"
    assert stat.S_IMODE(root.at("/etc/some where/$HOME").stat().st_mode) == 0o755
    root.assert_back()


def test_a_file_is_on_disk_before_its_rename_and_the_rename_before_the_next_object(root: Root) -> None:
    root.program("sync", CALLED.format(name="sync"))
    root.program("mv", CALLED.format(name="mv") + f'; {shutil.which("mv")} "$@"')
    assert root.run("7", "restore").returncode == 0
    calls = [call.split() for call in root.calls]
    moves = [number for number, call in enumerate(calls) if call[0] == "mv"]
    assert len(moves) == 4
    for number in moves:
        [_mv, _options, new, path] = calls[number]
        assert calls[number + 1] == ["sync", str(Path(path).parent)]
        assert calls[number - 1] == ["sync", new] or Path(path).is_symlink()


def test_a_kill_at_any_point_is_followed_by_a_whole_generation(root: Root) -> None:
    started = "GENERATION=7\nSTEP=started\nDATABASES=restore\n"
    root.spoil(started)
    assert root.run().returncode == 0
    calls = int(root.count.read_text())
    assert calls > 30
    for number in range(1, calls + 1):
        root.spoil(started)
        assert root.run(kill_at=str(number)).returncode == -9
        assert root.at(CONFIG).read_text() in ("old config\n", "new config\n"), number
        assert root.at(DATABASE).read_text() in ("old database\n", "new database\n"), number
        assert root.run().returncode == 0, number
        assert root.step == "restored"
        root.assert_back("old database\n")


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck isn't installed")
    (tmp_path / "restore").write_text(RESTORE_SCRIPT)
    done = subprocess.run(["shellcheck", "--shell=sh", str(tmp_path / "restore")], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_unit_leaves_a_run_that_is_at_work_alone(root: Root) -> None:
    root.write("/run/slipway-upgrading", f"{os.getpid()}\n")
    with exclusive(1, str(root.at(LOCK))):
        assert root.run("unit").returncode == 0
    assert root.step == "switching"
    assert root.at(CONFIG).read_text() == "new config\n"


def test_another_process_with_the_id_of_a_killed_run_is_no_run_at_work(root: Root) -> None:
    root.write("/run/slipway-upgrading", f"{os.getpid()}\n")
    assert root.run("unit").returncode == 0
    root.assert_back()


def test_what_is_right_already_needs_no_room(root: Root) -> None:
    """As on a full disk: no new file and no new link can be made."""
    assert root.run("7", "keep").returncode == 0
    root.at(CONFIG).chmod(0o644)
    for name in ("cp", "ln", "mv"):
        root.program(name, "false")
    done = root.run("7", "keep")
    assert done.returncode == 0, done.stderr
    root.assert_back()


def test_a_link_to_the_same_content_is_replaced_by_the_file(root: Root) -> None:
    root.write("/etc/other", "old config\n")
    root.at(CONFIG).unlink()
    root.at(CONFIG).symlink_to("../other")
    assert root.run("7", "keep").returncode == 0
    assert not root.at(CONFIG).is_symlink()
    root.assert_back()


def test_the_unit_takes_back_what_a_killed_run_left(root: Root) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for mark in (f"{ended.pid}\n", "", "not a number\n"):
        root.spoil()
        root.write("/run/slipway-upgrading", mark)
        assert root.run("unit").returncode == 0
        assert root.step == "restored"
        root.assert_back("new database\n")


def test_the_unit_runs_before_containerd() -> None:
    assert {
        "ConditionPathExists=/var/lib/slipway-node/upgrading",
        "Before=containerd.service",
        "RequiredBy=containerd.service",
        "WantedBy=multi-user.target",
        "Type=oneshot",
        "ExecStart=/bin/sh /var/lib/slipway-node/restore unit",
    } <= set(restore_unit("containerd.service").splitlines())
