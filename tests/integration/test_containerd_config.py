# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_config on real daemons under systemd: settings are effective, and faults are refused or rolled back."""

from __future__ import annotations

import base64
import shlex
import socket
import threading
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from nodes import daemon
from nodes.config import DURABLE, arguments, configure, converges, durable, pulls_durably, refused
from nodes.daemon import CRI, DROP_IN, IMAGES, RECORD, ROOT
from nodes.node import Node

MODULE = "containerd_config"
RUNC = f'[plugins."{CRI}".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"'


@pytest.mark.smoke
def test_settings_arrive_on_the_running_daemon_and_stay(installed: Node) -> None:
    pid = daemon.main_pid(installed)
    since_1_7 = {**DURABLE, "image_pull_progress_timeout": "90s"} if installed.line >= (1, 7) else {}
    done = converges(installed, **since_1_7, max_concurrent_downloads=7, service_directives={"LimitNOFILE": 4321})
    assert daemon.main_pid(installed) != pid
    assert pulls_durably(installed) is bool(since_1_7)
    assert done["durability"]["cri"]["durability"] == ("durable" if since_1_7 else "not_durable")
    assert done["effective"]["max_concurrent_downloads"] == 7
    assert done["effective"]["image_pull_progress_timeout"] in (("90s", "1m30s") if since_1_7 else (None,))
    limits = installed.exec("cat", f"/proc/{daemon.main_pid(installed)}/limits").stdout
    assert "4321" in limits


@pytest.mark.smoke
def test_absent_takes_back_exactly_what_was_set(installed: Node) -> None:
    before = daemon.read(installed, ROOT)
    converges(
        installed, **durable(installed), sandbox_image="registry.example/pause:9", service_directives={"TasksMax": "infinity"}
    )
    assert (daemon.read(installed, ROOT), daemon.read(installed, DROP_IN)) != (before, None)
    converges(installed, state="absent")
    assert daemon.read(installed, ROOT) == before
    assert daemon.read(installed, DROP_IN) is None
    assert daemon.read(installed, RECORD) is None
    assert daemon.read(installed, "/etc/systemd/system/containerd.service.d/60-slipway.conf") is None
    assert daemon.is_well(installed)


def listing(node: Node) -> str:
    """Names, kinds and contents of what a run may create or edit."""
    places = "/etc/containerd /etc/systemd/system/containerd.service.d"
    return node.ssh(
        f"find {places} -printf '%p %y\\n' | sort; find {places} -type f | sort | xargs sha256sum", check=False
    ).stdout


def test_absent_keeps_what_was_empty_before(node: Node) -> None:
    daemon.install(node)
    daemon.reset(node, root="version = 2\nimports = []   # none yet")
    node.ssh("mkdir -p /etc/containerd/conf.d /etc/systemd/system/containerd.service.d")
    before = listing(node)
    converges(node, max_concurrent_downloads=4, service_directives={"TasksMax": "infinity"})
    converges(node, sandbox_image="registry.example/pause:9")
    converges(node, state="absent")
    assert listing(node) == before


def test_absent_removes_the_directories_that_a_run_created(node: Node) -> None:
    daemon.install(node)
    daemon.reset(node)
    before = listing(node)
    converges(node, max_concurrent_downloads=4, service_directives={"TasksMax": "infinity"})
    converges(node, state="absent")
    assert listing(node) == before


def test_a_foreign_file_at_the_drop_in_is_neither_replaced_nor_removed(node: Node) -> None:
    daemon.install(node)
    daemon.reset(node, root='version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]')
    theirs = "version = 2\noom_score = -7"
    daemon.write(node, DROP_IN, theirs)
    daemon.restart(node)
    if node.line >= (2,):
        refused(node, DROP_IN, "not written by slipway.node", max_concurrent_downloads=4)
    else:
        converges(node, max_concurrent_downloads=4)
    configure(node, state="absent")
    assert daemon.read(node, DROP_IN) == f"{theirs}\n"
    assert daemon.is_well(node)


def test_absent_on_a_file_that_was_broken_before_asks_for_no_setting(node: Node) -> None:
    daemon.install(node)
    daemon.reset(node, root=f'version = 2\n[plugins."{CRI}".containerd]\ndefault_runtime_name = "gone"\n{RUNC}')
    message = refused(node, ROOT, "'gone' is not declared", "by hand", state="absent")
    assert "add it to runtimes" not in message


def test_a_drop_in_that_is_the_root_file_is_refused(modern: Node) -> None:
    refused(modern, "drop_in_file", ROOT, drop_in_file=ROOT, max_concurrent_downloads=4)


def test_a_wrong_type_is_refused(modern: Node) -> None:
    plugin = "io.containerd.gc.v1.scheduler"
    refused(modern, "containerd refuses", extra_config={"plugins": {plugin: {"mutation_threshold": "many"}}})


@pytest.mark.smoke
def test_an_unknown_key_is_refused(modern: Node) -> None:
    plugin = "io.containerd.gc.v1.scheduler"
    refused(
        modern, f'plugins."{plugin}".mutation_treshold', "not known", extra_config={"plugins": {plugin: {"mutation_treshold": 1}}}
    )


def test_an_unknown_plugin_is_refused(modern: Node) -> None:
    refused(
        modern, "io.containerd.nonsense.v1.x", "not known", extra_config={"plugins": {"io.containerd.nonsense.v1.x": {"a": 1}}}
    )


@pytest.mark.smoke
def test_what_kills_cri_is_rolled_back(installed: Node) -> None:
    converges(installed, **durable(installed))
    before = daemon.read(installed, ROOT), daemon.read(installed, DROP_IN)
    result = configure(installed, **durable(installed), extra_config={"plugins": {CRI: {"stream_idle_timeout": "soon"}}})
    assert result["failed"]
    assert result["rolled_back"]
    assert "CRI plugin" in result["msg"]
    assert "soon" in result["msg"], "the journal's lines are in the message"
    assert (daemon.read(installed, ROOT), daemon.read(installed, DROP_IN)) == before
    assert daemon.is_well(installed)
    assert not configure(installed, **durable(installed))["changed"]


def test_a_daemon_broken_by_hand_is_mended_where_the_setting_is_ours(modern: Node) -> None:
    converges(modern, **DURABLE)
    ours = DROP_IN if modern.line >= (2,) else ROOT
    modern.ssh(f"sed -i 's/image_pull_with_sync_fs = true/image_pull_with_sync_fs = \"broken\"/' {ours}")
    modern.ssh("systemctl restart containerd", check=False)
    assert not daemon.is_well(modern)
    converges(modern, **DURABLE)
    assert pulls_durably(modern)


def test_a_daemon_broken_by_hand_elsewhere_is_never_green(modern: Node) -> None:
    converges(modern, **DURABLE)
    modern.ssh(f"echo 'this is not TOML' >> {ROOT}; systemctl restart containerd", check=False)
    for _ in range(2):
        result = configure(modern, **DURABLE)
        assert result["failed"]
        assert ROOT in result["msg"]
    verdict = modern.module("node_verify", {"settings": DURABLE})
    assert verdict["failed"]
    daemon.reset(modern)


@pytest.mark.parametrize("moment", range(1, 6))
def test_a_run_killed_while_it_writes_is_mended_by_the_next(modern: Node, moment: int) -> None:
    script = "/root/killed-python"
    daemon.write(
        modern,
        script,
        "#!/bin/sh\nexec strace -f -qq -o /dev/null -e trace=rename "
        f'-e inject=rename:signal=KILL:when={moment} $(command -v python3) "$@"',
    )
    modern.ssh(f"chmod +x {script}")
    options: dict[str, Any] = {**DURABLE, "service_directives": {"LimitNOFILE": 8192}}
    killed = modern.module(MODULE, arguments(**options), python=script)
    finished = not killed.get("failed") and "changed" in killed
    result = configure(modern, **options)
    assert not result.get("failed"), result
    assert result["changed"] != finished
    assert pulls_durably(modern)
    again = configure(modern, **options)
    assert not again["changed"], again
    converges(modern, state="absent")
    assert daemon.read(modern, RECORD) is None


def test_a_run_killed_between_write_and_restart_is_mended_by_the_next(modern: Node) -> None:
    daemon.write(
        modern,
        "/usr/local/sbin/systemctl",
        '#!/bin/sh\n[ "$1" = restart ] && kill -9 $PPID && exit 1\nexec /usr/bin/systemctl "$@"',
    )
    modern.ssh("chmod +x /usr/local/sbin/systemctl")
    pid = daemon.main_pid(modern)
    killed = modern.module(MODULE, {"settings": DURABLE})
    assert killed.get("failed") or "module_stdout" in killed, killed
    assert daemon.main_pid(modern) == pid
    modern.ssh("rm /usr/local/sbin/systemctl")
    assert daemon.record(modern)["pending"]
    assert "interrupted_config_change" in modern.module("node_verify", {})["msg"]
    result = configure(modern, **DURABLE)
    assert result["restarted"] and not result.get("failed")
    assert daemon.main_pid(modern) != pid
    assert pulls_durably(modern)
    assert not daemon.record(modern).get("pending")


def test_bad_settings_of_a_killed_run_are_rolled_back_by_the_next(modern: Node) -> None:
    converges(modern, **DURABLE)
    daemon.write(
        modern,
        "/usr/local/sbin/systemctl",
        '#!/bin/sh\n[ "$1" = restart ] && kill -9 $PPID && exit 1\nexec /usr/bin/systemctl "$@"',
    )
    modern.ssh("chmod +x /usr/local/sbin/systemctl")
    bad: dict[str, Any] = {**DURABLE, "extra_config": {"plugins": {CRI: {"stream_idle_timeout": "soon"}}}}
    modern.module(MODULE, arguments(**bad))
    modern.ssh("rm /usr/local/sbin/systemctl; systemctl restart containerd")
    assert not daemon.is_well(modern)
    result = configure(modern, **bad)
    assert result["failed"] and result["rolled_back"], result
    assert pulls_durably(modern)


def test_a_daemon_older_than_its_files_is_restarted(modern: Node) -> None:
    converges(modern, **DURABLE)
    pid = daemon.main_pid(modern)
    modern.ssh(f"echo '# a comment' >> {ROOT}; touch -d 2020-01-01 {ROOT}")
    result = configure(modern, **DURABLE)
    assert result["changed"] and result["restarted"]
    assert ROOT in result["restart_reason"]
    assert daemon.main_pid(modern) != pid
    assert not configure(modern, **DURABLE)["changed"]


def test_a_stopped_daemon_is_started(modern: Node) -> None:
    converges(modern, **DURABLE)
    modern.ssh("systemctl stop containerd")
    converges(modern, **DURABLE)
    assert pulls_durably(modern)


def test_a_later_import_that_overrides_a_setting_is_named(modern: Node) -> None:
    later = "/etc/containerd/conf.d/99-other.toml"
    if modern.line >= (2,):
        content = f'version = 2\n[plugins."{CRI}"]\nimage_pull_with_sync_fs = false'
    else:
        # 1.x replaces the whole table, so the setting needn't even be named.
        content = f'version = 2\n[plugins."{CRI}"]\nmax_concurrent_downloads = 2'
    daemon.write(modern, later, content)
    packaged = daemon.read(modern, ROOT) or ""
    daemon.write(modern, ROOT, 'imports = ["conf.d/*.toml"]\n' + packaged)
    daemon.restart(modern)
    refused(modern, later, "image_pull_with_sync_fs", **DURABLE)


def test_disabled_cri_is_refused_or_enabled(modern: Node) -> None:
    daemon.reset(modern, 'disabled_plugins = ["cri"]')
    refused(modern, "disabled_plugins", "enable_cri", **DURABLE)
    converges(modern, **DURABLE, enable_cri=True)
    assert pulls_durably(modern)
    converges(modern, state="absent")
    assert tomllib.loads(daemon.read(modern, ROOT) or "")["disabled_plugins"] == ["cri"]


def test_disabled_cri_is_left_alone_without_settings_for_it(modern: Node) -> None:
    daemon.reset(modern, f'version = 2\ndisabled_plugins = ["{CRI}"]')
    converges(modern, extra_config={"plugins": {"io.containerd.gc.v1.scheduler": {"startup_delay": "250ms"}}})


@pytest.mark.parametrize(
    "root",
    [
        None,
        "version = 2",
        "# an admin's file without a version\noom_score = -500",
        'version = 2\n\n# Networks\n[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/usr/lib/cni" # ours\n',
    ],
    ids=["no-root", "no-imports", "no-version", "schema-2"],
)
def test_every_kind_of_root_file_is_dealt_with(modern: Node, root: str | None) -> None:
    daemon.reset(modern, root)
    converges(modern, **DURABLE, snapshotter="native", systemd_cgroup=True)
    assert pulls_durably(modern)
    effective = daemon.dump(modern)
    text = daemon.read(modern, ROOT) or ""
    for line in (root or "").splitlines():
        assert line.strip() in text
    if root and "oom_score" in root:
        assert effective["oom_score"] == -500
    if modern.line >= (2,):
        assert effective["plugins"][IMAGES]["snapshotter"] == "native"
        assert effective["plugins"][IMAGES]["use_local_image_pull"] is True
    else:
        assert effective["plugins"][CRI]["containerd"]["snapshotter"] == "native"
    converges(modern, state="absent")
    if root is None:
        assert daemon.read(modern, ROOT) is None
    else:
        assert tomllib.loads(daemon.read(modern, ROOT) or "") == tomllib.loads(root)


def test_tables_of_any_order_are_kept(installed: Node) -> None:
    """And a byte order mark before them, which 1.x reads."""
    mark = "\ufeff" if installed.line < (2,) else ""
    root = f'''{mark}version = 2
[plugins."{CRI}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{CRI}"]
sandbox_image = "registry.example/pause:1" # ours
[plugins]
'''
    daemon.reset(installed, root)
    assert daemon.is_well(installed)
    converges(installed, **durable(installed))
    text = daemon.read(installed, ROOT) or ""
    assert text.startswith(mark) and all(line in text for line in root.splitlines())
    plugins = daemon.dump(installed)["plugins"]
    image = plugins[IMAGES]["pinned_images"]["sandbox"] if installed.line >= (2,) else plugins[CRI]["sandbox_image"]
    assert image == "registry.example/pause:1"
    converges(installed, state="absent")
    assert daemon.read(installed, ROOT) == f"{root}\n"


def test_a_schema_1_file_is_refused(trixie: Node) -> None:
    daemon.reset(trixie, '[plugins.cri]\nsandbox_image = "registry.example/pause:1"')
    refused(trixie, ROOT, "schema 1", **DURABLE)


def test_an_admins_comments_and_keys_survive_on_1_x(trixie: Node) -> None:
    own = (
        "# Do not touch: ticket 4711\nversion = 2\noom_score = -999 # ours\n\n[metrics]\n  # scraped by the node exporter\n"
        f'  grpc_histogram = true\n\n[plugins."{CRI}"]\n  max_container_log_line_size = 4096 # long lines\n'
        '[plugins."io.containerd.internal.v1.opt"]\n  path = "/opt/theirs"\n'
    )
    daemon.reset(trixie, own)
    kata = {"name": "kata", "type": "io.containerd.kata.v2", "pod_annotations": ["io.katacontainers.*"]}
    converges(trixie, **DURABLE, runtimes=[kata])
    handlers = daemon.dump(trixie)["plugins"][CRI]["containerd"]["runtimes"]
    assert handlers["kata"]["runtime_type"] == "io.containerd.kata.v2"
    assert handlers["runc"]["runtime_type"] == "io.containerd.runc.v2"
    converges(trixie, **DURABLE)
    text = daemon.read(trixie, ROOT) or ""
    assert "kata" not in text
    handlers = daemon.dump(trixie)["plugins"][CRI]["containerd"]["runtimes"]
    assert set(handlers) == {"runc"}
    for line in own.splitlines():
        assert line.strip() in text
    assert pulls_durably(trixie)


def test_handlers_come_and_go_on_2_x(lts: Node) -> None:
    kata = {"name": "kata", "type": "io.containerd.kata.v2", "snapshotter": "native"}
    done = converges(lts, **DURABLE, runtimes=[kata])
    assert done["effective"]["runtimes"]["kata"]["snapshotter"] == "native"
    effective = daemon.dump(lts)["plugins"]
    assert effective[IMAGES]["runtime_platforms"]["kata"]["snapshotter"] == "native"
    assert "runc" in effective["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert [one["snapshotter"] for one in effective["io.containerd.transfer.v1.local"]["unpack_config"]] == [
        "overlayfs",
        "native",
    ]
    converges(lts, **DURABLE)
    handlers = daemon.dump(lts)["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert set(handlers) == {"runc"}


def test_1_6_is_told_which_version_can_sync(bookworm: Node) -> None:
    refused(bookworm, "image_pull_sync_fs", "1.7.14", "1.6.20", **DURABLE)
    done = converges(bookworm, max_concurrent_downloads=4)
    assert {one["durability"] for one in done["durability"].values()} == {"not_durable"}


def test_a_handlers_snapshotter_is_refused_on_1_6(bookworm: Node) -> None:
    refused(bookworm, "runtimes[kata].snapshotter", "1.7", runtimes=[{"name": "kata", "snapshotter": "native"}])


def test_a_snapshotter_that_is_not_ok_is_rolled_back(installed: Node) -> None:
    # It has what it needs, as far as that can be known without trying.
    result = configure(installed, snapshotter="btrfs")
    assert result["failed"] and result["rolled_back"], result
    assert "btrfs" in result["msg"]
    assert daemon.is_well(installed)


def test_a_daemon_that_does_not_come_up_is_rolled_back(installed: Node) -> None:
    before = daemon.etc_hashes(installed)
    result = configure(installed, extra_config={"metrics": {"address": "256.0.0.1:1"}})
    assert result["failed"] and result["rolled_back"]
    assert "metrics" in result["msg"], "the daemon's own complaint is in the message"
    assert daemon.is_well(installed)
    after = daemon.etc_hashes(installed)
    assert {line.split()[0] for line in before} == {line.split()[0] for line in after}


def test_the_unit_is_started_at_boot(modern: Node) -> None:
    modern.ssh("systemctl disable containerd")
    converges(modern, **DURABLE)
    assert modern.exec("systemctl", "is-enabled", "containerd").stdout.strip() == "enabled"
    modern.ssh("systemctl disable containerd")
    assert not configure(modern, **DURABLE, unit_enabled=False)["changed"]
    assert configure(modern, **DURABLE)["changed"]


def test_restart_never_writes_and_the_next_run_restarts(modern: Node) -> None:
    pid = daemon.main_pid(modern)
    written = configure(modern, **DURABLE, restart="never")
    assert written["changed"] and not written["restarted"]
    assert daemon.main_pid(modern) == pid
    assert not configure(modern, **DURABLE, restart="never")["changed"]
    applied = configure(modern, **DURABLE)
    assert applied["restarted"]
    assert pulls_durably(modern)


def test_a_file_that_the_daemon_does_not_read_is_refused(modern: Node) -> None:
    refused(modern, "/srv/other.toml", "config_file", **DURABLE, config_file="/srv/other.toml")


def test_a_stopped_daemon_that_reads_another_file_is_never_green(modern: Node) -> None:
    modern.ssh("systemctl stop containerd")
    result = configure(modern, **DURABLE, config_file="/srv/other.toml")
    assert result["failed"] and result["rolled_back"]
    assert ROOT in result["msg"] and "/srv/other.toml" in result["msg"]
    assert daemon.read(modern, "/srv/other.toml") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_concurrent_downloads": "many"}, ("max_concurrent_downloads",)),
        ({"snapshotter": "overlay2"}, ("snapshotter", "overlay2", "overlayfs")),
        ({"root": "/var/lib\nevil"}, ("root", "control character")),
        ({"root": "/srv/../etc"}, ("root", "'..'")),
        ({"sandbox_image": "a\nb"}, ("sandbox_image", "one line")),
        ({"binary": "/nowhere/containerd"}, ("/nowhere/containerd", "binary")),
        ({"unit": "no-such-unit"}, ("no-such-unit.service", "unit")),
        ({"service_directives": {"ExecStart": "/bin/true"}}, ("service_directives.ExecStart",)),
        ({"http_proxy": {"https": "not a url"}}, ("http_proxy.https",)),
        ({"extra_config": {"version": 3}}, ("extra_config", "version")),
        ({"snapshotters": {"mine": {}}}, ("snapshotters.mine", "address")),
        ({"runtimes": [{"name": "a b"}]}, ("runtimes.name",)),
        ({"timeout": 0}, ("timeout",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_gets_one_sentence(trixie: Node, options: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(trixie, *words, **{**DURABLE, **options})


def test_without_permission_there_is_one_sentence(trixie: Node) -> None:
    trixie.ssh("id nobody2 >/dev/null 2>&1 || useradd --create-home nobody2")
    before = daemon.etc_hashes(trixie)
    result = trixie.module(MODULE, {"settings": DURABLE}, become_user="nobody2")
    assert result["failed"]
    assert "Traceback" not in str(result)
    assert "become" in result["msg"] or "Permission denied" in result["msg"], result["msg"]
    assert daemon.etc_hashes(trixie) == before


def test_the_proxys_password_is_not_shown(modern: Node) -> None:
    url = "http://builder:hunter2%25x@proxy.example:3128"
    proxy = {"https": url, "no_proxy": ["10.0.0.0/8", "localhost"]}
    result = modern.module(MODULE, {"settings": DURABLE, "http_proxy": proxy})
    assert not result.get("failed"), result
    assert "hunter2" not in str(result)
    path = "/etc/systemd/system/containerd.service.d/60-slipway.conf"
    assert modern.exec("stat", "--format=%a", path).stdout.strip() == "600"
    environment = modern.exec("cat", f"/proc/{daemon.main_pid(modern)}/environ").stdout.split("\0")
    assert f"HTTPS_PROXY={url}" in environment
    assert "NO_PROXY=10.0.0.0/8,localhost" in environment
    assert "hunter2" not in modern.ssh("journalctl --no-pager").stdout


def test_a_file_of_the_unit_that_systemd_reads_later_is_refused(modern: Node) -> None:
    """Docker's documentation has administrators write such a file."""
    directory = "/etc/systemd/system/containerd.service.d"
    theirs = f"{directory}/http-proxy.conf"
    wanted = {
        "http_proxy": {"https": "http://ours.example:3128"},
        "service_directives": {"LimitNOFILE": 4321},
    }
    daemon.write(modern, theirs, '[Service]\nEnvironment="HTTPS_PROXY=http://theirs.example:3128"')
    for check in (True, False):
        refused = modern.module(MODULE, wanted, check=check)
        assert refused["failed"] and f"HTTPS_PROXY is set by {theirs}" in refused["msg"], refused
    daemon.write(modern, theirs, "[Service]\nLimitNOFILE=9999")
    refused = modern.module(MODULE, wanted)
    assert f"LimitNOFILE=4321 of {directory}/60-slipway.conf is overridden by LimitNOFILE=9999 in {theirs}" in refused["msg"]
    modern.ssh(f"rm {theirs}")
    assert not modern.module(MODULE, wanted).get("failed")
    # A run on a converged node refuses it too, and the file's removal starts the daemon again.
    daemon.write(modern, theirs, "[Service]\nEnvironment=HTTPS_PROXY=http://theirs.example:3128")
    daemon.restart(modern)
    assert modern.module(MODULE, wanted)["failed"]
    only = {"http_proxy": wanted["http_proxy"], "only": ["http_proxy"]}
    (found,) = modern.module("node_verify", only)["checks"]
    assert (found["status"], theirs in found["remedy"]) == ("fail", True), found
    modern.ssh(f"rm {theirs}")
    assert modern.module(MODULE, wanted)["changed"]
    assert not modern.module("node_verify", only).get("failed")
    assert not modern.module(MODULE, wanted)["changed"]


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a proxy that answers 404, and what it was asked. Nodes share this machine's loopback."""
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


def test_listed_images_come_through_the_proxy_of_the_daemon(modern: Node, proxy: tuple[int, list[bytes]]) -> None:
    daemon.install(modern)
    daemon.reset(modern)
    port, asked = proxy
    option = {"http_proxy": {"http": f"http://user:hunter2@127.0.0.1:{port}"}}
    assert modern.module(MODULE, option)["changed"]
    asked.clear()
    done = modern.module("containerd_image", {"name": ["gone.invalid/demo:1"], "plain_http": True})
    assert done["failed"] and "there is no such image" in done["msg"] and "hunter2" not in str(done), done
    assert asked[0].startswith(b"HEAD http://gone.invalid/v2/demo/manifests/1 ")
    daemon.reset(modern)


def test_a_proxy_is_taken_only_if_containerd_can_read_it(node: Node, proxy: tuple[int, list[bytes]]) -> None:
    """ctr reads the same variables with the same code as the daemon."""
    daemon.install(node)
    daemon.reset(node)
    port, asked = proxy

    def used(url: str) -> str | None:
        asked.clear()
        node.ssh(f"HTTP_PROXY={shlex.quote(url)} ctr content fetch --plain-http gone.invalid/demo:1", check=False)
        headers = [line for line in b"".join(asked[:1]).split(b"\r\n") if line.startswith(b"Proxy-Authorization: Basic ")]
        return base64.b64decode(headers[0].split()[-1]).decode() if headers else None

    def answer(url: str) -> str:
        done = node.module(MODULE, {"http_proxy": {"http": url}}, check=True)
        return done["msg"] if done.get("failed") else "taken"

    for written, password in (("p%25G4%2F%40", "p%G4/@"), ("a!$&'()*+,;=", "a!$&'()*+,;="), ("%C3%A4", "ä"), ("p@ss", "p@ss")):
        url = f"http://user:{written}@127.0.0.1:{port}"
        assert (used(url), answer(url)) == (f"user:{password}", "taken")
    for written in ("p%G4", "p\\x", "p#x", "p/x", "1/x", "p?x", 'p"x', "pä", "p^x"):
        url = f"http://user:{written}@127.0.0.1:{port}"
        assert used(url) is None
        assert "http_proxy.http has to be a URL such as" in answer(url)
