# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.node.plugins.module_utils.containerd import schemas
from ansible_collections.slipway.node.plugins.module_utils.core.files import Source

V2, IMAGES, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
SERVER = "io.containerd.server.v1."
OLD: dict[str, Any] = {
    "grpc": {"address": "/run/c.sock", "tcp_address": "127.0.0.1:9", "tcp_tls_ca": "/ca"},
    "ttrpc": {"uid": 4},
    "metrics": {"address": "127.0.0.1:1338", "grpc_histogram": True},
    "debug": {"level": "info", "address": "/run/d.sock"},
    "oom_score": -5,
}
NEW: dict[str, Any] = {
    "debug": {"level": "info"},
    "oom_score": -5,
    "plugins": {
        SERVER + "grpc": {"address": "/run/c.sock"},
        SERVER + "grpc-tcp": {"address": "127.0.0.1:9", "tls_ca": "/ca"},
        SERVER + "ttrpc": {"uid": 4},
        SERVER + "metrics": {"address": "127.0.0.1:1338"},
        SERVER + "debug": {"address": "/run/d.sock"},
        "io.containerd.metrics.v1.grpc-prometheus": {"grpc_histogram": True},
    },
}


@pytest.mark.parametrize("tree", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize(("schema", "expected"), [(2, OLD), (3, OLD), (4, NEW)])
def test_the_daemons_tables_go_to_the_places_of_the_schema(tree: dict[str, Any], schema: int, expected: dict[str, Any]) -> None:
    assert schemas.in_schema(tree, schema) == expected


def test_a_misspelt_key_goes_where_the_daemon_looks_for_the_others() -> None:
    assert schemas.in_schema({"metrics": {"adress": "x"}}, 4) == {"plugins": {SERVER + "metrics": {"adress": "x"}}}


def test_one_key_with_two_values_is_refused() -> None:
    twice: dict[str, Any] = {"grpc": {"gid": 1}, "plugins": {SERVER + "grpc": {"gid": 2}}}
    with pytest.raises(ValueError, match="different values"):
        schemas.in_schema(twice, 4)
    twice["grpc"]["gid"] = 2
    assert schemas.in_schema(twice, 3) == {"grpc": {"gid": 2}}


@pytest.mark.parametrize(
    ("printed", "versions", "expected"),
    [
        (2, [2, None], [2, 1]),
        (3, [None], [3]),
        (3, [2, None], [2, 2]),
        (3, [None, 2], [2, 2]),
        (3, [2, None, 3], [2, 3, 3]),
        (4, [4, None, 3, 1], [4, 1, 3, 1]),
    ],
)
def test_the_schema_in_which_each_file_is_read(printed: int, versions: list[int | None], expected: list[int]) -> None:
    assert schemas.read_as([{} if one is None else {"version": one} for one in versions], printed) == expected


@pytest.mark.parametrize(
    ("written", "key", "value", "place", "there"),
    [
        (2, (V2, "sandbox_image"), "x", (IMAGES, "pinned_images", "sandbox"), "x"),
        (2, (V2, "registry", "config_path"), "x", (IMAGES, "registry", "config_path"), "x"),
        (2, (V2, "containerd", "snapshotter"), "x", (IMAGES, "snapshotter"), "x"),
        (2, (V2, "containerd", "runtimes", "a", "sandbox_mode"), "x", (RUNTIME, "containerd", "runtimes", "a", "sandboxer"), "x"),
        (2, (V2, "containerd", "runtimes", "a", "path"), "x", (RUNTIME, "containerd", "runtimes", "a", "path"), "x"),
        (2, (V2, "cni", "bin_dir"), "/x", (RUNTIME, "cni", "bin_dirs"), ["/x"]),
        (2, (V2, "stream_server_port"), "1", (V2, "stream_server_port"), "1"),
        (2, (V2, "enable_selinux"), True, (RUNTIME, "enable_selinux"), True),
        (2, ("io.containerd.runtime.v2.task", "sched_core"), True, ("io.containerd.shim.v1.manager", "env"), ["SCHED_CORE=1"]),
        (1, ("cri", "sandbox_image"), "x", (IMAGES, "pinned_images", "sandbox"), "x"),
        (1, ("restart", "interval"), "x", ("io.containerd.monitor.container.v1.restart", "interval"), "x"),
        (3, ("io.containerd.monitor.v1.cgroups", "a"), 1, ("io.containerd.monitor.task.v1.cgroups", "a"), 1),
        (4, (V2, "sandbox_image"), "x", (V2, "sandbox_image"), "x"),
    ],
)
def test_where_a_key_of_an_older_schema_is(written: int, key: tuple[str, ...], value: Any, place: Any, there: Any) -> None:
    assert schemas.place(("plugins", *key), value, written, 4) == (("plugins", *place), there)


def test_2_0_to_2_2_migrate_no_plugin_of_schema_3() -> None:
    path = ("plugins", "io.containerd.monitor.v1.cgroups", "no_prometheus")
    assert schemas.place(path, True, 3, 3) == (path, True)


def test_a_key_of_a_file_names_both() -> None:
    text = f'version = 2\nimports = ["x"]\n[plugins."{V2}".containerd]\nsnapshotter = "native"\n[metrics]\naddress = "y"\n'
    ((snapshotter, metrics),) = schemas.file_keys([Source("/etc/c.toml", text), Source("/broken", "= 1")], 4)
    assert str(snapshotter) == f'/etc/c.toml: plugins."{V2}".containerd.snapshotter'
    assert snapshotter.dropped_without_handlers
    assert metrics.place == ("plugins", SERVER + "metrics", "address")
    assert not metrics.dropped_without_handlers
