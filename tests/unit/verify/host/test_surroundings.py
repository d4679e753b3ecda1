# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.host.unit_files import read_unit_files
from ansible_collections.slipway.node.plugins.module_utils.containerd.effective import EffectiveConfig
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.verify.host import surroundings
from ansible_collections.slipway.node.plugins.module_utils.verify.host.surroundings import (
    created_at_start,
    read_cgroups_problem,
    read_listener,
    read_lost_databases,
    read_missing_controllers,
    read_network,
    read_pod_files,
    read_registry_files,
    read_room,
)

ANY = "an architecture that isn't judged"
PODS = '{"name": "pods", "plugins": [{"type": "bridge"}]}'

# Of no server: openssl req -x509 -newkey ed25519 -nodes -days 36500.
CERTIFICATE = (
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBLjCB4aADAgECAhRzEwps0oNlomFfzTfqC4IhGIkJhDAFBgMrZXAwDDEKMAgG\n"
    "A1UEAwwBYzAgFw0yNjExMzAwMzI0MjJaGA8yMTI2MTEwNjAzMjQyMlowDDEKMAgG\n"
    "A1UEAwwBYzAqMAUGAytlcAMhAIPvCSbYzbUbTkedHU4KOgMkFHeg1pfW/Uy5ROkb\n"
    "NobGo1MwUTAdBgNVHQ4EFgQU7X0isc28RvJjQWV5zYlTiQLAEt0wHwYDVR0jBBgw\n"
    "FoAU7X0isc28RvJjQWV5zYlTiQLAEt0wDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXAD\n"
    "QQAv1eZC+sl25T9vv1nOahqDb3ppEetvL4sqhmZGjKHM+QH7D3nV7tf0CSXdnNBe\n"
    "hD09A7zHKCEpnHFWFcVu0IsH\n"
    "-----END CERTIFICATE-----\n"
)
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBEfvk+7I5xOSLJS170SWXmWcZu9fTe1YCF8aji4lsDt\n-----END PRIVATE KEY-----\n"
OTHER_KEY = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMmBAwg2IqevgivMNC2gMMBGo3lp/4qMxssvUGFETusW\n-----END PRIVATE KEY-----\n"
)


def cni(directory: Path, **keys: object) -> EffectiveConfig:
    table = {"conf_dir": str(directory / "net.d"), "bin_dirs": [str(directory / "bin")], **keys}
    return EffectiveConfig({"version": 3, "plugins": {"io.containerd.cri.v1.runtime": {"cni": table}}})


def test_the_room_of_directories_that_exist_is_read(tmp_path: Path) -> None:
    for pid in (None, os.getpid()):
        (room,) = read_room([str(tmp_path), str(tmp_path / "none")], pid)
        assert room.directory == str(tmp_path) and 0 <= room.free <= room.size and not room.read_only


def test_a_temporary_directory_that_is_not_there_is_missing(tmp_path: Path) -> None:
    away = str(tmp_path / "none")
    assert read_room([away], None) == ()
    (room,) = read_room([away], None, temporary=away)
    assert (room.directory, room.missing, room.directories_only) == (away, True, True)
    assert read_room([away], None, needed=[away]) == (), "the daemon creates it"
    (room,) = read_room([away], os.getpid(), needed=[away])
    assert (room.missing, room.directories_only) == (True, False)


def test_directories_are_needed_of_plugins_that_have_started(tmp_path: Path) -> None:
    overlay, native = tmp_path / "overlayfs", tmp_path / "native"
    for directory in (overlay, native):
        directory.mkdir()
    snapshotters, own = [str(overlay), str(native)], os.getpid()
    assert created_at_start(str(tmp_path), snapshotters, own) == [str(tmp_path / "tmpmounts")]
    (overlay / "metadata.db").touch()
    content = tmp_path / "io.containerd.content.v1.content"
    content.mkdir()
    assert created_at_start(str(tmp_path), snapshotters, own) == [str(tmp_path / "tmpmounts"), str(overlay / "snapshots")]
    (content / "blobs").mkdir()
    needed = [str(tmp_path / "tmpmounts"), str(content / "ingest"), str(overlay / "snapshots")]
    assert created_at_start(str(tmp_path), snapshotters, own) == needed


def test_a_file_system_is_listed_once_and_its_reserved_blocks_are_known(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (room,) = read_room([str(tmp_path), str(tmp_path / "a")], None, with_programs=[str(tmp_path / "a")])
    assert room.available is not None and room.available <= room.free and not room.noexec


def test_the_directories_of_plugins_may_be_file_systems_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "io.containerd.content.v1.content"
    for name in ("ingest", "blobs/sha256", "other"):
        (content / name).mkdir(parents=True)
    (tmp_path / "lost+found").mkdir()
    seen: list[str] = []
    real = os.statvfs

    def statvfs(place: str) -> os.statvfs_result:
        seen.append(place)
        return real(place)

    monkeypatch.setattr(os, "statvfs", statvfs)
    read_room([str(tmp_path)], None)
    assert seen == [str(one) for one in (tmp_path, content, content / "ingest", content / "blobs/sha256")]
    seen.clear()
    read_room([str(tmp_path)], None, temporary=str(tmp_path))
    assert seen == [str(tmp_path)]


def test_files_that_pods_get_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").touch()
    (tmp_path / "link").symlink_to("stub")
    monkeypatch.setattr(surroundings, "POD_FILES", tuple(str(tmp_path / name) for name in ("hosts", "link", "gone")))
    assert read_pod_files() == (f"{tmp_path}/link is a link to stub, which isn't there", f"{tmp_path}/gone isn't there")


def test_a_process_of_another_unit_at_the_socket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"/proc/7/cgroup": "0::/containerd", "/proc/8/cgroup": "0::/containerd", "/proc/9/cgroup": "0::/user"}
    monkeypatch.setattr(surroundings, "read_text", groups.get)
    found = {}
    for at in (None, 7, 8, 9, 10):
        monkeypatch.setattr(surroundings, "listener", lambda _address, at=at: at)
        found[at] = read_listener("/s", 7)
    assert found == {None: None, 7: None, 8: None, 9: 9, 10: None}


def test_content_that_a_process_does_not_see_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").touch()
    paths = [str(tmp_path), *(str(tmp_path / name) for name in ("file", "empty", "missing"))]
    assert [surroundings._is_hidden(path, os.getpid()) for path in paths] == [False] * 4
    has_content = surroundings._has_content
    monkeypatch.setattr(surroundings, "_has_content", lambda place: not place.startswith("/proc/") and has_content(place))
    assert [surroundings._is_hidden(path, os.getpid()) for path in paths] == [True, True, False, False]
    # A process that has ended sees nothing at all.
    assert not surroundings._is_hidden(str(tmp_path), 2**30)


def test_control_groups_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_CGROUPS", str(tmp_path))
    assert read_cgroups_problem(os.getpid()) == f"no control groups are mounted at {tmp_path}"
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/cgroup.procs").touch()
    assert read_cgroups_problem(os.getpid()) == ""


def test_controllers_are_searched_in_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_CGROUPS", str(tmp_path))
    monkeypatch.setattr(surroundings, "_KERNEL_CONTROLLERS", str(tmp_path / "cgroups"))
    assert read_missing_controllers(os.getpid()) == ("memory", "pids")
    (tmp_path / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\npids\t8\t59\t1\n")
    assert read_missing_controllers(os.getpid()) == ("memory",)
    (tmp_path / "cgroups").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/cgroup.procs").touch()
    assert read_missing_controllers(os.getpid()) == ("pids",)
    for place in (tmp_path / "unified", tmp_path):
        place.mkdir(exist_ok=True)
        (place / "cgroup.controllers").write_text("cpu pids\n")
        assert read_missing_controllers(os.getpid()) == ()
        (place / "cgroup.controllers").unlink()
    monkeypatch.setattr(surroundings, "_CGROUPS", str(tmp_path / "missing"))
    assert read_missing_controllers(os.getpid()) == ()


def test_databases_that_are_gone_below_a_process_are_named(tmp_path: Path) -> None:
    names = ("kept.db", "deleted.db", "replaced.db", "deleted.log")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context((tmp_path / name).open("w"))
        for name in names[1:]:
            (tmp_path / name).unlink()
        # A file that is new for certain: the deleted one's inode isn't free while it is open.
        (tmp_path / "replaced.db").touch()
        found = read_lost_databases(os.getpid())
    assert found == (str(tmp_path / "deleted.db"), str(tmp_path / "replaced.db"))


def test_no_directory_of_cni_is_no_problem(tmp_path: Path) -> None:
    found = read_network(cni(tmp_path), ANY)
    assert (found.files, found.problems) == ((), ())


def test_plugins_of_cni_are_searched(tmp_path: Path) -> None:
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d/10-pods.conflist").write_text(PODS)
    (tmp_path / "net.d/99-other.conf").write_text("{")
    (tmp_path / "net.d/README").write_text("{")
    (tmp_path / "net.d/00.conflist").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bridge").write_text("#!/bin/sh\n")
    (tmp_path / "bin/bridge").chmod(0o755)
    assert read_network(cni(tmp_path, max_conf_num=1, use_internal_loopback=True), ANY).problems == ()
    found = read_network(cni(tmp_path), ANY).problems
    assert [problem.partition(" (")[0] for problem in found] == [
        f"{tmp_path}/net.d/99-other.conf is no CNI configuration",
        f"the CNI plugin loopback isn't in {tmp_path}/bin",
    ]


@pytest.mark.parametrize("make", ["mkfifo 1.conf", "ln -s 1.conf 1.conf", "ln -s /nowhere 1.conf"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: str) -> None:
    (tmp_path / "net.d").mkdir()
    assert os.system(f"cd {tmp_path}/net.d; {make}") == 0
    assert f"{tmp_path}/net.d/1.conf is a" in read_network(cni(tmp_path, use_internal_loopback=True), ANY).problems[0]


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_secrets_in_a_private_directory_are_private(public: Path) -> None:
    (public / "a").mkdir()
    (public / "a/hosts.toml").write_text('[header]\nAuthorization = "Basic eA=="\n')
    (public / "a/hosts.toml").chmod(0o644)
    assert read_registry_files(registries(public), Version(2, 3, 7))[0].exposed == (f"{public}/a/hosts.toml",)
    (public / "a").chmod(0o700)
    assert read_registry_files(registries(public), Version(2, 3, 7))[0].exposed == ()


def registries(directory: Path) -> EffectiveConfig:
    table = {"registry": {"config_path": str(directory)}}
    return EffectiveConfig({"version": 3, "plugins": {"io.containerd.cri.v1.images": table}})


def test_files_that_tls_can_not_use_are_found(public: Path) -> None:
    for name, text in {"c.crt": CERTIFICATE, "c.key": KEY, "other.key": OTHER_KEY, "cut.crt": CERTIFICATE[:100]}.items():
        (public / name).write_text(text)
    (public / "both.pem").write_text(KEY + CERTIFICATE)
    for client, ca, problems in (
        ('[["../c.crt", "../c.key"]]', "c.crt", ()),
        ('"../both.pem"', "both.pem", ()),
        ('[["../c.crt", "../other.key"]]', "c.crt", ("c.crt, which is no pair with",)),
        ('[["../cut.crt", "../c.key"]]', "cut.crt", ("cut.crt, which has no certificate", "cut.crt, which is no pair with")),
    ):
        (public / "a").mkdir(exist_ok=True)
        (public / "a/hosts.toml").write_text(f'ca = "../{ca}"\nclient = {client}\n')
        found = {one.path: one for one in read_registry_files(registries(public), Version(2, 3, 7))}[f"{public}/a/hosts.toml"]
        assert len(found.problems) == len(problems), found
        assert all(words in problem for words, problem in zip(problems, found.problems))


def test_files_of_registries_are_read(public: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f", "empty"):
        (public / name).mkdir()
    (public / "e/hosts.toml").write_text('ca = "ca.crt"\nclient = "client.pem"\n')
    for name in ("e/ca.crt", "e/client.pem", "f/ca.crt"):
        (public / name).write_text("other")
    (public / "file").touch()
    (public / "a/hosts.toml").write_text('ca = "ca.crt"\n')
    (public / "b/hosts.toml").write_text("[")
    os.mkfifo(public / "c/hosts.toml")
    (public / "d/hosts.toml").write_text('client = [["c.crt", "c.key"]]\n[header]\nAuthorization = "Basic eA=="\n')
    (public / "d/hosts.toml").chmod(0o600)
    (public / "d/c.crt").write_text(CERTIFICATE)
    (public / "d/c.key").write_text(KEY)
    (public / "d/c.key").chmod(0o644)
    found = {one.path[len(str(public)) :]: one for one in read_registry_files(registries(public), Version(2, 3, 7))}
    assert found["/a/hosts.toml"].problems == (f"names {public}/a/ca.crt, which isn't there",)
    assert found["/b/hosts.toml"].problems[0].startswith("can't be read (")
    assert found["/c/hosts.toml"].problems == ("is a FIFO",)
    assert (found["/d/hosts.toml"].problems, found["/d/hosts.toml"].exposed) == ((), (f"{public}/d/c.key",))
    no_key, no_certificate = "has no private key in PEM format", "has no certificate in PEM format"
    assert found["/e/hosts.toml"].problems == (
        f"names {public}/e/ca.crt, which {no_certificate}",
        f"names {public}/e/client.pem, which {no_key}",
    )
    assert found["/f"].problems == (f"names {public}/f/ca.crt, which {no_certificate}",)
    assert len(found) == 6


def test_the_files_of_the_unit_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[Service]\n")
    assert [one.path for one in read_unit_files([str(tmp_path / "a"), str(tmp_path / "none")])] == [str(tmp_path / "a")]
