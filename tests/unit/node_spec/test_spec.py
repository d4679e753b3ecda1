# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.slipway.node.plugins.module_utils.config.settings import Settings
from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import resolve

ROLE = Path(__file__).parents[3] / "roles" / "node_spec"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
UNSET = dict.fromkeys(yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"])
QEMU = {"name": "kata-qemu", "runtime": "go", "hypervisor": "qemu"}


def resolved(**variables: Any) -> dict[str, Any]:
    """The specification of an inventory with these variables and the role's defaults."""
    return resolve({**UNSET, **DEFAULTS, **variables})


def test_an_empty_inventory_has_the_defaults_and_manages_nothing() -> None:
    spec = resolved()
    assert spec["settings"] == {"image_pull_sync_fs": True, "snapshotters": {}, "runtimes": [], "extra_config": {}}
    assert spec["http_proxy"] is None
    assert (spec["images"], spec["image_batches"], spec["snapshotters_used"]) == ([], [], [])
    assert (spec["kata"]["managed"], spec["kata"]["enabled"], spec["kata"]["handlers"]) == (False, False, [])
    assert (spec["thin_pool"]["enabled"], spec["toolboxes"]["managed"]) == (False, False)


def test_an_empty_variable_is_none() -> None:
    assert resolve({**dict.fromkeys(UNSET, ""), **DEFAULTS}) == resolved()


def test_settings_are_those_that_are_set() -> None:
    spec = resolved(
        containerd_image_pull_sync_fs="no",
        containerd_allow_unverified_pulls="yes",
        containerd_snapshotter="native",
        containerd_systemd_cgroup="True",
        containerd_max_concurrent_downloads="6",
        containerd_registries=[],
        containerd_extra_config={"debug": {"level": "info"}},
    )
    assert spec["settings"] == {
        "image_pull_sync_fs": False,
        "allow_unverified_pulls": True,
        "snapshotter": "native",
        "snapshotters": {},
        "runtimes": [],
        "systemd_cgroup": True,
        "registry_config_path": "/etc/containerd/certs.d",
        "max_concurrent_downloads": 6,
        "extra_config": {"debug": {"level": "info"}},
    }
    own = resolved(containerd_registry_config_path="/certs.d", containerd_registries=[])
    assert own["settings"]["registry_config_path"] == "/certs.d"


def test_an_empty_list_of_kata_handlers_is_managed_and_not_enabled() -> None:
    kata = resolved(kata_handlers=[])["kata"]
    assert (kata["managed"], kata["enabled"]) == (True, False)


def test_kata_handlers_are_runtimes_of_containerd_with_the_default_snapshotter() -> None:
    runc = {"name": "runc2", "type": "io.containerd.runc.v2"}
    spec = resolved(kata_handlers=[QEMU], kata_version="3.26.0", containerd_runtimes=[runc], containerd_snapshotter="native")
    assert [runtime["name"] for runtime in spec["settings"]["runtimes"]] == ["runc2", "kata-qemu"]
    assert spec["settings"]["runtimes"][1]["snapshotter"] == "native"
    assert spec["kata"]["handlers"][0]["version"] == "3.26.0"
    assert "runtimes" not in spec["kata"]
    assert Settings.from_params({"runtimes": spec["settings"]["runtimes"]}).runtimes[1].name == "kata-qemu"


def test_a_thin_pool_is_a_snapshotter_of_containerd() -> None:
    spec = resolved(
        devmapper_devices=["/dev/vdb"],
        devmapper_volume_group="the-lab",
        devmapper_async_remove="yes",
        containerd_snapshotters={"devmapper": {"fs_type": "xfs"}, "blockfile": {"scratch_file": "/srv/scratch"}},
        containerd_root="/srv/containerd",
    )
    assert spec["settings"]["snapshotters"] == {
        "devmapper": {
            "pool_name": "the--lab-pool",
            "base_image_size": "10G",
            "fs_type": "xfs",
            "discard_blocks": False,
            "async_remove": True,
        },
        "blockfile": {"scratch_file": "/srv/scratch"},
    }
    assert spec["thin_pool"] == {
        "enabled": True,
        "name": "the--lab-pool",
        "root_path": "/srv/containerd/io.containerd.snapshotter.v1.devmapper",
    }
    assert resolved(devmapper_loop_file="/srv/pool", devmapper_root_path="/srv/thin")["thin_pool"]["root_path"] == "/srv/thin"


def test_snapshotters_in_use_are_those_with_settings_the_default_and_those_of_handlers() -> None:
    spec = resolved(
        containerd_snapshotters={"blockfile": {}},
        containerd_snapshotter="native",
        containerd_runtimes=[{"name": "a", "snapshotter": "erofs"}, {"name": "b"}, {"name": "c", "snapshotter": "native"}],
    )
    assert spec["snapshotters_used"] == ["blockfile", "native", "erofs"]


def test_toolboxes_are_managed_also_if_they_are_only_pruned() -> None:
    for variables in ({"toolbox_prune_unlisted": True}, {"toolbox_prune_after": "30d"}):
        toolboxes = resolved(**variables)["toolboxes"]
        assert (toolboxes["managed"], toolboxes["pruned"], toolboxes["entries"]) == (True, True, [])
    toolboxes = resolved(toolbox_snapshots=[{"name": "debug", "image": "debian:13"}])["toolboxes"]
    assert (toolboxes["managed"], toolboxes["pruned"], toolboxes["default"]["name"]) == (True, False, "debug")


def test_the_variables_stay_as_they_are() -> None:
    variables = {**UNSET, **DEFAULTS, "kata_handlers": [dict(QEMU)], "containerd_snapshotters": {"devmapper": {}}}
    before = repr(variables)
    resolve(variables)
    assert repr(variables) == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"containerd_images": ["a"]}, r"containerd_images\[0\] has to be a dictionary"),
    ({"kata_handlers": [{"name": "kata"}]}, r"kata_handlers\[0\]: it needs runtime"),
    ({"toolbox_snapshots": [{"name": "debug"}]}, r"toolbox_snapshots\[0\]: it needs an image"),
    ({"containerd_systemd_cgroup": "perhaps"}, "containerd_systemd_cgroup has to be true or false, not 'perhaps'"),
    ({"containerd_max_concurrent_downloads": "many"}, "containerd_max_concurrent_downloads has to be a number"),
    ({"containerd_snapshotters": ["native"]}, "containerd_snapshotters has to be a dictionary"),
    ({"containerd_runtimes": ["runc"]}, "containerd_runtimes has to be a list of dictionaries"),
    ({"containerd_http_proxy": "http://proxy"}, "containerd_http_proxy has to be a dictionary"),
    ({"containerd_http_proxy": {"https": "http://user:p/x@proxy"}}, r"containerd_http_proxy\.https has to be a URL such as"),
    ({"devmapper_autoextend_threshold": 49}, "devmapper_autoextend_threshold has to be between 50 and 100"),
    ({"devmapper_autoextend_percent": 0}, "devmapper_autoextend_percent 1 or more"),
    ({"devmapper_autoextend_percent": "few"}, "devmapper_autoextend_percent 1 or more"),
    ({"devmapper_loop_file": "srv/pool"}, "devmapper_loop_file has to be an absolute path"),
    ({"devmapper_loop_file": "/srv/the pool"}, "devmapper_loop_file has to be an absolute path"),
]


@pytest.mark.parametrize(("variables", "sentence"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_variable_is_named(variables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        resolved(**{"devmapper_devices": ["/dev/vdb"], **variables})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("devmapper_pool_size", ["300m", "100g", "1.5T", "80%VG", "100%FREE", "512"], ["80%", "0%VG", "101%VG", "big", "1gb"]),
        ("devmapper_metadata_size", ["", "1g"], ["80%VG", "1 g"]),
        ("devmapper_loop_size", ["10G", "256M", "1024", "1GiB", "2TB"], ["", "1.5G", "10g b"]),
        ("devmapper_base_image_size", ["10G", "64MB", "1.5 GiB", "100"], ["", "ten", "10%"]),
    ],
)
def test_sizes_are_those_that_their_programs_take(name: str, good: list[str], bad: list[str]) -> None:
    for size in good:
        resolved(devmapper_devices=["/dev/vdb"], **{name: size})
    for size in bad:
        with pytest.raises(ValueError, match=f"^{name} can't be parsed"):
            resolved(devmapper_devices=["/dev/vdb"], **{name: size})
        resolved(**{name: size})


@pytest.mark.parametrize("network", ["10.0.0.0/99", "10.0.0.300", "fd00::/200", "10.0.0/8/8"])
def test_a_network_that_is_none_is_named(network: str) -> None:
    good = ["localhost", ".example", "10.0.0.0/8", "10.1.2.3/8", "fd00::/8", "::1", "10.0.0.1"]
    resolved(containerd_http_proxy={"no_proxy": good})
    with pytest.raises(ValueError, match=r"containerd_http_proxy\.no_proxy has entries") as error:
        resolved(containerd_http_proxy={"https": "http://builder:hunter2@proxy", "no_proxy": [*good, network]})
    assert f", {network}:" in str(error.value) and "hunter2" not in str(error.value)
