# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.node.plugins.module_utils.release import plan as archive
from ansible_collections.slipway.node.plugins.module_utils.release.plan import (
    CurrentLink,
    Installed,
    InstalledReleases,
    Member,
    Release,
    check_machine,
    check_members,
    check_source,
    is_executable_below,
    normal_architecture,
    parse_directory,
    parse_release,
    plan_absent,
    plan_links,
    plan_present,
    plan_staged,
    versions_to_drop,
)

HOME, LINKS = "/usr/local/lib/slipway/containerd", "/usr/local/bin"
SHA256 = "0123456789abcdef" * 4


def options(**changed: Any) -> dict[str, Any]:
    plain = {"name": "containerd", "version": "2.1.4", "sha256": SHA256, "architecture": None, "bin_dir": "bin"}
    return {**plain, **changed}


def release(**changed: Any) -> Release:
    return parse_release(options(**changed), node_architecture="x86_64")


def test_a_release() -> None:
    parsed = release(sha256=SHA256.upper(), bin_dir="./opt/kata/bin/", architecture="arm64")
    assert parsed == Release("containerd", "2.1.4", SHA256, "aarch64", "opt/kata/bin")
    assert parsed.directory == "2.1.4-0123456789ab"
    assert release().architecture == "x86_64"
    assert release(install_root="/opt/kata/", bin_dir="opt/kata/bin").tree == "opt/kata"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "../x"}, "name must be"),
        ({"name": ".staging"}, "name must be"),
        ({"version": "../1"}, "version must be"),
        ({"version": "1\n"}, "version must be"),
        ({"version": ""}, "version must be"),
        ({"sha256": "abc"}, "sha256 must be 64"),
        ({"sha256": SHA256 + "\n"}, "sha256 must be 64"),
        ({"bin_dir": "/bin"}, "bin_dir must be"),
        ({"install_root": "opt/kata"}, "install_root must be an absolute path"),
        ({"install_root": "/opt/kata"}, "bin_dir must be inside install_root, as opt/kata/bin is, not 'bin'"),
        ({"install_root": "/opt/kata", "bin_dir": "opt/katana"}, "bin_dir must be inside install_root"),
        ({"bin_dir": "a/../.."}, "bin_dir must be"),
        ({"architecture": "vax"}, "architecture must be one of .*amd64.*'vax'"),
    ],
)
def test_nonsense_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        release(**changed)


@pytest.mark.parametrize("path", ["relative", "/", "//", "/a/../b", "/a\nb", ""])
def test_directories(path: str) -> None:
    with pytest.raises(ValueError, match="links must be an absolute path below /"):
        parse_directory(path, "links")


@pytest.mark.parametrize(
    ("src", "kind"), [("/a b", "path"), ("https://h/a.tgz", "url"), ("http://h/", "url"), ("file:///a", "url")]
)
def test_sources(src: str, kind: str) -> None:
    assert check_source(src) == kind


@pytest.mark.parametrize("src", ["", "a.tgz", "./a", "ftp://h/a", "https://h/a b", "/a\nb", "https://"])
def test_bad_sources(src: str) -> None:
    with pytest.raises(ValueError, match="src must be an absolute path"):
        check_source(src)


GOOD = [
    Member("./", "directory", 0o755),
    Member("./bin/", "directory", 0o1755),
    Member("./bin/a", "file", 0o755, 10),
    Member("bin/b", "hardlink", 0o755, 0, "./bin/a"),
    Member("bin/c", "symlink", 0o777, 0, "a"),
    Member("share/d", "symlink", 0o777, 0, "../bin/a"),
    Member("bin/", "directory", 0o755),
]


def test_a_good_archive() -> None:
    assert check_members(GOOD) == 10


@pytest.mark.parametrize(
    "bad",
    [
        Member("/etc/passwd", "file", 0o644),
        Member("../x", "file", 0o644),
        Member("a/../../x", "file", 0o644),
        Member("a\nb", "file", 0o644),
        Member("", "file", 0o644),
        Member(".", "file", 0o644),
        Member("dev", "block device", 0o644),
        Member("fifo", "named pipe", 0o644),
        Member("su", "file", 0o4755),
        Member("sg", "file", 0o2755),
        Member("sgd", "directory", 0o2755),
        Member("l1", "symlink", 0o777, 0, "/etc"),
        Member("l2", "symlink", 0o777, 0, ".."),
        Member("bin/l3", "symlink", 0o777, 0, "../.."),
        Member("bin/l4", "symlink", 0o777, 0, "c/../../x"),
        Member("l5", "symlink", 0o777, 0, ""),
        Member("h1", "hardlink", 0o644, 0, "/etc/shadow"),
        Member("h2", "hardlink", 0o644, 0, "not/there"),
        Member("h3", "hardlink", 0o644, 0, "bin/c"),
        Member("bin/a", "file", 0o644),
        Member("bin/c", "symlink", 0o777, 0, "b"),
        Member("bin", "symlink", 0o777, 0, "share"),
        Member("bin/c/x", "file", 0o644),
        Member("bin/a/x", "file", 0o644),
    ],
)
def test_a_hostile_member_is_named(bad: Member) -> None:
    with pytest.raises(ValueError, match="the archive") as caught:
        check_members([*GOOD, bad])
    assert repr(bad.name) in str(caught.value)


def test_a_file_below_a_later_link() -> None:
    with pytest.raises(ValueError, match="'x/y' is below 'x', which is a symlink"):
        check_members([Member("x/y", "file", 0o644), Member("x", "symlink", 0o777, 0, "z")])


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unpacks to more than"):
        check_members([Member("a", "file", 0o644, archive.MAX_BYTES + 1)])
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(ValueError, match="more than 3 members"):
        check_members(Member(str(number), "file", 0o644) for number in range(10**9))


parts = st.sampled_from(["a", "b", "..", "."])


@given(st.lists(st.tuples(st.lists(parts, min_size=1, max_size=3), st.lists(parts, min_size=1, max_size=5)), max_size=5))
def test_links_that_pass_stay_inside(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[list[str], list[str]]]) -> None:
    """Whatever set of links is accepted, following them on a real file system never leads outside."""
    members = [Member("/".join(name), "symlink", 0o777, 0, "/".join(target)) for name, target in pairs]
    try:
        check_members(members)
    except ValueError:
        return
    root = tmp_path_factory.mktemp("outer") / "tree"
    for member in members:
        path = root / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(member.target)
    for member in members:
        assert Path(os.path.realpath(root / member.name)).is_relative_to(os.path.realpath(root))


@pytest.mark.parametrize(
    ("name", "mode", "kind", "bin_dir", "expected"),
    [
        ("./bin/ctr", 0o755, "file", "bin", True),
        ("bin/ctr", 0o644, "file", "bin", False),
        ("bin/sub/ctr", 0o755, "file", "bin", False),
        ("bin", 0o755, "directory", ".", False),
        ("./bridge", 0o755, "file", ".", True),
        ("bin/ctr", 0o755, "hardlink", "bin", True),
        ("bin/ctr", 0o777, "symlink", "bin", False),
    ],
)
def test_executables(name: str, mode: int, kind: str, bin_dir: str, expected: bool) -> None:
    assert is_executable_below(Member(name, kind, mode), bin_dir) is expected


def elf(machine: int, order: str = "little") -> bytes:
    header = b"\x7fELF" + bytes([2, 1 if order == "little" else 2]) + bytes(12)
    return header + machine.to_bytes(2, "little" if order == "little" else "big")


def test_machines() -> None:
    check_machine("bin/a", elf(62), "x86_64")
    check_machine("bin/a", elf(22, "big"), "s390x")
    check_machine("bin/a", b"#!/bin/sh\n", "x86_64")
    with pytest.raises(ValueError, match="bin/a is built for aarch64, but architecture is x86_64"):
        check_machine("bin/a", elf(183), "x86_64")
    with pytest.raises(ValueError, match="built for machine 9999"):
        check_machine("bin/a", elf(9999), "x86_64")


def test_this_machines_own_program_is_accepted() -> None:
    """That is, no ValueError is raised."""
    with open("/proc/self/exe", "rb") as program:
        check_machine("python", program.read(20), normal_architecture(os.uname().machine))


def test_links() -> None:
    ours = f"{HOME}/current/bin"
    found = {
        f"{LINKS}/ctr": CurrentLink(f"{ours}/ctr"),
        f"{LINKS}/moved": CurrentLink(f"{HOME}/1.0-abc/bin/moved"),
        f"{LINKS}/gone": CurrentLink(f"{ours}/gone"),
        f"{LINKS}/vim": CurrentLink(None),
        f"{LINKS}/other": CurrentLink(f"{HOME}-other/current/bin/other"),
    }
    plan = plan_links(["bin/containerd", "bin/ctr", "bin/moved"], found, links=LINKS, home=HOME, adopt=False)
    assert plan.wanted[f"{LINKS}/containerd"] == f"{ours}/containerd"
    assert plan.changed == (f"{LINKS}/containerd", f"{LINKS}/moved")
    assert plan.stale == (f"{LINKS}/gone",)


@pytest.mark.parametrize(
    ("link", "message", "replaceable"),
    [
        (CurrentLink(None), "/usr/local/bin/ctr is a file and was not made by this module", True),
        (CurrentLink("/opt/ctr"), "/usr/local/bin/ctr is a link to /opt/ctr", True),
        (CurrentLink(f"{HOME}-other/current/bin/ctr"), "is a link to", True),
        (CurrentLink(None, is_directory=True), "/usr/local/bin/ctr is a directory", False),
    ],
)
def test_what_is_in_the_way(link: CurrentLink, message: str, replaceable: bool) -> None:
    with pytest.raises(ValueError, match=message):
        plan_links(["bin/ctr"], {f"{LINKS}/ctr": link}, links=LINKS, home=HOME, adopt=False)
    if replaceable:
        plan = plan_links(["bin/ctr"], {f"{LINKS}/ctr": link}, links=LINKS, home=HOME, adopt=True)
        assert plan.changed == (f"{LINKS}/ctr",)
    else:
        with pytest.raises(ValueError, match=message):
            plan_links(["bin/ctr"], {f"{LINKS}/ctr": link}, links=LINKS, home=HOME, adopt=True)


def installed(*names: str) -> list[Installed]:
    return [Installed(name, name, ("bin/ctr",), float(number)) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("previous", "keep", "dropped"),
    [
        ("1", 0, {"1", "2", "3"}),
        ("1", 1, {"2", "3"}),
        ("1", 2, {"2"}),
        (None, 1, {"1", "2"}),
        ("4", 1, {"1", "2"}),
        ("1", 9, set()),
    ],
)
def test_versions_to_drop(previous: str | None, keep: int, dropped: set[str]) -> None:
    assert set(versions_to_drop(installed("1", "2", "3", "4"), wanted="4", previous=previous, keep=keep)) == dropped


def test_a_version_that_a_generation_leads_to_is_not_dropped() -> None:
    found = versions_to_drop(installed("1", "2", "3", "4"), wanted="4", previous="3", keep=0, kept={"1"})
    assert set(found) == {"2", "3"}


def test_keep_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="keep_versions must not be negative"):
        versions_to_drop([], wanted="1", previous=None, keep=-1)


def present(found: InstalledReleases, executables: list[str] | None, **changed: Any) -> Any:
    return plan_present(found, release(**changed), executables, links=LINKS, home=HOME, adopt=False, keep=1)


def test_a_fresh_node_and_then_nothing() -> None:
    plan = present(InstalledReleases((), None, (), {}), ["bin/ctr"])
    assert (plan.install, plan.switch, plan.current) == (True, True, "2.1.4-0123456789ab")
    version = Installed("2.1.4-0123456789ab", "2.1.4", ("bin/ctr",), 1.0)
    links = {path: CurrentLink(target) for path, target in plan.links.wanted.items()}
    assert not present(InstalledReleases((version,), version.directory, (), links), ["bin/ctr"]).changed


def test_without_the_archive_the_installation_is_predicted() -> None:
    assert present(InstalledReleases((), None, (), {}), None).changed


def test_a_damaged_version_is_installed_again() -> None:
    version = Installed("2.1.4-0123456789ab", "2.1.4", ("bin/ctr",), 1.0, whole=False)
    assert present(InstalledReleases((version,), version.directory, (), {}), ["bin/ctr"]).install


def test_another_bin_dir_is_installed_again() -> None:
    version = Installed("2.1.4-0123456789ab", "2.1.4", ("bin/ctr",), 1.0)
    found = InstalledReleases((version,), version.directory, (), {})
    assert found.whole(release()) == version
    assert found.whole(release(bin_dir="sbin")) is None


def test_a_staged_version_changes_no_link_and_drops_no_version() -> None:
    links = {f"{LINKS}/containerd": CurrentLink(f"{HOME}/current/bin/containerd")}
    found = InstalledReleases(tuple(installed("1-a", "2-b", "3-c")), "1-a", (), links)
    plan = plan_staged(found, release())
    assert (plan.install, plan.switch, plan.current, plan.links.changed, plan.links.stale, plan.dropped) == (
        True,
        False,
        "1-a",
        (),
        (),
        (),
    )
    there = Installed(release().directory, "2.1.4", ("bin/containerd",), 9.0)
    again = InstalledReleases((*found.installed, there), "1-a", (), links)
    assert not plan_staged(again, release()).changed


def test_absent() -> None:
    link = f"{LINKS}/ctr"
    found = InstalledReleases(tuple(installed("1", "2")), "2", (".staging-x",), {link: CurrentLink(f"{HOME}/current/bin/ctr")})
    plan = plan_absent(found, home=HOME)
    assert (plan.links.stale, plan.dropped, plan.leftovers) == ((link,), ("1", "2"), (".staging-x",))
    assert not plan_absent(InstalledReleases((), None, (), {link: CurrentLink(None)}), home=HOME).changed


def test_every_link_is_named_after_its_executable() -> None:
    plan = plan_links(["sbin/a", "sbin/b"], {}, links=LINKS, home=HOME, adopt=False)
    assert all(posixpath.basename(path) == posixpath.basename(target) for path, target in plan.wanted.items())
