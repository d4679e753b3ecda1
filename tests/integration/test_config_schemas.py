# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd_config and node_verify with files of older schemas, of several, and of none: no foreign setting is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.config.plan import CurrentConfig, plan_config
from ansible_collections.slipway.node.plugins.module_utils.config.record import Record
from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.containerd.version import Version
from ansible_collections.slipway.node.plugins.module_utils.core.tree import flatten
from nodes import daemon
from nodes.config import configure, converges, refused
from nodes.daemon import CRI, DROP_IN, IMAGES, RECORD, ROOT, RUNTIME
from nodes.fixtures import packaged
from nodes.node import CHECKOUT, Node

RECORDED = CHECKOUT / "tests/unit/recorded"
WANTED: dict[str, Any] = {"snapshotter": "native", "systemd_cgroup": True, "sandbox_image": "registry.example/pause:1"}
THEIRS = "/etc/containerd/conf.d/70-theirs.toml"
# What 1.x reads from a file, and what 2.x makes of it. Nodes share their ports, and have addresses of their own.
ADMIN = f"""version = 2
oom_score = -7

[metrics]
address = "ADDRESS:1338"

[plugins."{CRI}"]
max_concurrent_downloads = 9

[plugins."{CRI}".cni]
bin_dir = "/srv/cni"

[plugins."{CRI}".containerd]
disable_snapshot_annotations = false

[plugins."io.containerd.internal.v1.restart"]
interval = "7s"

[plugins."io.containerd.monitor.v1.cgroups"]
no_prometheus = true
"""


@pytest.fixture(params=["sid", "2.2", "2.3", "2.4"])
def newer(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """2.1.9, 2.2.9, 2.3.7 and 2.4.2 in turn, as installed."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["2.3", "2.4"])
def migrating(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """2.3.7 and 2.4.2 in turn, which migrate each file by itself."""
    return packaged(nodes[request.param])


@pytest.fixture(params=["sid", "2.2"])
def merging(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """2.1.9 and 2.2.9 in turn, which migrate all files at once."""
    return packaged(nodes[request.param])


def effective(node: Node) -> dict[tuple[str, ...], Any]:
    return {path: value for path, value in flatten(daemon.dump(node)).items() if path[0] not in ("version", "imports")}


def changed(before: dict[tuple[str, ...], Any], after: dict[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    return {path: after.get(path) for path in {*before, *after} if before.get(path) != after.get(path)}


def findings(node: Node, **options: Any) -> dict[str, Any]:
    result = node.module("node_verify", {**options, "fail_on": []})
    return {one["id"]: one for one in result["checks"]}


def place_files(node: Node, version: str, root: str | None, settings: dict[str, Any]) -> None:
    """Put the files on a node that this collection writes where containerd has another version."""
    text = None if root is None else root.replace("ADDRESS", node.address)
    found = CurrentConfig(Version.parse(version), "amd64", ROOT, DROP_IN, text, None, Record())
    plan = plan_config(found, Settings.from_params(settings))
    daemon.reset(node, None)
    for path, text in [*((file.path, file.after) for file in plan.files), (RECORD, plan.record.to_text())]:
        if text is not None:
            daemon.write(node, path, text)
    daemon.restart(node)
    assert daemon.is_well(node)


def test_the_default_file_of_1_7_loses_nothing(newer: Node) -> None:
    daemon.reset(newer, Path(RECORDED / "1.7.24/default.toml").read_text())
    before = effective(newer)
    converges(newer, sandbox_image="registry.example/pause:1", systemd_cgroup=True)
    assert set(changed(before, effective(newer))) == {
        ("plugins", IMAGES, "pinned_images", "sandbox"),
        ("plugins", RUNTIME, "containerd", "runtimes", "runc", "options", "SystemdCgroup"),
    }
    assert findings(newer)["config_schema"]["status"] == "ok"


def loses_nothing(node: Node, written: str, root: str | None) -> None:
    """A run on files that the collection wrote for an older containerd changes at most what that one had no key for."""
    place_files(node, written, root, WANTED)
    before = effective(node)
    done = configure(node, **WANTED)
    assert not done.get("failed"), done
    assert not configure(node, **WANTED)["changed"]
    found = effective(node)
    assert set(changed(before, found)) <= {("plugins", "io.containerd.transfer.v1.local", "unpack_config")}
    assert found["plugins", IMAGES, "snapshotter"] == "native"
    if root is not None:
        assert found["plugins", IMAGES, "max_concurrent_downloads"] == 9
        assert found["plugins", IMAGES, "disable_snapshot_annotations"] is False
        assert found["plugins", RUNTIME, "cni", "bin_dirs"] == ["/srv/cni"]
        assert found["plugins", "io.containerd.monitor.container.v1.restart", "interval"] == "7s"
    checks = findings(node, settings=WANTED)
    assert [checks[name]["status"] for name in ("config_schema", "unknown_keys", "config_settings")] == ["ok"] * 3


@pytest.mark.parametrize("root", [None, ADMIN], ids=["ours", "admin"])
def test_files_that_1_7_got_lose_nothing(newer: Node, root: str | None) -> None:
    loses_nothing(newer, "1.7.24", root)


@pytest.mark.parametrize("written", ["2.2.9", "2.3.7"])
def test_files_that_an_older_2_x_got_lose_nothing(migrating: Node, written: str) -> None:
    loses_nothing(migrating, written, ADMIN)


@pytest.mark.parametrize("cri", [CRI, IMAGES], ids=["schema 2", "schema 3"])
def test_a_root_file_without_a_version_keeps_what_it_says(migrating: Node, cri: str) -> None:
    sandbox = "sandbox_image" if cri == CRI else "pinned_images.sandbox"
    root = f"""[metrics]
address = "{migrating.address}:1338"
[plugins."{cri}"]
{sandbox} = "registry.example/pause:1"
"""
    daemon.reset(migrating, root)
    before = effective(migrating)
    converges(migrating, max_concurrent_downloads=7)
    assert changed(before, effective(migrating)) == {("plugins", IMAGES, "max_concurrent_downloads"): 7}
    assert effective(migrating)["plugins", IMAGES, "pinned_images", "sandbox"] == "registry.example/pause:1"
    converges(migrating, state="absent")
    assert (daemon.read(migrating, ROOT) or "").strip() == root.strip()


def test_a_root_file_of_schema_1_has_to_be_migrated(newer: Node) -> None:
    daemon.reset(newer, '[plugins.cri]\nsandbox_image = "x"')
    refused(newer, ROOT, "schema 1", "containerd config migrate", max_concurrent_downloads=7)


def test_a_snapshotter_is_set_beside_a_root_file_of_schema_2_with_handlers(newer: Node) -> None:
    runc = f'plugins."{CRI}".containerd.runtimes.runc'
    daemon.reset(newer, f'version = 2\n[{runc}]\nruntime_type = "io.containerd.runc.v2"\n[{runc}.options]\nNoNewKeyring = true')
    done = converges(newer, snapshotter="native")
    assert done["effective"]["snapshotter"] == "native"
    options = ("plugins", RUNTIME, "containerd", "runtimes", "runc", "options")
    assert effective(newer)[(*options, "NoNewKeyring")] is True


def test_a_file_that_would_lose_its_settings_is_named(merging: Node) -> None:
    # The last version that a file declares is that of all files, so ours would take what the other one says.
    daemon.reset(merging, 'version = 3\nimports = ["conf.d/*.toml"]')
    daemon.write(merging, "/etc/containerd/conf.d/50-theirs.toml", f'version = 2\n[plugins."{CRI}"]\nsandbox_image = "x"')
    daemon.restart(merging)
    refused(merging, f'50-theirs.toml: plugins."{CRI}".sandbox_image', "would lose", max_concurrent_downloads=7)


def test_a_file_of_another_schema_that_costs_settings_is_named(merging: Node) -> None:
    daemon.reset(merging, 'version = 2\nimports = ["conf.d/*.toml"]')
    daemon.write(merging, THEIRS, f'version = 3\n[plugins."{IMAGES}"]\nmax_concurrent_downloads = 2')
    daemon.restart(merging)
    refused(merging, THEIRS, "schema", sandbox_image="registry.example/pause:1")


def test_a_mix_of_schemas_that_costs_nothing_is_fine(migrating: Node) -> None:
    daemon.reset(migrating, f'version = 4\nimports = ["conf.d/*.toml"]\n[plugins."{IMAGES}"]\nsnapshotter = "native"')
    daemon.write(migrating, THEIRS, f'version = 3\n[plugins."{IMAGES}"]\nmax_concurrent_downloads = 2')
    daemon.write(migrating, "/etc/containerd/conf.d/80-old.toml", f'version = 2\n[plugins."{CRI}"]\nsandbox_image = "x"')
    daemon.restart(migrating)
    checks = findings(migrating)
    assert (checks["config_schema"]["status"], checks["unknown_keys"]["status"]) == ("ok", "ok")
    converges(migrating, systemd_cgroup=True)


def test_a_snapshotter_that_the_migration_drops_is_found(newer: Node) -> None:
    daemon.reset(newer, f'version = 2\n[plugins."{CRI}".containerd]\nsnapshotter = "native"')
    found = findings(newer)["config_schema"]
    assert (found["status"], found["found"]) == ("warn", [f'{ROOT}: plugins."{CRI}".containerd.snapshotter'])
    assert "containerd.runtimes]" in found["remedy"]
    # The remedy works, and so does a run.
    converges(newer, systemd_cgroup=True)
    assert effective(newer)["plugins", IMAGES, "snapshotter"] == "native"
    assert findings(newer)["config_schema"]["status"] == "ok"


def test_metrics_and_sockets_go_where_the_daemon_has_them(newer: Node) -> None:
    # The one as before schema 4, the other as in it.
    debug = {"plugins": {"io.containerd.server.v1.debug": {"address": "/run/containerd/debug.sock"}}}
    extra = {"metrics": {"address": f"{newer.address}:1338"}, "debug": {"level": "info"}, **debug}
    converges(newer, extra_config=extra)
    newer.ssh(f"ss -Hltn | grep -qF {newer.address}:1338 && test -S /run/containerd/debug.sock")
    checks = findings(newer, settings={"extra_config": extra})
    assert (checks["config_settings"]["status"], checks["unknown_keys"]["status"]) == ("ok", "ok")


def test_a_misspelt_key_of_the_daemons_own_is_refused(newer: Node) -> None:
    refused(newer, "adress", "not known", extra_config={"metrics": {"adress": "127.0.0.1:1338"}})
    refused(newer, "levl", "not known", extra_config={"debug": {"levl": "info"}})


def test_a_table_in_its_old_place_is_found_in_schema_4(migrating: Node) -> None:
    daemon.reset(migrating, 'version = 4\n[grpc]\naddress = "/run/elsewhere.sock"\n[metrics]\naddress = "127.0.0.1:1338"')
    found = findings(migrating)["unknown_keys"]
    assert (found["status"], found["found"]) == ("warn", [f"{ROOT}: grpc.address", f"{ROOT}: metrics.address"])
    # The daemon listens where it did.
    converges(migrating, max_concurrent_downloads=7)
