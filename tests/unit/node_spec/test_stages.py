# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages have the arguments that the tasks of the roles pass: both are computed here, and compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from unit.test_roles import flattened

from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.modules import LOADERS, stage_module
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.node_files import CHECKS, release_of
from ansible_collections.slipway.node.plugins.module_utils.node_plan.host.stage_module import StageModule
from ansible_collections.slipway.node.plugins.module_utils.node_spec import stages as names
from ansible_collections.slipway.node.plugins.module_utils.node_spec.spec import resolve
from ansible_collections.slipway.node.plugins.module_utils.node_spec.stages import PARTS, UNPLANNED, stages
from ansible_collections.slipway.node.plugins.plugin_utils.role_files import DEFAULTS, VARIABLES, RoleFiles

ROLES = Path(__file__).parents[3] / "roles"
OMITTED = "this option is omitted"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(os.uname().machine, os.uname().machine)
SOURCE = {MACHINE: {"src": "/srv/archive.tar.gz", "sha256": "0" * 64}}
MIRRORS = [
    {"name": "docker.io", "mirrors": [{"url": "https://mirror.example", "username": "node", "password": "hunter2"}]},
    {"name": "registry.k8s.io", "server": "https://registry.k8s.io"},
]
KATA = [{"name": "kata-qemu", "runtime": "go", "hypervisor": "qemu", "pod_annotations": []}]
INVENTORIES: dict[str, dict[str, Any]] = {
    "default": {},
    "settings": {
        "containerd_image_pull_sync_fs": "no",
        "containerd_systemd_cgroup": True,
        "containerd_max_concurrent_downloads": "6",
        "containerd_service_directives": {"LimitNOFILE": 65536},
        "containerd_http_proxy": {"https": "http://proxy.example:3128", "no_proxy": ["localhost"]},
        "containerd_enable_cri": True,
        "containerd_restart": "never",
        "containerd_timeout": 90,
        "containerd_probe": False,
        "containerd_binary": "/opt/bin/containerd",
        "containerd_config_file": "/srv/config.toml",
        "containerd_unit": "other",
    },
    "registries": {"containerd_registries": MIRRORS},
    "no registries": {"containerd_registries": [], "containerd_registry_config_path": "/srv/certs.d:/etc/docker/certs.d"},
    "images": {
        "containerd_images": [
            {"name": ["docker.io/library/alpine:3.22", "docker.io/library/debian:13"], "pull": "always"},
            {"name": "docker.io/library/old:1", "state": "absent"},
            {"name": "docker.io/library/own:1", "archive": "/srv/own.tar", "remote_src": True, "snapshotter": "native"},
            {"name": "docker.io/library/private:1", "username": "a", "password": "hunter2", "platform": "linux/arm64"},
        ],
        "containerd_images_namespace": "default",
        "containerd_images_parallel": "2",
        "containerd_remove_unused_snapshots": True,
    },
    "archives": {
        "containerd_install_method": "archive",
        "containerd_version": "2.3.7",
        "containerd_releases": SOURCE,
        "containerd_runc_version": "1.4.0",
        "containerd_runc_releases": SOURCE,
    },
    "kata": {"kata_handlers": KATA, "kata_version": "3.26.0", "kata_releases": SOURCE, "kata_config_dir": "/srv/kata"},
    "toolboxes": {
        "toolbox_snapshots": [
            {"name": "debug", "image": "docker.io/library/debian:13", "labels": {"a": "b"}, "plain_http": True},
            {"name": "gone", "state": "absent"},
        ],
        "toolbox_prune_after": "30d",
    },
    "pruned": {"toolbox_prune_unlisted": "yes", "toolbox_directory": "/srv/toolbox"},
    "scratch": {
        "containerd_snapshotters": {"blockfile": {"scratch_file": "/srv/scratch", "fs_type": "xfs"}},
        "containerd_blockfile_scratch_size": "1G",
    },
}


def templates(path: Path) -> Any:
    """A file of a role as Ansible loads it; ansible-core 2.19 and later template only what is trusted."""
    trust = {"trusted_as_template": True} if "trusted_as_template" in signature(DataLoader.load_from_file).parameters else {}
    return DataLoader().load_from_file(str(path), **trust)


def module_of(name: str) -> StageModule:
    found = stage_module(name)
    assert found is not None
    return found


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(VARIABLES), **DEFAULTS, **given}


def planned(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages of an inventory."""
    variables = complete(given)
    spec = resolve(variables)
    return stages(spec, variables, RoleFiles({**variables, "node_spec": spec, "__toolbox_mark": names.TOOLBOX_MARK}))


def arguments(given: Mapping[str, Any], file: str, task: str, **own: Any) -> dict[str, Any]:
    """What a task of a role passes to its module, with the role's variables and the defaults of the block around it."""
    role, _, path = file.partition("/")
    constants = templates(ROLES / role / "vars" / "main.yml") if role in ("kata", "toolbox") else {}
    variables = {name: value for name, value in complete(given).items() if value is not None}
    (found,) = [one for one in flattened(templates(ROLES / role / "tasks" / path)) if one["name"] == task]
    key = next(key for key in found if key.startswith("slipway.node."))
    places = {
        "config_file": variables["containerd_config_file"],
        "unit": variables["containerd_unit"],
        "address": variables["containerd_address"],
        **({"binary": variables["containerd_binary"]} if variables["containerd_binary"] else {}),
    }
    templar = Templar(
        loader=DataLoader(),
        variables={
            **constants,
            **variables,
            "node_spec": resolve(complete(given)),
            "node_spec_architecture": MACHINE,
            "omit": OMITTED,
            "__containerd_programs_changed": False,
            **found.get("vars", {}),
            **own,
        },
    )
    passed = {name: value for name, value in templar.template(found[key]).items() if value != OMITTED}
    return {**(places if "address" in module_of(key.rpartition(".")[2]).options else {}), **passed}


def given_to(given: Mapping[str, Any], module: str) -> list[dict[str, Any]]:
    """The arguments of all stages of one module; a release's are those for this machine."""
    found = [stage["arguments"] for stage in planned(given) if stage["module"] == module]
    return [release_of(one) for one in found] if module == "release" else found


def same(module: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Compared as the module gets them, with its defaults."""
    validated = [[module_of(module).validate(one) for one in some] for some in (ours, theirs)]
    assert [one.error_messages for some in validated for one in some if one.error_messages] == []
    assert [one.validated_parameters for one in validated[0]] == [one.validated_parameters for one in validated[1]]


by_inventory = pytest.mark.parametrize("given", INVENTORIES.values(), ids=INVENTORIES)


@by_inventory
def test_the_settings_are_the_roles(given: dict[str, Any]) -> None:
    theirs = [arguments(given, "containerd/configure.yml", "Apply the settings")]
    assert theirs[0]["settings"]["image_pull_sync_fs"] is (given.get("containerd_image_pull_sync_fs") != "no")
    same("containerd_config", given_to(given, "containerd_config"), theirs)


@by_inventory
def test_the_registries_are_the_roles(given: dict[str, Any]) -> None:
    theirs = (
        [arguments(given, "containerd/registries.yml", "Configure registry hosts")] if "containerd_registries" in given else []
    )
    same("containerd_registry", given_to(given, "containerd_registry"), theirs)


@by_inventory
def test_the_batches_of_images_are_the_roles(given: dict[str, Any]) -> None:
    batches = resolve(complete(given))["image_batches"]
    task = "containerd/image_batch.yml", "Pull or import the images, or remove them"
    same(
        "containerd_image",
        given_to(given, "containerd_image"),
        [arguments(given, *task, __containerd_batch=one) for one in batches],
    )
    assert len(batches) == len(given.get("containerd_images", ()))


@by_inventory
def test_the_toolboxes_are_the_roles(given: dict[str, Any]) -> None:
    entries = resolve(complete(given))["toolboxes"]["entries"]
    task = "toolbox/snapshots.yml", "Change the toolboxes"
    same(
        "toolbox_snapshot", given_to(given, "toolbox_snapshot"), [arguments(given, *task, __toolbox_entry=one) for one in entries]
    )
    read = [arguments(given, "toolbox/snapshots.yml", "Read the toolboxes of the node")]
    same("toolbox_snapshot_info", given_to(given, "toolbox_snapshot_info"), read if "prune" in str(given) else [])


@by_inventory
def test_the_releases_are_the_roles(given: dict[str, Any]) -> None:
    theirs = []
    if "kata_releases" in given:
        theirs.append(arguments(given, "kata/release.yml", "Install the release"))
    for name, prefix in (("containerd", "containerd"), ("runc", "containerd_runc")):
        if f"{prefix}_releases" in given:
            release = {"name": name, "version": given[f"{prefix}_version"], "releases": given[f"{prefix}_releases"]}
            theirs.append(arguments(given, "containerd/release.yml", "Install the release", __containerd_release=release))
    same("release_install", given_to(given, "release"), theirs)


@by_inventory
def test_the_other_modules_get_what_the_roles_pass(given: dict[str, Any]) -> None:
    for module, file, task, managed in (
        ("kata_config", "kata/before_containerd.yml", "Compare the handlers", "kata_handlers"),
        ("blockfile_scratch", "containerd/snapshotters.yml", "Create the scratch file", "containerd_blockfile_scratch_size"),
        (
            "containerd_unused_snapshots",
            "containerd/cleanup_snapshotter.yml",
            "Find and remove unused snapshots",
            "containerd_remove_unused_snapshots",
        ),
    ):
        same(module, given_to(given, module), [arguments(given, file, task)] if managed in given else [])


@by_inventory
def test_every_stage_can_be_planned_and_has_a_part_in_the_order_of_the_run(given: dict[str, Any]) -> None:
    found = planned(given)
    assert [stage for stage in found if stage["module"] not in {*LOADERS, *CHECKS, "release"}] == []
    order = [PARTS.index(stage["part"]) for stage in found]
    assert order == sorted(order)
    assert found[0]["module"] == "requirements"


@pytest.mark.parametrize(
    "given",
    [
        {"devmapper_devices": ["/dev/vdb"]},
        {"kata_handlers": []},
        {"containerd_images": [{"name": "docker.io/library/alpine:3.22"}], "containerd_images_integrity": "metadata"},
        {"containerd_images": [{"name": "docker.io/library/alpine:3.22"}], "containerd_images_repair": "true"},
    ],
)
def test_what_only_the_role_can_know_is_entered(given: dict[str, Any]) -> None:
    assert UNPLANNED in [stage["module"] for stage in planned(given)]


def test_files_are_those_of_the_roles() -> None:
    kata = yaml.safe_load((ROLES / "kata/vars/main.yml").read_text())
    toolbox = yaml.safe_load((ROLES / "toolbox/vars/main.yml").read_text())
    assert (kata["__kata_modules_file"], kata["__kata_prefix"]) == (names.KATA_MODULES_FILE, f"{names.KATA_PREFIX}/kata")
    assert toolbox["__toolbox_mark"] == names.TOOLBOX_MARK
    assert toolbox["__toolbox_defaults_file"] == names.TOOLBOX_DEFAULTS_FILE
    assert toolbox["__toolbox_command_file"] == names.TOOLBOX_COMMAND_FILE


def test_packages_are_those_of_the_role() -> None:
    template = (ROLES / "containerd/vars/main.yml").read_text()
    assert re.findall(r"\['([a-z-]+)'\]", template) == ["containerd", "runc", "erofs-utils"]
    erofs = {"containerd_snapshotter": "erofs"}
    for given, expected in (
        ({}, ["containerd", "runc"]),
        (erofs, ["containerd", "runc", "erofs-utils"]),
        ({"containerd_packages": ["containerd.io"], **erofs}, ["containerd.io"]),
    ):
        (stage,) = [one for one in planned(given) if one["module"] == "packages"]
        assert stage["arguments"] == {"names": expected}
