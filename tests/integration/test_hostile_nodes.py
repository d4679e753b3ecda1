# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_config and node_verify on nodes that other tools have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nodes import daemon
from nodes.config import DURABLE, configure, converges, refused
from nodes.daemon import CRI, DROP_IN, RECORD, ROOT
from nodes.fixtures import packaged
from nodes.node import Node

UNIT_DROP_IN = "/etc/systemd/system/containerd.service.d/10-hostile.conf"
Mending = Callable[[Node, str], None]


@pytest.fixture
def mended() -> Iterator[Mending]:
    """Takes a command that undoes what ``daemon.reset`` doesn't, and runs it after the test."""
    commands: list[tuple[Node, str]] = []
    yield lambda node, command: commands.append((node, command))
    for node, command in commands:
        node.ssh(command, check=False)


def verdict(node: Node, **options: Any) -> dict[str, Any]:
    """What node_verify found, as status by check."""
    result = node.module("node_verify", {**options, "fail_on": []})
    return {one["id"]: one["status"] for one in result["checks"]}


def import_all(node: Node) -> None:
    node.ssh(f"sed -i -e '/^imports/d' -e '1i imports = [\"conf.d/*.toml\"]' {ROOT}; mkdir -p /etc/containerd/conf.d")


def test_a_hidden_import_that_overrides_a_setting_is_named(trixie: Node) -> None:
    import_all(trixie)
    hidden = "/etc/containerd/conf.d/.99.toml"
    daemon.write(trixie, hidden, f'version = 2\n[plugins."{CRI}"]\nmax_concurrent_downloads = 2')
    daemon.restart(trixie)
    refused(trixie, hidden, "overrides", **DURABLE)


def test_an_imported_file_may_import_the_drop_in(lts: Node) -> None:
    daemon.write(lts, "/etc/containerd/base.toml", 'version = 2\nimports = ["conf.d/*.toml"]')
    lts.ssh(f"sed -i '1i imports = [\"base.toml\"]' {ROOT}")
    daemon.restart(lts)
    converges(lts, max_concurrent_downloads=4)
    converges(lts, max_concurrent_downloads=5)
    converges(lts, sandbox_image="registry.example/pause:1")


def test_an_import_that_is_not_there_is_never_green(lts: Node) -> None:
    daemon.write(lts, "/etc/containerd/theirs.toml", "version = 2")
    lts.ssh(f"sed -i '1i imports = [\"theirs.toml\"]' {ROOT}")
    daemon.restart(lts)
    lts.ssh("rm /etc/containerd/theirs.toml")
    assert verdict(lts)["config_loads"] == "fail"
    refused(lts, ROOT, "/etc/containerd/theirs.toml", "imports")


THEIRS = "/etc/containerd/conf.d/50-theirs.toml"
# Imports that keep every containerd from starting, by the command that makes one of "$f". ``config dump`` waits forever
# for the FIFO, and on 2.x passes over the dangling link.
NO_FILES = {
    "fifo": 'mkfifo "$f"',
    "dangling link": 'ln -s /nowhere.toml "$f"',
    "directory": 'mkdir "$f"',
    "link to a directory": 'ln -s /etc "$f"',
    "loop": 'ln -s "$f" "$f"',
    "socket": 'python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" "$f"',
    "link to a fifo": 'mkfifo /etc/containerd/fifo; ln -s ../fifo "$f"',
}


@pytest.mark.two_versions
@pytest.mark.parametrize("kind", NO_FILES)
def test_an_import_that_is_no_file_is_refused_before_the_daemon_is_touched(node: Node, kind: str) -> None:
    packaged(node)
    import_all(node)
    daemon.restart(node)
    node.ssh(f"f={THEIRS}; {NO_FILES[kind]}")
    assert "by hand" in refused(node, THEIRS, max_concurrent_downloads=4)
    assert daemon.plugins(node), "it runs"
    found = node.module("node_verify", {"fail_on": []})
    by_id = {one["id"]: one for one in found["checks"]}
    assert by_id["config_loads"]["status"] == "fail"
    assert THEIRS in by_id["config_loads"]["found"]
    for one in found["checks"]:
        assert "playbook" not in one["remedy"] or one["remedy"].startswith(f"remove or repair {THEIRS} by hand"), one
    node.ssh(f"rm -r {THEIRS}")
    converges(node, max_concurrent_downloads=4)


def test_a_link_to_the_null_device_is_an_empty_import(node: Node) -> None:
    packaged(node)
    import_all(node)
    node.ssh(f"ln -s /dev/null {THEIRS}")
    daemon.restart(node)
    converges(node, max_concurrent_downloads=4)


def test_a_link_that_leads_to_another_file_is_seen(modern: Node) -> None:
    modern.ssh(f"cd /etc/containerd; cp {ROOT} other.toml; mv {ROOT} mine.toml; ln -s mine.toml {ROOT}")
    daemon.restart(modern)
    modern.ssh(f"sleep 1; ln -sfn other.toml {ROOT}")
    assert verdict(modern, only=["restart_pending"]) == {"restart_pending": "fail"}
    done = converges(modern, **DURABLE)
    assert done["restarted"]
    assert modern.exec("readlink", ROOT).stdout.strip() == "other.toml"


def test_a_masked_unit_is_never_green(trixie: Node, mended: Mending) -> None:
    """systemd masks no unit whose file is in /etc/systemd/system, as that of an installation from an archive is."""
    mended(trixie, "systemctl unmask containerd; systemctl enable containerd")
    converges(trixie, **DURABLE)
    trixie.ssh("systemctl mask containerd")
    assert configure(trixie, **DURABLE)["failed"]
    assert "masked" in refused(trixie, "containerd.service", **DURABLE)
    assert verdict(trixie, only=["unit_enabled"]) == {"unit_enabled": "fail"}


def test_a_unit_that_is_enabled_until_the_next_boot_is_enabled_for_good(modern: Node, mended: Mending) -> None:
    mended(modern, "systemctl disable --runtime containerd; systemctl enable containerd")
    converges(modern, **DURABLE)
    modern.ssh("systemctl disable containerd; systemctl enable --runtime containerd")
    assert verdict(modern, only=["unit_enabled"]) == {"unit_enabled": "fail"}
    assert configure(modern, **DURABLE)["changed"]
    assert modern.exec("systemctl", "is-enabled", "containerd").stdout.strip() == "enabled"


def test_a_second_containerd_that_nobody_runs_is_left_alone(modern: Node, mended: Mending) -> None:
    other = "/usr/local/sbin/containerd"
    mended(modern, f"rm -f {other}")
    modern.ssh(f"printf '#!/bin/sh\\necho containerd v1.6.0\\n' >{other}; chmod +x {other}")
    converges(modern, **DURABLE)
    assert verdict(modern, only=["daemon_binary"]) == {"daemon_binary": "ok"}


def test_a_daemon_at_another_socket_is_not_restarted_for_it(modern: Node) -> None:
    refused(modern, "/run/containerd/containerd.sock", "/run/other.sock", "address", address="/run/other.sock")


def test_without_ctr_nothing_is_half_done(modern: Node, mended: Mending) -> None:
    ctr = modern.program("ctr")
    mended(modern, f"mv {ctr}.away {ctr}")
    modern.ssh(f"mv {ctr} {ctr}.away")
    refused(modern, "ctr", **DURABLE)
    modern.ssh("systemctl stop containerd")
    refused(modern, "ctr", **DURABLE)
    assert verdict(modern, only=["daemon_running"]) == {"daemon_running": "fail"}


def test_a_root_file_that_cannot_be_replaced_is_gone_back_from(modern: Node, mended: Mending) -> None:
    mended(modern, f"umount {ROOT}")
    modern.ssh(f"mount --bind {ROOT} {ROOT}")
    listing = modern.ssh("ls -lR /etc/containerd | grep -v ^total").stdout
    result = configure(modern, **DURABLE)
    assert result["failed"] and ROOT in result["msg"], result
    assert modern.ssh("ls -lR /etc/containerd | grep -v ^total").stdout == listing
    assert daemon.read(modern, RECORD) is None
    modern.ssh(f"umount {ROOT}")
    converges(modern, **DURABLE)


def test_runs_at_the_same_time_follow_each_other(modern: Node) -> None:
    packaged = daemon.read(modern, ROOT)
    with ThreadPoolExecutor() as pool:
        # One waits for the other, whose daemon may be slow to start.
        one = pool.submit(configure, modern, timeout=300, **DURABLE)
        other = pool.submit(configure, modern, timeout=300, max_concurrent_downloads=7, sandbox_image="registry.example/pause:1")
    assert not one.result().get("failed"), one.result()
    assert not other.result().get("failed"), other.result()
    assert daemon.is_well(modern)
    converges(modern, state="absent")
    assert daemon.read(modern, ROOT) == packaged
    assert daemon.read(modern, DROP_IN) is None
    assert daemon.read(modern, RECORD) is None


def test_a_daemon_that_crashes_now_and_then_is_never_green(modern: Node) -> None:
    converges(modern, **DURABLE)
    daemon.write(modern, UNIT_DROP_IN, "[Service]\nRuntimeMaxSec=6")
    daemon.restart(modern)
    modern.ssh("sleep 8")
    result = configure(modern, **DURABLE)
    assert result.get("failed"), result
    modern.ssh(f"rm {UNIT_DROP_IN}")
    assert not configure(modern, **DURABLE).get("failed")
    assert not configure(modern, **DURABLE)["changed"]


def test_a_password_closes_the_file_that_it_comes_into(modern: Node) -> None:
    converges(modern, service_directives={"LimitNOFILE": 4321})
    path = "/etc/systemd/system/containerd.service.d/60-slipway.conf"
    assert modern.exec("stat", "--format=%a", path).stdout.strip() == "644"
    converges(modern, service_directives={"LimitNOFILE": 4321}, http_proxy={"https": "http://builder:hunter2@proxy.example:3128"})
    assert modern.exec("stat", "--format=%a", path).stdout.strip() == "600"


def test_containers_are_found_by_any_name_of_shim_and_socket(modern: Node, mended: Mending) -> None:
    daemon.write(modern, UNIT_DROP_IN, "[Service]\nKillMode=control-group")
    daemon.restart(modern)
    daemon.write(modern, "/root/odd-shim", "#!/bin/sh\nsleep 600; :")
    mended(modern, "pkill -f [o]dd-shim")
    modern.ssh(
        "chmod +x /root/odd-shim; "
        "setsid /root/odd-shim -namespace k8s.io -id survivor -address /run/containerd/containerd.sock >/dev/null 2>&1 & "
        "until pgrep -f '^/bin/sh /root/odd-shim' >/dev/null; do sleep 0.1; done"
    )
    refused(modern, "k8s.io/survivor", "KillMode", **DURABLE, address="/var/run/containerd/containerd.sock")
    modern.ssh(f"rm {UNIT_DROP_IN}; systemctl daemon-reload")
    refused(modern, "k8s.io/survivor", "state", extra_config={"state": "/run/elsewhere"})


def test_a_repair_after_a_killed_run_is_not_taken_back(modern: Node) -> None:
    daemon.write(
        modern,
        "/usr/local/sbin/systemctl",
        '#!/bin/sh\n[ "$1" = restart ] && kill -9 $PPID && exit 1\nexec /usr/bin/systemctl "$@"',
    )
    modern.ssh("chmod +x /usr/local/sbin/systemctl")
    modern.module("containerd_config", {"settings": DURABLE})
    modern.ssh(f"rm /usr/local/sbin/systemctl; sed -i '1i oom_score = -7 # ours' {ROOT}")
    daemon.restart(modern)
    result = configure(modern, **DURABLE, extra_config={"debug": {"level": "loud"}})
    assert result["failed"] and result["rolled_back"], result
    assert "oom_score = -7 # ours" in (daemon.read(modern, ROOT) or "")


def test_absent_starts_nothing_where_nothing_was_set(modern: Node) -> None:
    modern.ssh("systemctl stop containerd")
    assert not configure(modern, state="absent")["changed"]
    assert daemon.main_pid(modern) == 0


def test_a_password_in_extra_config_is_neither_shown_nor_logged(trixie: Node) -> None:
    since = trixie.exec("date", "+@%s").stdout.strip()
    registry = {"configs": {"registry.example": {"auth": {"username": "builder", "password": "tiger-lily"}}}}
    settings: dict[str, Any] = {"extra_config": {"plugins": {CRI: {"registry": registry}}}}
    done = converges(trixie, **settings)
    assert trixie.exec("stat", "--format=%a", ROOT).stdout.strip() == "600"
    verified = trixie.module("node_verify", {"settings": settings})
    assert not verified.get("failed"), verified
    assert "tiger-lily" not in str(done) + str(verified)
    logged = trixie.ssh(f"journalctl --sync; journalctl --no-pager --since {since}").stdout
    assert "Invoked with" in logged and "tiger-lily" not in logged


@pytest.mark.parametrize("schema", [2, 3])
def test_verify_names_the_directory_of_cni_that_an_upgrade_loses(node: Node, schema: int) -> None:
    if schema == 3 and node.line < (2,):
        return
    daemon.install(node)
    plugin = CRI if schema == 2 else "io.containerd.cri.v1.runtime"
    daemon.reset(node, root=f'version = {schema}\n[plugins."{plugin}".cni]\nbin_dir = "/usr/lib/cni"')
    found = node.module("node_verify", {"fail_on": [], "only": ["dropped_keys"]})["checks"][0]
    assert found["status"] == ("warn" if schema == 3 else "ok"), found
    if schema == 3:
        assert f'{ROOT}: plugins."{plugin}".cni.bin_dir' in str(found["found"])
        assert "bin_dirs = ['/usr/lib/cni']" in found["remedy"]


AS_A_USER: dict[str, dict[str, Any]] = {
    "blockfile_scratch": {"path": "/var/lib/scratch/ext4", "size": "64M"},
    "containerd_config": {"settings": {"image_pull_sync_fs": True}},
    "containerd_image": {"name": ["docker.io/library/none:1"]},
    "containerd_image_info": {"name": []},
    "containerd_registry": {"registries": [{"name": "quay.io"}]},
    "containerd_unused_snapshots": {"remove": False},
    "kata_config": {"handlers": [], "state": "absent"},
    "node_verify": {"fail_on": []},
    "release_install": {"name": "runc", "version": "1.0", "src": "/usr/bin/true", "remote_src": True},
    "thin_pool_info": {"volume_group": "containerd", "pool": "pool", "devices": ["/dev/loop0"], "root_path": "/var/lib/x"},
    "toolbox_snapshot": {"name": "box", "image": "docker.io/library/none:1"},
    "toolbox_snapshot_info": {"prune_after": "30d", "listed_paths": []},
}


@pytest.mark.parametrize("name", AS_A_USER)
def test_an_ordinary_user_is_told_to_become_root(trixie: Node, name: str) -> None:
    trixie.ssh("id nobody2 >/dev/null 2>&1 || useradd --create-home nobody2")
    options = dict(AS_A_USER[name])
    if name == "release_install":
        options["sha256"] = trixie.exec("sha256sum", options["src"]).stdout.split()[0]
    result = trixie.module(name, options, become_user="nobody2")
    assert result["failed"], result
    assert "set become" in result["msg"], result["msg"]
