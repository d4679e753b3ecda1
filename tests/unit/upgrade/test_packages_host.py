# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of apt and dpkg, with replacements for both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from unit.stand_ins import Module

from ansible_collections.slipway.node.plugins.module_utils.core.errors import HostError
from ansible_collections.slipway.node.plugins.module_utils.core.host.command import Runner
from ansible_collections.slipway.node.plugins.module_utils.upgrade.host.packages import differ, install, pending, warnings
from ansible_collections.slipway.node.plugins.module_utils.upgrade.packages import RESTORE_PACKAGES

UPGRADE = "Inst containerd [1.7.24] (2.1.9 Debian:sid [amd64])\nInst libc6 [2.36] (2.41 Debian:sid [amd64])\n"
REPACK = "Inst dpkg-repack (1.54 Debian:13 [all])\n"


class Apt(Module):
    """A node with containerd 1.7.24, which no source has. ``answers`` replace those by the words of a command."""

    def __init__(self, **answers: str) -> None:
        self.answers = {"dpkg-query": "ii  containerd", "dpkg-repack": REPACK, "simulate": UPGRADE, "showhold": "", **answers}
        self.commands: list[str] = []

    def run_command(self, args: list[str], **_options: object) -> tuple[int, str, str]:
        command = " ".join(args)
        self.commands.append(command)
        if "--print-uris" in args:
            return 100, "", "E: Version '1.7.24' for 'containerd' was not found"
        return next(((0, text, "") for word, text in self.answers.items() if word in command), (1, "", ""))


def test_nothing_is_asked_without_packages() -> None:
    apt = Apt()
    assert pending(Runner(apt), ()) == warnings(Runner(apt), ()) == ()
    install(Runner(apt), ())
    assert apt.commands == []


def test_a_program_that_packs_the_installed_files_is_predicted_if_it_comes_alone() -> None:
    assert pending(Runner(Apt()), ["containerd"]) == ("containerd 1.7.24 → 2.1.9", "dpkg-repack 1.54 is installed")


@pytest.mark.parametrize("others", ["Inst perl (5.40 Debian:13 [amd64])\n", "Inst libdpkg-perl [1.21] (1.22 Debian:13 [all])\n"])
def test_a_version_that_no_source_has_is_refused_if_keeping_it_brings_others(others: str) -> None:
    apt = Apt(**{"dpkg-repack": REPACK + others})
    with pytest.raises(HostError, match=r"containerd 1.7.24 can't be kept .*: install dpkg-repack"):
        pending(Runner(apt), ["containerd"])


def test_dependencies_are_warned_of() -> None:
    [warning] = warnings(Runner(Apt()), ["containerd"])
    assert "libc6 2.36 → 2.41" in warning and "containerd" not in warning


def test_an_interrupted_installation_is_refused() -> None:
    with pytest.raises(HostError, match=r"left packages behind, runc: run dpkg --configure -a"):
        pending(Runner(Apt(**{"dpkg-query": "iHR runc"})), ["containerd"])


def test_the_predicted_version_is_installed_and_no_service_is_started() -> None:
    apt = Apt(**{"install containerd=2.1.9": ""})
    install(Runner(apt), ["containerd"])
    last = apt.commands[-1]
    assert last.endswith("install containerd=2.1.9")
    assert all(word in last for word in ("SYSTEMD_OFFLINE=1", "DEBIAN_FRONTEND=noninteractive", "--force-confold", "--yes"))


def test_kept_packages_differ_from_what_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "new.deb").touch()
    apt = Apt(**{"dpkg-deb --show": "containerd 1.7.24", "dpkg-query": "installed 2.1.9"})
    assert differ(Runner(apt), str(tmp_path))
    assert not differ(Runner(Apt(**{"dpkg-deb --show": "containerd 2.1.9", "dpkg-query": "installed 2.1.9"})), str(tmp_path))
    (tmp_path / "absent").write_text("containerd.io\n")
    assert differ(Runner(Apt(**{"dpkg-deb --show": "containerd 2.1.9", "dpkg-query": "installed 2.1.9"})), str(tmp_path))


def restored(tmp_path: Path, *, locked: int = 0, refused: str = "", state: str = "iU  1.7.24") -> tuple[int, str, list[str]]:
    """Run the function over a directory with one package to install and one to remove; the calls of dpkg."""
    programs, kept, log = tmp_path / "bin", tmp_path / "kept", tmp_path / "log"
    programs.mkdir()
    kept.mkdir()
    (kept / "containerd_1.7.24_amd64.deb").touch()
    (kept / "absent").write_text("containerd.io\nnever\n")
    (kept / "selections").write_text("containerd hold\n")
    scripts = {
        "sleep": "exit 0",
        "dpkg-query": f"case $3 in never) exit 1 ;; containerd) printf '{state}' ;; *) printf installed ;; esac",
        "dpkg-deb": "case $3 in Version) printf 1.7.24 ;; *) printf containerd ;; esac",
        "dpkg": f"""tries=$(($(cat {tmp_path}/tries 2>/dev/null || echo 0) + 1)); echo $tries > {tmp_path}/tries
if [ $tries -le {locked} ]; then echo 'dpkg: error: dpkg frontend lock was locked by another process' >&2; exit 2; fi
echo "$SYSTEMD_OFFLINE $*" >> {log}
case "$*" in *"{refused or "no such word"}"*) printf 'dpkg: error:\\n no room\\nErrors:\\n x.deb\\n' >&2; exit 1 ;; esac""",
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    script = f"set -eu\n{RESTORE_PACKAGES}\nrestore_packages {kept}"
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["dash", "-c", script], env=env, capture_output=True, text=True, check=False)
    calls = [line.replace(f"{kept}/", "") for line in log.read_text().splitlines()]
    forced = "1 --force-confold --force-downgrade --force-remove-reinstreq "
    return done.returncode, done.stderr, [line.replace(forced, "offline ") for line in calls]


ALL = [
    "offline --configure -a",
    "offline --force-depends --remove containerd.io",
    "offline --install containerd_1.7.24_amd64.deb",
    " --set-selections",
]


def test_packages_go_back_with_no_service_started(tmp_path: Path) -> None:
    assert restored(tmp_path) == (0, "", ALL)


def test_another_dpkg_is_waited_for(tmp_path: Path) -> None:
    assert restored(tmp_path, locked=20) == (0, "", ALL)


def test_packages_of_others_that_cannot_be_configured_are_no_obstacle(tmp_path: Path) -> None:
    assert restored(tmp_path, refused="--configure") == (0, "", ALL)


@pytest.mark.parametrize(
    ("state", "code"), [("ii  1.7.24", 0), ("hi  1.7.24", 0), ("ii  2.3.7", 1), ("iHR 1.7.24", 1), ("iU  1.7.24", 1), ("", 1)]
)
def test_a_package_that_was_never_replaced_is_back_on_a_full_disk(tmp_path: Path, state: str, code: int) -> None:
    assert restored(tmp_path, refused="--install", state=state)[0] == code


def test_the_words_of_dpkg_are_printed_if_it_fails(tmp_path: Path) -> None:
    code, said, calls = restored(tmp_path, refused="--install")
    assert (code, said, calls) == (1, "dpkg: error:\n no room\n", ALL[:3])
