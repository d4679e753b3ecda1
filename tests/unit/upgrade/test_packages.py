# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess

import pytest

from ansible_collections.slipway.node.plugins.module_utils.upgrade.packages import (
    RESTORE_PACKAGES,
    Change,
    apt_reason,
    broken_packages,
    file_name,
    parse_simulation,
    plan_packages,
    request_name,
)

# As apt-get --simulate prints it on Debian 13 with sid's source, and on Debian 12 with Debian 13's.
TO_SID = """Reading package lists...
The following packages will be upgraded:
  containerd runc
Inst runc [1.1.15+ds1-2+b4] (1.3.6+ds1-1 Debian:unstable [amd64])
Inst containerd [1.7.24~ds1-6+deb13u1] (2.1.9+ds1-5 Debian:unstable [amd64])
Conf runc (1.3.6+ds1-1 Debian:unstable [amd64])
Conf containerd (2.1.9+ds1-5 Debian:unstable [amd64])
"""
TO_TRIXIE = """The following additional packages will be installed:
  base-files libc-bin libc6
Inst base-files [12.4+deb12u15] (13.8+deb13u8 Debian:13.8/stable [amd64])
Conf base-files (13.8+deb13u8 Debian:13.8/stable [amd64])
Inst libc6 [2.36-9+deb12u14] (2.41-12+deb13u5 Debian:13.8/stable [amd64]) [libc-bin:amd64 ]
Inst libc-bin [2.36-9+deb12u14] (2.41-12+deb13u5 Debian:13.8/stable [amd64])
Inst containerd [1.6.20~ds1-1+deb12u3] (1.7.24~ds1-6+deb13u1 Debian:13.8/stable [amd64])
"""
# Docker's package takes the place of the distribution's.
TO_DOCKER = """Remv containerd [1.7.24~ds1-6+deb13u1]
Remv docker.io [26.1.5+dfsg1-9+b11]
Purg runc [1.1.15+ds1-2+b4]
Inst containerd.io (1.7.99-1 localhost [all])
Conf containerd.io (1.7.99-1 localhost [all])
"""
CONTAINERD = Change("containerd", "1.7.24~ds1-6+deb13u1", "2.1.9+ds1-5")
RUNC = Change("runc", "1.1.15+ds1-2+b4", "1.3.6+ds1-1")


def test_an_upgrade() -> None:
    plan = plan_packages(parse_simulation(TO_SID), ["containerd=2.1.9*", "runc/sid"], [], [])
    assert plan.own == (RUNC, CONTAINERD) and plan.others == ()
    assert plan.arguments == ("runc=1.3.6+ds1-1", "containerd=2.1.9+ds1-5")
    assert str(CONTAINERD) == "containerd 1.7.24~ds1-6+deb13u1 → 2.1.9+ds1-5"


def test_dependencies_are_told_apart() -> None:
    plan = plan_packages(parse_simulation(TO_TRIXIE), ["containerd/trixie"], [], [])
    assert [one.name for one in plan.own] == ["containerd"]
    assert [one.name for one in plan.others] == ["base-files", "libc6", "libc-bin"]
    assert plan.arguments == ("containerd=1.7.24~ds1-6+deb13u1",)


def test_a_removal_is_refused_unless_it_is_named() -> None:
    changes = parse_simulation(TO_DOCKER)
    with pytest.raises(ValueError, match=r"to install containerd.io, apt would remove containerd, docker.io, runc: name them in"):
        plan_packages(changes, ["containerd.io"], [], [])
    with pytest.raises(ValueError, match=r"apt would remove docker.io: name them in replace_packages"):
        plan_packages(changes, ["containerd.io"], ["containerd", "runc"], [])
    plan = plan_packages(changes, ["containerd.io"], ["containerd", "runc", "docker.io"], [])
    assert plan.arguments == ("containerd-", "docker.io-", "runc-", "containerd.io=1.7.99-1")
    assert [str(one) for one in plan.own][2:] == ["runc 1.1.15+ds1-2+b4 is removed", "containerd.io 1.7.99-1 is installed"]


def test_a_removal_that_another_removal_causes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"to remove containerd, apt would remove docker.io: name them in replace_packages"):
        plan_packages(parse_simulation("Remv docker.io [26]\nRemv containerd [1.7]\n"), [], ["containerd"], [])


def test_a_dependency_on_hold_is_refused_but_not_a_named_package() -> None:
    changes = parse_simulation(TO_TRIXIE)
    with pytest.raises(ValueError, match=r"on hold, libc6 2.36-9\+deb12u14 → 2.41-12\+deb13u5: .*apt-mark unhold"):
        plan_packages(changes, ["containerd"], [], ["libc6", "containerd"])


@pytest.mark.parametrize(
    "name", ["systemd", "systemd-sysv", "dpkg", "python3", "python3.13", "docker.io", "docker-ce", "kubelet"]
)
def test_a_dependency_that_runs_the_node_is_refused_unless_it_is_named(name: str) -> None:
    changes = (CONTAINERD, Change(name, "1", "2"))
    with pytest.raises(ValueError, match=rf"packages that run the node, {name} 1 → 2: upgrade them first"):
        plan_packages(changes, ["containerd"], [], [])
    assert len(plan_packages(changes, ["containerd", name], [], []).own) == 2


@pytest.mark.parametrize(
    "name", ["libsystemd0", "libpython3.13", "libapt-pkg7.0", "base-files", "criu", "aptitude-common", "initramfs"]
)
def test_other_dependencies_are_no_reason_to_refuse(name: str) -> None:
    assert plan_packages((Change(name, "1", "2"),), ["containerd"], [], []).others


def test_a_package_that_apt_takes_away_to_bring_it_back_is_upgraded() -> None:
    [change] = parse_simulation("Remv runc [1]\nInst runc (2 Debian:1 [amd64])\n")
    assert change == Change("runc", "1", "2")


@pytest.mark.parametrize(
    "request_text", ["containerd", "containerd=1.7.24~ds1-6+b1", "containerd=2.1.*", "containerd.io/trixie", "g++-12"]
)
def test_requests(request_text: str) -> None:
    assert request_name(request_text) in ("containerd", "containerd.io", "g++-12")


@pytest.mark.parametrize(
    "request_text", ["containerd-", "runc+", "-o", "--purge", "a b", "containerd=", "containerd=-1", "^docker", "x;y"]
)
def test_what_apt_reads_otherwise_is_refused(request_text: str) -> None:
    with pytest.raises(ValueError, match=r"packages: .* is not NAME"):
        request_name(request_text)


def test_packages_that_are_not_whole() -> None:
    states = "ii  libc6\niU  runc\nrc  old\niF  containerd\niHR broken\nhi  held\nun  none\niW  waits\nit  triggered\n"
    assert broken_packages(states) == ("runc", "containerd", "broken")


def test_apt_says_why_it_refuses() -> None:
    unmet = " libc-bin : Depends: libc6 (< 2.37) but 2.41 is to be installed\n"
    stdout = f"Reading...\nThe following packages have unmet dependencies:\n{unmet}"
    assert apt_reason(stdout, "W: old list\nE: Error, pkgProblemResolver::Resolve generated breaks\n") == (
        "libc-bin : Depends: libc6 (< 2.37) but 2.41 is to be installed; E: Error, pkgProblemResolver::Resolve generated breaks"
    )
    assert apt_reason("", "E: Version '9' for 'containerd' was not found\n") == "E: Version '9' for 'containerd' was not found"


def test_the_name_of_a_file_with_an_epoch() -> None:
    assert file_name("containerd", "1:2.1.9+ds1-5", "amd64") == "containerd_1%3a2.1.9+ds1-5_amd64.deb"


def test_the_function_that_restores_is_plain_sh() -> None:
    checked = subprocess.run(["dash", "-n"], input=RESTORE_PACKAGES, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
